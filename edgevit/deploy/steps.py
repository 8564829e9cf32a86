"""The way of a bundle onto one host, step by step. Each step finds out first whether there is anything to do."""

from __future__ import annotations

import hashlib
import json
import shlex
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from edgevit.bundle import MANIFEST, SIGNATURE
from edgevit.deploy import answers
from edgevit.deploy.bringing import bring_home
from edgevit.deploy.destination import Destination
from edgevit.deploy.facts import read_facts, what_lacks
from edgevit.deploy.identity import identity
from edgevit.deploy.job import Job, settle
from edgevit.deploy.lock import held
from edgevit.deploy.plan import SOURCE, Plan
from edgevit.deploy.running import LONGEST_S, is_put, put_of
from edgevit.deploy.scripts import FACTS, INSTALL, MAKE_ROOM, STATE, TAKE_OVER
from edgevit.deploy.ssh import Answer, Ssh, broken, only
from edgevit.deploy.watcher import Watcher
from edgevit.deploy.wheel import brought, requirements
from edgevit.errors import RemoteError, storage_errors
from edgevit.files.own_kinds import DEPLOYMENT
from edgevit.files.writing import write_whole
from edgevit.runtime.state import RunState
from edgevit.services.telling import parse_told
from edgevit.services.wanted import to_json

if TYPE_CHECKING:
    import subprocess

DONE = "already done"
JOBS = ("install", "compile", "benchmark")


class Deployment:
    """One host's. ``report`` grows step by step and is JSON-ready."""

    def __init__(self, plan: Plan, host: Destination, watcher: Watcher) -> None:
        self.plan, self.host, self.watcher = plan, host, watcher
        self.report: dict[str, Any] = {"host": host.address, "bundle": plan.name, "steps": {}}
        self._ssh = Ssh(host, plan.ssh)
        self._folder = host.folder
        self._benchmarked: Job | None = None
        self._lock: subprocess.Popen[str] | None = None
        """It ends when the link breaks, even if ssh finds the host again at once."""

    def run(self) -> dict[str, Any]:
        """All steps, in order. Raises LinkError if the link breaks, RemoteError if a step fails; the same again goes on."""
        with self._ssh:
            self._step("reach", self._reach)
            with held(self._ssh, self._folder) as self._lock:
                for name, action in (
                    ("push packages", self._push_packages),
                    ("install", self._install),
                    ("push bundle", self._push_bundle),
                    ("doctor", self._doctor),
                    ("compile", self._compile),
                    ("benchmark", self._benchmark),
                    ("bring back", self._bring_back),
                    *([("service", self._serve)] if self.plan.running is not None else []),
                ):
                    self._step(name, action)
        return self.report

    def stop(self) -> None:
        """End what is under way, from another thread; jobs on the host go on, and the next run finds them."""
        self._ssh.stop()

    def _step(self, name: str, action: Callable[[], str]) -> None:
        if self._lock is not None and self._lock.poll() is not None:
            raise broken(self.host)
        self.watcher.begin(self.host, name)
        began = time.monotonic()
        text = action()
        seconds = round(time.monotonic() - began, 2)
        self.report["steps"][name] = {"text": text, "seconds": seconds}
        self.watcher.end(self.host, name, text, seconds)

    def _reach(self) -> str:
        """What the host is, and whether it has what the other steps need."""
        answer = self._ssh.run(FACTS, self.host.folder, self.plan.python, seconds=60)
        if answer.code:
            self._fail(f"{self.host.folder} cannot be made: {answer.last}. Choose another --dir")
        try:
            facts = read_facts(answer.out)
        except ValueError as error:
            self._fail(f"its answer makes no sense: {error}. Something there answers in the place of sh, df or Python")
        lacking = what_lacks(facts, self.plan, self.host.folder, there=self._is_pushed())
        if lacking:
            self._fail(lacking)
        self._folder = facts.folder
        self.report |= {"folder": facts.folder, "machine": facts.machine, "python": facts.python, "opencv": facts.opencv or None}
        free = "free space unknown" if facts.free_mib is None else f"{facts.free_mib:.0f} MiB free"
        return f"{facts.machine}, Python {facts.python}, {free}"

    def _push_packages(self) -> str:
        self._ssh.run('mkdir -p -- "$1/wheels" "$1/wheelhouse" "$1/bundles" "$1/incoming" "$1/jobs"', self._folder)
        sent = self._ssh.push(self.plan.wheel, f"{self._folder}/wheels/")
        if self.plan.wheelhouse is not None:
            sent += self._ssh.push(self.plan.wheelhouse, f"{self._folder}/wheelhouse/")
        return _sent(sent)

    def _install(self) -> str:
        """A virtual environment that sees the system's packages: a board's TensorRT and OpenCV are Debian packages."""
        needs, key = self._needs, self._key
        job = self._job("install")
        settle(self._ssh, f"{self._folder}/jobs", self._slot, [self._job(what).name for what in JOBS], self._saying("install"))
        over = job.ended()
        if self._ssh.run('cat -- "$1/venv/.edgevit"', self._folder).out == key:
            return DONE
        if over:
            job.forget()  # its result is not there any more
        wheel = f"{self._folder}/wheels/{self.plan.wheel.name}"
        index = f"{self._folder}/wheelhouse" if self.plan.wheelhouse is not None else ""
        script = ["sh", "-c", INSTALL, "install", self._folder, key, self.plan.python, wheel, index, *needs]
        job.run(*script, tell=self._saying("install"))
        job.forget()
        return f"edgevit and {', '.join(brought(needs, self.report['machine']))}"

    def _push_bundle(self) -> str:
        """Into a folder beside, verified there, then moved: what runs there is never half a bundle."""
        name, folder = self.plan.name, self._folder
        if self._is_pushed() and self._state(self._bundle).get("identity") == identity(self.plan.bundle.manifest):
            return DONE
        packed = not self.plan.bundle.path.is_dir()
        self._ssh.run(MAKE_ROOM, folder, name, "zip" if packed else "folder")
        options = (
            []
            if packed
            else [f"--copy-dest={folder}/bundles/{name}", *only((MANIFEST, SIGNATURE, *self.plan.bundle.manifest.files))]
        )
        sent = self._ssh.push(self.plan.bundle.path, f"{folder}/incoming/{name}", *options)
        arrived = self._state(f"{folder}/incoming/{name}")
        if arrived.get("manifest") != self.plan.digest:
            self._ssh.run('rm -rf -- "$1/incoming/$2"', folder, name)
            reason = f" ({arrived['error']})" if "error" in arrived else ""
            self._fail(f"what arrived there is not the bundle that was sent{reason}. Run the same command again")
        moved = self._ssh.run(TAKE_OVER, folder, name, self.plan.digest)
        if moved.code:
            self._fail(f"the bundle cannot be put in its place: {moved.last}")
        return f"{self.plan.bytes / 1e6:.1f} MB, {_sent(sent)}"

    def _is_pushed(self) -> bool:
        return self._ssh.run('cat -- "$1/bundles/.pushed-$2"', self._folder, self.plan.name).out == self.plan.digest

    def _state(self, bundle: str) -> dict[str, str]:
        """Digest and engine of a bundle there; if it is not whole, or nothing there can tell, ``error`` alone."""
        answer = self._ssh.run('exec "$1/venv/bin/python" -c "$2" "$3"', self._folder, STATE, bundle)
        return dict(line.partition(" ")[::2] for line in answer.out.splitlines()) if answer.code == 0 else {"error": answer.last}

    def _doctor(self) -> str:
        """Findings of the host itself. What stands in the way ends the deployment; warnings go into the report."""
        answer = self._edgevit("doctor", self._bundle, "--json")
        found = self._json(answer.out, "doctor", answer.last, answers.doctor)
        problems = [item for item in found["findings"] if item["level"] == "problem"]
        self.report["doctor"] = found["findings"]
        # That it is not compiled is what the next step is for.
        real = [item for item in problems if "edgevit compile" not in (item.get("fix") or "")]
        if real:
            first = real[0]
            self._fail(f"doctor: {first['topic']}: {first['text']}" + (f" -> {first['fix']}" if first.get("fix") else ""))
        warnings = sum(item["level"] == "warning" for item in found["findings"])
        return f"{warnings} warnings" if warnings != 1 else "1 warning"

    def _compile(self) -> str:
        job = self._job("compile")
        over = job.ended()
        state = self._state(self._bundle).get("engine")
        if state == "jit":
            self.report["compiled"] = None
            return "its engine compiles at every start"
        if state == "compiled" and not over:
            return DONE
        if over and state != "compiled":
            job.forget()  # the engine fits no more, or is gone
        text = job.run(*self._command("compile", self._bundle, "--json"), tell=self._saying("compile"))
        self.report["compiled"] = self._json(text, "compile", "", answers.compiled)
        job.forget()
        return f"{self.report['compiled']['version']}, {self.report['compiled']['seconds']:.0f} s"

    def _benchmark(self) -> str:
        """Frames of 1280x720 through the whole loop, as fast as it goes, with the board's own telemetry."""
        if self.plan.running is not None and self._is_serving():
            return "not beside a service, whose own rate counts"
        job = self._job("benchmark")
        source = SOURCE.format(self.plan.frames)
        command = self._command("run", self._bundle, source, "--policy", "every", "--headless", "--json")
        text = job.run(*command)
        self.report["benchmark"] = self._json(text.strip().rpartition("\n")[2], "benchmark", "", answers.benchmark)
        self._benchmarked = job
        return _speed(self.report["benchmark"])

    def _bring_back(self) -> str:
        """Report and, if it was compiled there, the bundle with its engine; only then is the measurement there forgotten."""
        folder = self.plan.out / self.host.name
        with storage_errors(folder, "-o"):
            folder.mkdir(parents=True, exist_ok=True)
        if self.plan.ahead:
            manifest = bring_home(self._ssh, self._bundle, folder / self.plan.name, self.plan.bundle)
            self.report.setdefault("compiled", {"check": (manifest.compiled or {}).get("check"), "latency": manifest.latency})
            self.report["bundle"] = str(folder / self.plan.name)
        path = self._write_report()
        if self._benchmarked is not None:
            self._benchmarked.forget()
        return str(path)

    def _write_report(self) -> Path:
        path = self.plan.out / self.host.name / "report.json"
        write_whole(path, json.dumps(self.report, indent=2, ensure_ascii=False) + "\n", kind=DEPLOYMENT, option="-o")
        return path

    def _serve(self) -> str:
        """Into service, with what was there before as the way back: the host does all of it by itself, whatever the link does."""
        running = self.plan.running
        assert running is not None
        wanted = replace(running.wanted, pushed=self.plan.digest, installed=self._key)
        password = running.password() if wanted.manager == "system" and not self._may_be_root() else None
        speed = ((self.report.get("benchmark") or {}).get("summary") or {}).get("fps")
        order = running.order(self._folder, self.plan.name, wanted, speed, password)
        answer = self._board("put", text=to_json(order))
        if answer.code:
            self._fail(f"service: {answer.last.removeprefix('edgevit: ').rstrip('.')}")
        put = put_of(self._json(answer.out, "service", answer.last, is_put))
        self.report["service"] = {"name": running.name, **put.to_dict()}
        self._write_report()
        if put.outcome in ("rolled back", "stopped"):
            came = (
                "rolled back to the bundle before"
                if put.outcome == "rolled back"
                else "stopped: there is no bundle to go back to"
            )
            self._fail(f"{came}: {put.reason}".rstrip("."))
        return "; ".join([f"{put.outcome}, by {put.kept_by}{_rate(put.state)}", *put.notes])

    def _is_serving(self) -> bool:
        """Whether a run is in service there: a measurement beside it would disturb both."""
        answer = self._board("status", self._folder)
        try:
            return answer.code == 0 and any(each.condition in ("running", "starting") for each in parse_told(answer.out))
        except ValueError:
            return False

    def _may_be_root(self) -> bool:
        return self._board("may-be-root").out.strip() == "yes"

    def _board(self, *arguments: str, text: str = "") -> Answer:
        command = [f"{self._folder}/venv/bin/python", "-m", "edgevit.cli.board", *arguments]
        return self._ssh.ask(*command, text=text, seconds=LONGEST_S)

    @property
    def _needs(self) -> tuple[str, ...]:
        return requirements(self.plan.extra, without="opencv-python" if self.report["opencv"] else "")

    @property
    def _key(self) -> str:
        """Of all that the virtual environment is made from."""
        wheels = "".join(hashlib.sha256(path.read_bytes()).hexdigest() for path in self.plan.wheels())
        return hashlib.sha256("\n".join([self.plan.python, wheels, *self._needs]).encode()).hexdigest()

    @property
    def _slot(self) -> str:
        """What the bundle's jobs are called first."""
        return _short(self.plan.name)

    @property
    def _bundle(self) -> str:
        return f"{self._folder}/bundles/{self.plan.name}"

    def _command(self, *arguments: str) -> list[str]:
        """One of edgevit's commands there; a name that looks like an option stays a name, as paths are absolute."""
        return [f"{self._folder}/venv/bin/python", "-m", "edgevit", *arguments]

    def _edgevit(self, *arguments: str) -> Any:
        return self._ssh.run(shlex.join(self._command(*arguments)))

    def _job(self, what: str) -> Job:
        """One of `JOBS`. Its folder's name says what it is of: another edgevit, bundle or number of frames is another job."""
        key = {"install": [self._key], "compile": [self._key, self.plan.digest],
               "benchmark": [self._key, self.plan.digest, str(self.plan.frames)]}[what]  # fmt: skip
        slot = "venv" if what == "install" else self._slot
        return Job(ssh=self._ssh, folder=f"{self._folder}/jobs/{slot}-{what}-{_short(*key)}", what=what)

    def _json(self, text: str, what: str, otherwise: str, check: answers.Check) -> dict[str, Any]:
        try:
            return answers.parsed(text, check)
        except ValueError:
            self._fail(f"{what}: {otherwise or 'its answer cannot be read'}")

    def _saying(self, step: str) -> Callable[[str], None]:
        return lambda text: self.watcher.progress(self.host, step, text)

    def _fail(self, why: str) -> NoReturn:
        msg = f"{self.host.address}: {why}."
        raise RemoteError(msg)


def _short(*parts: str) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def _sent(count: int) -> str:
    return f"{count / 1e6:.1f} MB sent" if count else DONE


def _rate(state: RunState | None) -> str:
    return f": {state.fps:.1f} fps" if state is not None and state.fps else ""


def _speed(benchmark: dict[str, Any]) -> str:
    summary = benchmark["summary"]
    return f"{summary['fps']:.1f} fps" if summary.get("fps") else "measured"
