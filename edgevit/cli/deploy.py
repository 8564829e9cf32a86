"""``edgevit deploy``: a bundle onto boards, compiled and measured there."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgevit.cli.files import OutputFolder, Writing
from edgevit.cli.hosts import AT_A_TIME, WITHIN, hosts_of, hosts_options, password_of_sudo
from edgevit.cli.options import json_option, signature_option, watchdog_option
from edgevit.cli.say import say

if TYPE_CHECKING:
    from edgevit.bundle import Bundle
    from edgevit.deploy.running import Running

PATH = click.Path(path_type=Path)


class WithRunOptions(Writing):
    """A command of which everything after ``--`` is for ``edgevit run``, where there is a run."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Keep that aside, as ``run_options``."""
        place = args.index("--") if "--" in args and any(word.partition("=")[0] == "--run" for word in args) else len(args)
        parsed = super().parse_args(ctx, args[:place])
        ctx.params["run_options"] = tuple(args[place + 1 :])
        return parsed


@click.command(cls=WithRunOptions)
@click.argument("bundle", type=PATH)
@click.argument("hosts", metavar="[USER@]HOST...", nargs=-1)
@hosts_options
@click.option("--run", "source", metavar="SOURCE", help="Put it into service there: run it on this source, for good.")
@click.option("--name", default="edgevit", show_default=True, help="Of the service; another name is another service.")
@click.option("--system", is_flag=True, help="A service of the system's, which takes root: sudo's password is asked for once.")
@click.option(
    "--min-fps",
    type=click.FloatRange(0),
    help="Labels per second it must give there; 40 % of what is known to be possible.",
)
@WITHIN
@watchdog_option
@AT_A_TIME
@click.option("--stop-after", type=click.IntRange(1), metavar="HOSTS", help="Begin no other host when so many have failed.")
@click.option("--python", default="python3", show_default=True, help="The host's interpreter; 3.10 or newer.")
@click.option(
    "--wheelhouse",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="Install from these wheels: for hosts without a package index.",
)
@click.option("--frames", type=click.IntRange(1), default=200, show_default=True, help="Frames of 1280x720 to measure on.")
@click.option(
    "-o", "--out", type=OutputFolder(), default=Path("deployed"), show_default=True, help="Reports and engines go here, by host."
)
@click.option("--dry-run", is_flag=True, help="Say what would be sent and done; connect to nothing.")
@signature_option
@json_option
def deploy(**values: Any) -> None:
    """Put BUNDLE and this edgevit on each host, compile it there, measure it, and bring the results back.

    Uses your own ssh: keys, agent, config. Only what has changed is sent, and what a broken link interrupts goes on when the same
    command is run again. On the host everything lies in one folder; nothing needs root.

    With --run it stays there as a service; what follows -- goes to edgevit run. A bundle that gives no labels there, or too few,
    is rolled back by itself.
    """
    import tempfile

    from edgevit.cli.console import print_json
    from edgevit.deploy.plan import check_places, make_plan
    from edgevit.deploy.several import deploy as deploy_to

    with tempfile.TemporaryDirectory(prefix="edgevit-") as work:
        hosts, ssh = hosts_of(values, Path(work))
        plan = make_plan(
            values["bundle"], Path(work), values["out"], keys=values["keys"], wheelhouse=values["wheelhouse"],
            python=values["python"], ssh=ssh, frames=values["frames"],
        )  # fmt: skip
        plan = replace(plan, running=_running(plan.bundle, values) if values["source"] is not None else None)
        if values["dry_run"]:
            _print_plan(plan, hosts, as_json=values["as_json"])
            return
        check_places(plan, hosts, values["keys"])
        with _watcher(quiet=values["as_json"]) as watcher:
            outcomes = deploy_to(plan, hosts, watcher, at_a_time=values["at_a_time"], stop_after=values["stop_after"])
    if values["as_json"]:
        print_json([outcome.report | {"error": str(outcome.error) if outcome.error else None} for outcome in outcomes])
    else:
        _print(outcomes)
    failed = [outcome.error for outcome in outcomes if outcome.error]
    if failed:
        # Each host's error was told; the code is that of the first.
        raise click.exceptions.Exit(failed[0].exit_code)


def _running(bundle: Bundle, values: dict[str, Any]) -> Running:
    """What is to run there; wrong options are refused here, before anything is sent. Paths are the hosts'."""
    from edgevit.cli.service import asked_of_run, checked, folders_of, shown_command
    from edgevit.deploy.running import Running
    from edgevit.services.wanted import Wanted

    source, options = values["source"], values["run_options"]
    asked = asked_of_run(bundle, [str(bundle.path.absolute()), source, "--headless", *options])
    shown = shown_command(("", "-m", "edgevit", "run", "", source, *options))
    wanted = Wanted(
        source=source, options=options, manager="system" if values["system"] else "user", watchdog_s=values["watchdog"],
        writable=tuple(map(str, folders_of(asked))),
    )  # fmt: skip
    return Running(
        name=checked(values["name"]), wanted=wanted, shown=" ".join(shown[5:]), min_fps=values["min_fps"],
        within=values["within"], password=password_of_sudo(),
    )  # fmt: skip


def _watcher(*, quiet: bool) -> Any:
    """Lines on stderr for finished steps; on a terminal a line under way for each host."""
    from contextlib import nullcontext

    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn
    from rich.text import Text

    from edgevit.deploy.destination import Destination
    from edgevit.deploy.watcher import Watcher
    from edgevit.printable import printable

    if quiet:
        return nullcontext(Watcher())
    console = Console(stderr=True, highlight=False)
    bars = Progress(SpinnerColumn(), TextColumn("{task.description}", markup=False), TimeElapsedColumn(), console=console,
                    transient=True, disable=not console.is_terminal)  # fmt: skip

    class Lines(Watcher):
        tasks: dict[Destination, TaskID] = {}  # noqa: RUF012  # one object lives at a time

        def begin(self, host: Destination, step: str) -> None:
            self.progress(host, step, "")

        def progress(self, host: Destination, step: str, text: str) -> None:
            if host not in self.tasks:
                self.tasks[host] = bars.add_task("", total=None)
            bars.update(self.tasks[host], description=printable(f"{host.address}  {step}  {text}")[: console.width - 20])

        def end(self, host: Destination, step: str, text: str, seconds: float) -> None:
            console.print(Text(printable(f"  {host.address:<20} {step:<14} {seconds:6.1f} s  {text}")), soft_wrap=True)

        def again(self, host: Destination, error: Exception, pause: float) -> None:
            console.print(Text(f"  {host.address:<20} the connection broke; going on in {pause:g} s"), soft_wrap=True)

        def __enter__(self) -> Lines:
            bars.start()
            return self

        def __exit__(self, *_: object) -> None:
            bars.stop()

    return Lines()


def _print_plan(plan: Any, hosts: list[Any], *, as_json: bool) -> None:
    from edgevit.cli.console import print_json, table
    from edgevit.report.sheet import megabytes

    sizes = [(path.name, path.stat().st_size) for path in plan.wheels()] + [(plan.name, plan.bytes)]
    compiles = "compile there" if plan.ahead else f"nothing to compile: {plan.bundle.manifest.engine} does at every start"
    steps = ["reach", "push packages", f"install edgevit[{plan.extra}]", "push bundle", "doctor", compiles,
             f"benchmark: {plan.frames} frames of 1280x720", f"bring back to {plan.out}"]  # fmt: skip
    if plan.running is not None:
        steps.append(f"service {plan.running.name}: run it on {plan.running.shown}, wait for labels, else roll back")
    if as_json:
        print_json({"hosts": [host.address for host in hosts], "files": dict(sizes), "steps": steps})
        return
    table("Sent, where it is not there yet", ("file", "size"), [(name, megabytes(size)) for name, size in sizes])
    say("", f"On {', '.join(host.address for host in hosts)}, in {hosts[0].folder}/:")
    for number, step in enumerate(steps, 1):
        say(f"  {number}. {step}")


def _print(outcomes: list[Any]) -> None:
    """One table for all hosts; errors on stderr, a line each."""
    from edgevit.cli.console import table

    rows = []
    for outcome in outcomes:
        report = outcome.report
        summary = (report.get("benchmark") or {}).get("summary") or {}
        infer, latency, fps = summary.get("infer_ms") or {}, summary.get("latency_ms") or {}, summary.get("fps")
        if (state := (report.get("service") or {}).get("state")) is not None:  # what counts is the service
            latency, fps = state.get("latency_ms") or {}, state.get("fps")
        rows.append((
            outcome.host.address,
            report.get("machine", "-"),
            (report.get("benchmark") or {}).get("engine", "-"),
            _figure(infer.get("p50")),
            f"{_figure(latency.get('p50'))}/{_figure(latency.get('p99'))}" if latency else "-",
            _figure(fps),
            outcome.came_to,
        ))  # fmt: skip
    columns = ("host", "machine", "engine", "infer p50 ms", "capture to label p50/p99 ms", "fps", "came to")
    table("Deployed", columns, rows, left=3)
    for outcome in outcomes:
        if outcome.error:
            say(f"edgevit: {outcome.error}", err=True)
            for line in (outcome.report.get("service") or {}).get("logs", ()):
                say(f"  {line}", err=True)


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}"
