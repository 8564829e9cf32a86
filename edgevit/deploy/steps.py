"""The way of a bundle onto one host, step by step. Each step finds out first whether there is anything to do."""

from __future__ import annotations

import hashlib
import json
import shlex
import subprocess
import time
from collections.abc import Callable
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NoReturn

from edgevit.deploy.destination import Destination
from edgevit.deploy.job import Job
from edgevit.deploy.plan import SOURCE, Plan
from edgevit.deploy.ssh import Ssh
from edgevit.deploy.wheel import requirements
from edgevit.errors import LinkError, RemoteError, storage_errors

if TYPE_CHECKING:
    from collections.abc import Iterator

OLDEST = (3, 10)
ROOM = 1.5  # times the size of the bundle that must be free: old and new lie side by side for a moment
INSTALLED_MB = 600  # what engine, OpenCV and NumPy take in a fresh virtual environment
DONE = "already done"

_FACTS = r"""
mkdir -p -- "$1" && cd -- "$1" || exit 1
echo "folder=$(pwd -P)"; echo "machine=$(uname -m)"; echo "free_kb=$(df -Pk . | awk 'NR==2{print $4}')"
for tool in rsync flock setsid; do command -v $tool >/dev/null && echo "$tool=yes"; done
[ -x venv/bin/edgevit ] && echo "venv_there=yes"
{ command -v nvcc || [ -x /usr/local/cuda/bin/nvcc ]; } >/dev/null && echo "cuda=nvcc"
command -v -- "$2" >/dev/null || { [ -x "$2" ] || exit 0; }
"$2" -c 'import sys; print("python=%d.%d.%d" % sys.version_info[:3])'
"$2" -c 'import ensurepip, venv; print("venv=yes")' 2>/dev/null
"$2" -c 'import ctypes; ctypes.CDLL("libcuda.so.1"); print("driver=yes")' 2>/dev/null
"$2" -c 'import cv2; print("cv2=" + cv2.__version__)' 2>/dev/null
for python in venv/bin/python "$2"; do "$python" -c 'import pycuda; print("cuda=pycuda")' 2>/dev/null; done
exit 0
"""
_LOCK = 'flock -n "$1/.lock" sh -c "echo locked; cat >/dev/null" || echo taken'
_INSTALL = r"""
set -e
cd -- "$1"; key=$2; python=$3; shift 3
# pycuda is compiled with nvcc, which a JetPack puts on the path of interactive shells only.
if [ -d /usr/local/cuda/bin ]; then PATH=$PATH:/usr/local/cuda/bin; export PATH; fi
venv/bin/python -m pip --version >/dev/null 2>&1 || { rm -rf venv; "$python" -m venv --system-site-packages venv; }
wheel=$1; index=$2; shift 2
get() {
  venv/bin/python -m pip --disable-pip-version-check --no-input install --quiet ${index:+--no-index} \
    ${index:+"--find-links=$index"} "$@"
}
get "$wheel" "$@"
get --no-deps --force-reinstall "$wheel"
printf %s "$key" >venv/.edgevit.part; mv venv/.edgevit.part venv/.edgevit
"""
_TAKE_OVER = r"""
cd -- "$1"; name=$2
rm -rf -- "bundles/.old-$name"
if [ -e "bundles/$name" ]; then mv -- "bundles/$name" "bundles/.old-$name" || exit 1; fi
mv -- "incoming/$name" "bundles/$name" || exit 1
printf %s "$3" >"bundles/.pushed-$name"
rm -rf -- "bundles/.old-$name"
"""
_STATE = """
import hashlib, sys
from edgevit.bundle import open_bundle
from edgevit.engine import backend
from edgevit.engine.of_bundle import compiled_here
bundle = open_bundle(sys.argv[1]); bundle.verify()
name = bundle.manifest.engine
print("manifest", hashlib.sha256(bundle.manifest.to_json().encode()).hexdigest())
print("engine", "jit" if backend(name).just_in_time else "compiled" if compiled_here(bundle) else "missing")
"""


class Watcher:
    """Is told how a deployment goes; this one tells nobody."""

    def begin(self, host: Destination, step: str) -> None:
        """A step begins."""

    def progress(self, host: Destination, step: str, text: str) -> None:
        """What a step under way says."""

    def end(self, host: Destination, step: str, text: str, seconds: float) -> None:
        """A step is done."""

    def again(self, host: Destination, error: Exception, pause: float) -> None:
        """The link broke, and after ``pause`` seconds all goes on."""


class Deployment:
    """One host's. ``report`` grows step by step and is JSON-ready."""

    def __init__(self, plan: Plan, host: Destination, watcher: Watcher) -> None:
        self.plan, self.host, self.watcher = plan, host, watcher
        self.report: dict[str, Any] = {"host": host.address, "bundle": plan.name, "steps": {}}
        self._ssh = Ssh(host, plan.ssh)
        self._folder = host.folder
        self._holder: subprocess.Popen[str] | None = None
        """Of the lock on the host; it ends when the link breaks, even if ssh finds the host again at once."""

    def run(self) -> dict[str, Any]:
        """All steps, in order. Raises LinkError if the link breaks, RemoteError if a step fails; the same again goes on."""
        with self._ssh:
            self._step("reach", self._reach)
            with self._locked():
                for name, action in (
                    ("push packages", self._push_packages),
                    ("install", self._install),
                    ("push bundle", self._push_bundle),
                    ("doctor", self._doctor),
                    ("compile", self._compile),
                    ("benchmark", self._benchmark),
                    ("bring back", self._bring_back),
                ):
                    self._step(name, action)
        return self.report

    def stop(self) -> None:
        """End what is under way, from another thread; jobs on the host go on, and the next run finds them."""
        self._ssh.stop()

    def _step(self, name: str, action: Callable[[], str]) -> None:
        if self._holder is not None and self._holder.poll() is not None:
            self._broken()
        self.watcher.begin(self.host, name)
        began = time.monotonic()
        text = action()
        seconds = round(time.monotonic() - began, 2)
        self.report["steps"][name] = {"text": text, "seconds": seconds}
        self.watcher.end(self.host, name, text, seconds)

    def _reach(self) -> str:
        """What the host is, and whether it has what the other steps need."""
        answer = self._ssh.run(_FACTS, self.host.folder, self.plan.python, seconds=60)
        if answer.code:
            self._fail(f"{self.host.folder} cannot be made: {answer.last}. Choose another --dir")
        facts = dict(line.partition("=")[::2] for line in answer.out.splitlines() if "=" in line)
        for tool, package in (("rsync", "rsync"), ("flock", "util-linux"), ("setsid", "util-linux")):
            if tool not in facts:
                self._fail(f"it has no {tool}. There: sudo apt install {package}")
        if "python" not in facts:
            self._fail(f"it has no {self.plan.python}. There: sudo apt install python3; or name another with --python")
        if tuple(map(int, facts["python"].split(".")))[:2] < OLDEST:
            self._fail(f"its Python is {facts['python']}, and edgevit needs 3.10. Name a newer one with --python")
        if "venv" not in facts and "venv_there" not in facts:
            self._fail("its Python makes no virtual environments. There: sudo apt install python3-venv")
        if self.plan.ahead and "driver" not in facts:
            self._fail(
                f"it has no NVIDIA driver, which {self.plan.bundle.manifest.engine} needs. See whether it is the right host"
            )
        if self.plan.ahead and "cuda" not in facts:
            self._fail("it has no pycuda, and no nvcc to make it with. On a Jetson: sudo apt install nvidia-jetpack")
        room = int(facts.get("free_kb") or 0) / 1024
        wanted = ROOM * self.plan.bytes / 2**20 + (0 if "venv_there" in facts else INSTALLED_MB)
        if room < wanted and not self._is_pushed():
            self._fail(
                f"{room:.0f} MiB are free at {self.host.folder}, and about {wanted:.0f} are needed. Free some, or use --dir"
            )
        self._folder = facts["folder"]
        self.report |= {"folder": self._folder, "machine": facts.get("machine", ""), "python": facts["python"],
                        "opencv": facts.get("cv2")}  # fmt: skip
        return f"{facts.get('machine', '')}, Python {facts['python']}, {room:.0f} MiB free"

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """No other deployment to the same folder meanwhile; the lock ends with the connection."""
        holder = self._holder = self._ssh.hold(_LOCK, self._folder)
        assert holder.stdin is not None
        assert holder.stdout is not None
        try:
            said = holder.stdout.readline().strip()
            if said == "taken":
                self._fail("another deployment to it is under way. Wait for that one, or use another --dir")
            if said != "locked":
                self._broken()
            yield
        finally:
            holder.stdin.close()
            holder.terminate()
            holder.wait()
            holder.stdout.close()
            if holder.stderr is not None:
                holder.stderr.close()

    def _push_packages(self) -> str:
        self._ssh.run('mkdir -p -- "$1/wheels" "$1/wheelhouse" "$1/bundles" "$1/incoming" "$1/jobs"', self._folder)
        sent = self._ssh.push(self.plan.wheel, f"{self._folder}/wheels/")
        if self.plan.wheelhouse is not None:
            sent += self._ssh.push(self.plan.wheelhouse, f"{self._folder}/wheelhouse/")
        return _sent(sent)

    def _install(self) -> str:
        """A virtual environment that sees the system's packages: a board's TensorRT and OpenCV are Debian packages."""
        needs = requirements(self.plan.extra, without="opencv-python" if self.report["opencv"] else "")
        wheels = "".join(hashlib.sha256(path.read_bytes()).hexdigest() for path in self.plan.wheels())
        key = hashlib.sha256("\n".join([self.plan.python, wheels, *needs]).encode()).hexdigest()
        if self._ssh.run('cat -- "$1/venv/.edgevit"', self._folder).out == key:
            return DONE
        wheel = f"{self._folder}/wheels/{self.plan.wheel.name}"
        index = f"{self._folder}/wheelhouse" if self.plan.wheelhouse is not None else ""
        script = ["sh", "-c", _INSTALL, "install", self._folder, key, self.plan.python, wheel, index, *needs]
        self._job("install", key).run(*script, tell=self._saying("install"))
        self._job("install", key).forget()
        return f"edgevit and {', '.join(need.partition(';')[0].strip() for need in needs)}"

    def _push_bundle(self) -> str:
        """Into a folder beside, verified there, then moved: what runs there is never half a bundle."""
        name, folder = self.plan.name, self._folder
        if self._is_pushed() and self._state(f"{folder}/bundles/{name}"):
            return DONE
        options = [f"--copy-dest={folder}/bundles/{name}"] if self.plan.bundle.path.is_dir() else []
        sent = self._ssh.push(self.plan.bundle.path, f"{folder}/incoming/{name}", *options)
        arrived = self._state(f"{folder}/incoming/{name}")
        if arrived.get("manifest") != self.plan.digest:
            self._ssh.run('rm -rf -- "$1/incoming/$2"', folder, name)
            self._fail("what arrived there is not the bundle that was sent. Run the same command again")
        moved = self._ssh.run(_TAKE_OVER, folder, name, self.plan.digest)
        if moved.code:
            self._fail(f"the bundle cannot be put in its place: {moved.last}")
        return f"{self.plan.bytes / 1e6:.1f} MB, {_sent(sent)}"

    def _is_pushed(self) -> bool:
        return self._ssh.run('cat -- "$1/bundles/.pushed-$2"', self._folder, self.plan.name).out == self.plan.digest

    def _state(self, bundle: str) -> dict[str, str]:
        """Digest and engine of a bundle there; empty if it is not whole."""
        answer = self._ssh.run('exec "$1/venv/bin/python" -c "$2" "$3"', self._folder, _STATE, bundle)
        return dict(line.partition(" ")[::2] for line in answer.out.splitlines()) if answer.code == 0 else {}

    def _doctor(self) -> str:
        """Findings of the host itself. What stands in the way ends the deployment; warnings go into the report."""
        answer = self._edgevit("doctor", self._bundle, "--json")
        found = self._json(answer.out, "doctor", answer.last)
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
        state = self._state(self._bundle).get("engine")
        if state == "jit":
            self.report["compiled"] = None
            return f"{self.plan.bundle.manifest.engine} compiles at every start"
        if state == "compiled":
            return DONE
        job = self._job("compile", self.plan.digest)
        text = job.run(*self._command("compile", self._bundle, "--json"), tell=self._saying("compile"))
        self.report["compiled"] = self._json(text, "compile", "")
        job.forget()
        return f"{self.report['compiled']['version']}, {self.report['compiled']['seconds']:.0f} s"

    def _benchmark(self) -> str:
        """Frames of 1280x720 through the whole loop, as fast as it goes, with the board's own telemetry."""
        job = self._job("benchmark", self.plan.digest + str(self.plan.frames))
        source = SOURCE.format(self.plan.frames)
        command = self._command("run", self._bundle, source, "--policy", "every", "--headless", "--json")
        text = job.run(*command)
        self.report["benchmark"] = self._json(text.strip().rpartition("\n")[2], "benchmark", "")
        self._benchmarked = job
        return _speed(self.report["benchmark"])

    def _bring_back(self) -> str:
        """Report and, if it was compiled there, the bundle with its engine; only then is the measurement there forgotten."""
        folder = self.plan.out / self.host.name
        with storage_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
        if self.plan.ahead:
            slash = "/" if self.plan.bundle.path.is_dir() else ""
            self._ssh.fetch(f"{self._bundle}{slash}", folder / self.plan.name)
            self.report["bundle"] = str(folder / self.plan.name)
        path = folder / "report.json"
        with storage_errors(path):
            path.write_text(json.dumps(self.report, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        self._benchmarked.forget()
        return str(path)

    @property
    def _bundle(self) -> str:
        return f"{self._folder}/bundles/{self.plan.name}"

    def _command(self, *arguments: str) -> list[str]:
        """One of edgevit's commands there; a name that looks like an option stays a name, as paths are absolute."""
        return [f"{self._folder}/venv/bin/python", "-m", "edgevit", *arguments]

    def _edgevit(self, *arguments: str) -> Any:
        return self._ssh.run(shlex.join(self._command(*arguments)))

    def _job(self, what: str, key: str) -> Job:
        short = hashlib.sha256(f"{self.plan.name}\n{key}".encode()).hexdigest()[:16]
        return Job(ssh=self._ssh, folder=f"{self._folder}/jobs/{what}-{short}", what=what)

    def _json(self, text: str, what: str, otherwise: str) -> Any:
        try:
            return json.loads(text)
        except ValueError:
            self._fail(f"{what}: {otherwise or 'its answer cannot be read'}")

    def _saying(self, step: str) -> Callable[[str], None]:
        return lambda text: self.watcher.progress(self.host, step, text)

    def _broken(self) -> NoReturn:
        msg = f"{self.host.address}: the connection broke. Run the same command again: what is done is kept."
        raise LinkError(msg)

    def _fail(self, why: str) -> NoReturn:
        msg = f"{self.host.address}: {why}."
        raise RemoteError(msg)


def _sent(count: int) -> str:
    return f"{count / 1e6:.1f} MB sent" if count else DONE


def _speed(benchmark: dict[str, Any]) -> str:
    summary = benchmark["summary"]
    return f"{summary['fps']:.1f} fps" if summary.get("fps") else "measured"
