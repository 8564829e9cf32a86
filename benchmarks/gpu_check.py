"""One command for a machine with an NVIDIA GPU: does all that a machine without one could not check.

    python benchmarks/gpu_check.py pack FOLDER [--python 3.12] [--leave-out NAME ...] [--rtx]  # where there is a package index
    python benchmarks/gpu_check.py run [FOLDER] [--out gpu_check.json] [--limit-s 480]  # on the GPU machine, without a network

It compiles pycuda, runs the tests marked gpu, drives edgevit's GPU session over real kernels (a stand-in for TensorRT alone), and
compares training on CUDA with training on the CPU. Each step is a process of its own with a limit: what crashes or hangs is one
failed row. Without a GPU all is skipped, with exit code 0. Exit code 1 if a step failed.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.on_gpu import devices, environment, packing, rtx, session, tests
from benchmarks.on_gpu.running import Report, Row, Step, do, document, run_steps, table

ROOT = Path(__file__).resolve().parents[1]
STEPS = (
    Step(name="machine", does=environment.machine, limit_s=60),
    Step(name="environment", does=environment.environment, limit_s=90, needs=("machine",)),
    Step(name="pycuda", does=environment.pycuda, limit_s=240, needs=("environment",)),
    Step(name="tests", does=tests.tests, limit_s=150, needs=("environment",)),
    Step(name="speed", does=session.speed, limit_s=45, needs=("pycuda",)),
    Step(name="memory", does=session.memory, limit_s=60, needs=("pycuda",)),
    Step(name="prune", does=devices.prune, limit_s=75, needs=("environment",)),
    Step(name="finetune", does=devices.finetune, limit_s=90, needs=("environment",)),
    Step(name="rtx", does=rtx.rtx, limit_s=90, needs=("pycuda",)),
)
OLD_PYTHON = ("machine", "environment")
"""Steps that run before there is an environment."""


def run(folder: Path | None, out: Path, work: Path, limit_s: float) -> int:
    """Run all steps; returns the exit code."""
    work.mkdir(parents=True, exist_ok=True)
    rows: list[Row] = []

    def command(step: Step, path: Path) -> list[str]:
        python = sys.executable if step.name in OLD_PYTHON else str(environment.environment_python(work))
        packed = ["--folder", str(folder)] if folder else []
        return [python, __file__, "step", step.name, "--report", str(path), "--work", str(work), *packed]

    os.environ["PYTHONPATH"] = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    for row in run_steps(STEPS, command, work, limit_s):
        rows.append(row)
        print(f"{row.step}: {row.result} {row.reason}".rstrip(), f"({row.seconds:.0f} s)", flush=True)
        out.write_text(json.dumps(document(rows, limit_s), indent=2) + "\n", encoding="utf-8")  # at every step: it may be cut off
    for row in rows:
        if row.output:
            print(f"\n--- the end of what {row.step} printed\n{row.output}")
    print(f"\n{table(rows)}\n")
    unchecked = [row.step for row in rows if row.result == "skipped"]
    if unchecked:
        print(f"not checked here: {', '.join(unchecked)}")
    print(out)
    return int(any(row.result == "failed" for row in rows))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(dest="verb", required=True)
    verb = verbs.add_parser("pack", help="fill FOLDER with what the machine will need")
    verb.add_argument("folder", type=Path)
    verb.add_argument("--python", default="3.12", help="of the GPU machine; 3.12 by default")
    verb.add_argument("--leave-out", nargs="+", default=[], metavar="NAME", help="distributions that the machine has")
    verb.add_argument("--rtx", action="store_true", help="TensorRT-RTX, too: 97 MiB")
    verb = verbs.add_parser("run", help="run all steps")
    verb.add_argument("folder", type=Path, nargs="?", help="what pack made; without it, what is installed must do")
    verb.add_argument("--out", type=Path, default=Path("gpu_check.json"))
    verb.add_argument("--work", type=Path, default=Path.home() / ".cache" / "edgevit-gpu-check", help="kept for a second run")
    verb.add_argument("--limit-s", type=float, default=480, help="seconds that all steps may take together; 480 by default")
    verb = verbs.add_parser("step", help="run one step in this process")
    verb.add_argument("name", choices=[step.name for step in STEPS])
    verb.add_argument("--report", type=Path, required=True)
    verb.add_argument("--work", type=Path, required=True)
    verb.add_argument("--folder", type=Path)
    args = parser.parse_args()
    if args.verb == "pack":
        packing.pack(args.folder, python=args.python, leave_out=args.leave_out, rtx=args.rtx)
        sizes = [path.stat().st_size for path in args.folder.iterdir()]
        print(f"{args.folder}: {sum(sizes) / 2**20:.0f} MiB in {len(sizes)} files of at most {packing.PART // 2**20} MiB")
    elif args.verb == "step":
        (step,) = (step for step in STEPS if step.name == args.name)
        sys.exit(do(step, Report(path=args.report, work=args.work, packed=args.folder)))
    else:
        sys.exit(run(args.folder and args.folder.resolve(), args.out.resolve(), args.work.resolve(), args.limit_s))


if __name__ == "__main__":
    main()
