"""The steps, in their order: what is there, then the software, the bundle, cameras, a service, power modes."""

from __future__ import annotations

import platform
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from edgevit.commands.acceptance.outcome import Outcome
from edgevit.commands.acceptance.trtexec import COMPUTE, trtexec
from edgevit.commands.acceptance.visit import Visit, last_json
from edgevit.device.cameras import camera_kind
from edgevit.device.files import text
from edgevit.device.jetson import power_modes
from edgevit.device.service import UNKEPT
from edgevit.engines import traits_of
from edgevit.runtime.redact import redacted
from edgevit.target import load_target

NEAR = 1.15
"""How much longer than trtexec's median the engine call may take in the loop."""
FRAMES, CAMERA_FRAMES = 1000, 300
FILES = ("etc/nv_tegra_release", "proc/swaps", "etc/nv_boot_control.conf", "var/lib/nvpmodel/status", "etc/nvpmodel.conf")
ABORTED = (-6, 134)
"""Exit codes of a process that aborts, as PyCUDA's does when a session was left open."""
LOADS = """
import sys, numpy, edgevit
classifier = edgevit.load(sys.argv[1])
print(classifier.engine, "on", classifier.device, classifier.classify(numpy.zeros((720, 1280, 3), numpy.uint8))[0])
"""
PYCUDA = """
import pycuda, pycuda.driver as driver
driver.init()
device = driver.Device(0)
print("pycuda", pycuda.VERSION_TEXT, device.name(), "integrated", device.get_attribute(driver.device_attribute.INTEGRATED))
"""


def facts(visit: Visit) -> Iterator[Outcome]:
    """What a report must say for its figures to mean anything."""
    board = visit.board
    lines = [f"{platform.platform()}, Python {platform.python_version()} ({sys.executable})"]
    tree = text(visit.root / "proc/device-tree/compatible").replace("\0", " ").strip()
    lines += [f"device tree: {tree}"] if tree else []
    for name in FILES:
        if content := text(visit.root / name):
            # The modes' masks and clocks are long, and only their names tell.
            kept = [line for line in content.splitlines() if name != "etc/nvpmodel.conf" or "POWER_MODEL" in line]
            lines += [f"/{name}:", *(f"  {line}" for line in kept[:20])]
    words = "no Jetson" if board is None else f"{board.model}, {board.target}, L4T {board.l4t}, mode {board.mode}"
    yield Outcome(step="facts", status="passed", text=words, output="\n".join(lines).expandtabs(4))


def pycuda(visit: Visit) -> Iterator[Outcome]:
    """Whether it loads and finds the GPU."""
    if not visit.uses_tensorrt:
        yield Outcome(step="pycuda", status="skipped", text=f"the bundle runs on {visit.bundle.manifest.engine}")
        return
    done = visit.run([sys.executable, "-c", PYCUDA], 120)
    yield done.outcome("pycuda", done.last, good=done.code == 0, expected="one line with a version; integrated 1 on a Jetson")


def doctor(visit: Visit) -> Iterator[Outcome]:
    """What the doctor says for the bundle, now that it is compiled, or has not been able to be."""
    done = visit.edgevit("doctor", visit.copy, limit_s=300)
    yield done.outcome("doctor", done.last, good=done.code == 0, expected="no problem")


def compiling(visit: Visit) -> Iterator[Outcome]:
    """A copy of the bundle, compiled here and looked at."""
    visit.copy_bundle()
    if not traits_of(visit.bundle.manifest.engine).ahead_of_time:
        words = f"{visit.bundle.manifest.engine} compiles at every start"
        yield Outcome(step="compile", status="skipped", text=words)
    else:
        done = visit.edgevit("compile", visit.copy, limit_s=600)
        expected = "exit code 0, and no warning of attention that is not fused or of dequantized weights"
        yield done.outcome("compile", done.last, good=done.code == 0, expected=expected)
    done = visit.edgevit("inspect", visit.copy, limit_s=120)
    yield done.outcome("inspect", done.ending if done.code == 0 else done.last, good=done.code == 0, expected="exit code 0")


def session(visit: Visit) -> Iterator[Outcome]:
    """The library, in a program that closes nothing and ends."""
    done = visit.run([sys.executable, "-c", LOADS, str(visit.copy)], 300)
    words = done.last
    if done.code in ABORTED:
        words = f"{done.ending}: the process aborts at its end, after a session that was left open"
    yield done.outcome("session", words, good=done.code == 0, expected="an engine, a device and a label; exit code 0")


def loop(visit: Visit) -> Iterator[Outcome]:
    """The camera loop without a camera, against trtexec."""
    source = f"test://1280x720@1000?frames={FRAMES}"
    done = visit.edgevit("run", visit.copy, source, "--policy", "every", "--headless", "--json", limit_s=600)
    summary = last_json(done.output).get("summary", {})
    infer = (summary.get("infer_ms") or {}).get("p50")
    words, good = _throughput(done.ending, summary), done.code == 0 and summary.get("frames") == FRAMES
    alone = visit.found.get(COMPUTE)
    if infer and alone:
        words += f"; {infer / alone:.2f} times trtexec's median of {alone} ms"
        good = good and infer <= NEAR * alone
    expected = f"{FRAMES} frames" + (f", and the engine call within {NEAR:g} times trtexec's median" if alone else "")
    yield done.outcome("loop", words, good=good, expected=expected)


def cameras(visit: Visit) -> Iterator[Outcome]:
    """Each camera that is found, and each source that was named."""
    sources = [*_cameras_here(visit), *visit.sources]
    if not sources:
        words = "no camera is connected; name a stream with --source rtsp://HOST/PATH"
        yield Outcome(step="camera", status="skipped", text=words)
    for source in sources:
        done = visit.edgevit(
            "run", visit.copy, source, "--limit", CAMERA_FRAMES, "--headless", "--json", "--give-up", 10, limit_s=150
        )
        summary = last_json(done.output).get("summary", {})
        good = done.code == 0 and summary.get("frames") == CAMERA_FRAMES and not (summary.get("faults") or {}).get("lost")
        # The frames' own lines are for programs.
        told = "\n".join(line for line in done.output.splitlines() if not line.startswith('{"seconds"'))
        outcome = done.outcome(f"camera {redacted(source)}", _throughput(done.ending, summary), good=good,
                               expected=f"{CAMERA_FRAMES} frames at the camera's own rate, no loss")  # fmt: skip
        yield Outcome(**{**vars(outcome), "output": told[-4000:]})


def service(visit: Visit) -> Iterator[Outcome]:
    """A unit for it, as systemd judges it; starting one takes root."""
    path, step = visit.bundle.path.absolute(), "service"
    if any(folder in path.parents for folder in UNKEPT):
        yield Outcome(step=step, status="skipped", text=f"{path} does not outlive a restart; a service's bundle lies elsewhere")
        return
    source = next(iter([*_cameras_here(visit), *visit.sources]), "test://1280x720@30")
    unit = visit.folder / "edgevit.service"
    done = visit.edgevit("service", "-o", unit, path, source, "--user", _user(), limit_s=120)
    words = done.ending if done.code == 0 else done.last
    yield done.outcome("service, unit", words, good=done.code == 0 and unit.is_file(), expected="a unit is written")
    analyze = shutil.which("systemd-analyze")
    if analyze is None or not unit.is_file():
        why = "systemd-analyze is not installed" if analyze is None else "there is no unit"
        yield Outcome(step="service, verify", status="skipped", text=why)
    else:
        done = visit.run([analyze, "verify", str(unit)], 60)
        words = done.output.strip() or "systemd has nothing to say against it"
        yield done.outcome("service, verify", words, good=done.code == 0 and not done.output.strip(), expected="not a word")
    words = "starting it takes root; edgevit service prints what to type. Expect active (running), and no restart in a minute"
    yield Outcome(step="service, start", status="skipped", text=words)


def modes(visit: Visit) -> Iterator[Outcome]:
    """Which power modes bind an engine; changing them takes root."""
    names = power_modes(visit.root)
    target = load_target(visit.board.target) if visit.board and visit.board.target else None
    if not names or target is None or visit.board is None:
        yield Outcome(step="power modes", status="skipped", text="this machine has none that edgevit knows")
        return
    sms = {mode.name: mode.sms for mode in target.modes}
    now = sms.get(visit.board.mode or "")
    others = [f"sudo nvpmodel -m {key} ({name}, {sms[name]} multiprocessors)" for key, name in names.items()
              if name in sms and now is not None and sms[name] != now]  # fmt: skip
    words = "changing the mode takes root, and may restart the board. "
    words += (
        f"With {' or '.join(others)} expect: multiprocessors was {now} and is another, and edgevit compile"
        if others
        else (f"No other mode of this install switches multiprocessors off: {', '.join(names.values())}")
    )
    yield Outcome(step="power modes", status="skipped", text=words)


STEPS: tuple[Callable[[Visit], Iterator[Outcome]], ...] = (
    facts, trtexec, pycuda, compiling, doctor, session, loop, cameras, service, modes,
)  # fmt: skip


def _throughput(ending: str, summary: dict[str, Any]) -> str:
    if not summary.get("frames"):
        return f"{ending}, no frames"
    infer = summary.get("infer_ms") or {}
    power = (summary.get("telemetry") or {}).get("power_w") or {}
    watts = f", {power['mean']:.1f} W" if power else ""
    rate = f" at {summary['fps']:.1f} fps" if summary.get("fps") else ""
    return f"{summary['frames']} frames{rate}, {summary['dropped']} dropped, infer p50 {infer.get('p50', 0):.2f} ms{watts}"


def _cameras_here(visit: Visit) -> list[str]:
    """Sources by their kinds: CSI cameras once, each USB camera by its number."""
    nodes = sorted(visit.root.glob("dev/video[0-9]*"), key=lambda path: int(re.sub(r"\D", "", path.name)))
    kinds = {node.name.removeprefix("video"): camera_kind(f"/dev/{node.name}", visit.root) for node in nodes}
    csi = ["csi://0"] if "sensor" in kinds.values() else []
    return csi + [number for number, kind in kinds.items() if kind == "camera" and _captures(visit.root, number)]


def _captures(root: Path, number: str) -> bool:
    """Whether it is a camera's first node: the second one of a USB camera has only the pictures' descriptions."""
    return text(root / f"sys/class/video4linux/video{number}/index").strip() in ("", "0")


def _user() -> str:
    """Whom the unit would run as: this user."""
    import getpass

    return getpass.getuser()
