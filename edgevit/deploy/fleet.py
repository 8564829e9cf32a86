"""Questions to the services of many boards, and what each answers; one that does not is a row as well."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from edgevit.deploy import answers
from edgevit.deploy.destination import Destination
from edgevit.deploy.running import LINE, LONGEST_S, is_put, put_of
from edgevit.deploy.several import AT_ONCE
from edgevit.deploy.ssh import Answer, Ssh
from edgevit.errors import EdgevitError, RemoteError
from edgevit.printable import printable
from edgevit.services.putting import Put
from edgevit.services.telling import Told, parse_told

STATUS_S = 60.0


@dataclass(frozen=True, kw_only=True)
class BoardTold:
    """What one board told of its services."""

    host: Destination
    services: tuple[Told, ...] = ()
    error: EdgevitError | None = None


@dataclass(frozen=True, kw_only=True)
class BoardDone:
    """What became of a service on one board."""

    host: Destination
    put: Put | None = None
    error: EdgevitError | None = None


class Fleet:
    """Boards over ssh; ``command`` is ssh with options of the user's own."""

    def __init__(self, hosts: Sequence[Destination], command: str = "ssh", *, at_a_time: int = AT_ONCE) -> None:
        self.hosts, self._command, self._at_a_time = tuple(hosts), command, at_a_time
        self._open: set[Ssh] = set()

    def status(self, name: str | None = None) -> list[BoardTold]:
        """Of the service ``name``, or of all, of each board."""

        def one(host: Destination) -> BoardTold:
            try:
                answer = self._ask(host, "status", host.folder, *([name] if name else []), seconds=STATUS_S)
                return BoardTold(host=host, services=tuple(parse_told(answer.out)))
            except EdgevitError as error:
                return BoardTold(host=host, error=error)
            except ValueError:
                return BoardTold(host=host, error=_senseless(host))

        return self._all(one)

    def restart(self, name: str, *, within: float, password: Callable[[], str | None] = lambda: None) -> list[BoardDone]:
        """End the runs, start them anew, wait until they are healthy."""
        return self._change("restart", name, within, password)

    def roll_back(self, name: str, *, within: float, password: Callable[[], str | None] = lambda: None) -> list[BoardDone]:
        """Put the bundles before into service again."""
        return self._change("rollback", name, within, password)

    def logs(self, name: str, lines: int) -> Iterator[tuple[Destination, list[str] | EdgevitError]]:
        """The last lines of each board's run, in their order."""

        def one(host: Destination) -> tuple[Destination, list[str] | EdgevitError]:
            try:
                answer = self._ask(host, "logs", host.folder, name, "--lines", str(lines), seconds=STATUS_S)
            except EdgevitError as error:
                return host, error
            return host, [printable(line)[:LINE] for line in answer.out.splitlines()]

        yield from self._all(one)

    def follow(self, name: str, lines: int, tell: Callable[[Destination, str], None]) -> None:
        """The same, and what they say from now on, line by line to ``tell``, from threads; until all links have ended."""

        def one(host: Destination) -> None:
            with Ssh(host, self._command) as ssh:
                self._open.add(ssh)
                command = _command(host, "logs", host.folder, name, "--lines", str(lines), "--follow")
                with ssh.listen(*command) as process:
                    assert process.stdout is not None
                    assert process.stderr is not None
                    while line := process.stdout.readline(4 * LINE):
                        tell(host, printable(line.rstrip("\n"))[:LINE])
                    said = process.stderr.read(4 * LINE).strip().splitlines()
                    tell(host, f"(ended{': ' + printable(said[-1])[:LINE] if said else ''})")

        threads = [threading.Thread(target=one, args=(host,), daemon=True) for host in self.hosts]
        for thread in threads:
            thread.start()
        try:
            for thread in threads:
                thread.join()
        finally:
            for ssh in tuple(self._open):
                ssh.stop()

    def _change(self, verb: str, name: str, within: float, password: Callable[[], str | None]) -> list[BoardDone]:
        def one(host: Destination) -> BoardDone:
            try:
                secret = self._password_for(host, name, password)
                more = ["--password"] if secret is not None else []
                text = f"{secret}\n" if secret is not None else ""
                command = (verb, host.folder, name, "--within", f"{within:g}", *more)
                answer = self._ask(host, *command, seconds=LONGEST_S + within, text=text)
                return BoardDone(host=host, put=put_of(answers.parsed(answer.out, is_put)))
            except EdgevitError as error:
                return BoardDone(host=host, error=error)
            except ValueError:
                return BoardDone(host=host, error=_senseless(host))

        return self._all(one)

    def _password_for(self, host: Destination, name: str, password: Callable[[], str | None]) -> str | None:
        """Only a service of the system's takes one, and only where sudo asks for it."""
        told = self._ask(host, "status", host.folder, name, seconds=STATUS_S)
        of_system = any(each.kept_by == "a systemd unit" for each in parse_told(told.out))
        if not of_system or self._ask(host, "may-be-root", seconds=STATUS_S).out.strip() == "yes":
            return None
        return password()

    def _ask(self, host: Destination, *arguments: str, seconds: float, text: str = "") -> Answer:
        with Ssh(host, self._command) as ssh:
            self._open.add(ssh)
            try:
                answer = ssh.ask(*_command(host, *arguments), text=text, seconds=seconds)
            finally:
                self._open.discard(ssh)
        if answer.code == 127 or "No module named" in answer.err:
            msg = f"{host.address}: no edgevit is there in {host.folder}. Deploy it first, or name its folder with --dir."
            raise RemoteError(msg)
        if answer.code:
            msg = f"{host.address}: {printable(answer.last.removeprefix('edgevit: '))[:LINE]}"
            raise RemoteError(msg)
        return answer

    def _all(self, one: Callable[[Destination], Any]) -> list[Any]:
        with ThreadPoolExecutor(self._at_a_time, thread_name_prefix="edgevit fleet") as pool:
            futures = [pool.submit(one, host) for host in self.hosts]
            try:
                return [future.result() for future in futures]
            except BaseException:
                for future in futures:
                    future.cancel()
                for ssh in tuple(self._open):
                    with suppress(OSError):
                        ssh.stop()
                raise


def _command(host: Destination, *arguments: str) -> list[str]:
    """Below the home folder there, in which a session begins."""
    return [f"{host.folder}/venv/bin/python", "-m", "edgevit.cli.board", *arguments]


def _senseless(host: Destination) -> RemoteError:
    return RemoteError(f"{host.address}: its answer makes no sense. Deploy there with this edgevit.")
