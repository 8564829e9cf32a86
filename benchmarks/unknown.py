"""How well a bundle tells unknown objects: its distance against low confidence, on images of what it knows and of something else.

    python benchmarks/unknown.py BUNDLE --known DIR --unknown DIR [--unknown DIR ...] [--limit 500]

The known images must be others than those that the bundle was built with.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from edgevit.bundle import open_bundle
from edgevit.cli.console import table
from edgevit.engine.of_bundle import session_of
from edgevit.images.dataset import load_images
from edgevit.measure.statistics import auroc
from edgevit.runtime.classify import softmax

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from edgevit.bundle import Bundle
    from edgevit.engine.base import Session

RATES = (0.01, 0.05)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--known", type=Path, required=True)
    parser.add_argument("--unknown", type=Path, required=True, action="append")
    parser.add_argument("--limit", type=int, default=500)
    args = parser.parse_args()
    bundle, rows = open_bundle(args.bundle), []
    with session_of(bundle) as session:
        usual = scores(bundle, session, args.known, args.limit)
        for folder in args.unknown:
            other = scores(bundle, session, folder, args.limit)
            areas = [auroc(usual[name], other[name]) for name in ("distance", "doubt")]
            found = [f"{100 * np.mean(other['typicality'] <= rate):.0f} %" for rate in RATES]
            rows.append((folder.name, str(len(other["doubt"])), *(f"{area:.3f}" for area in areas), *found))
    alarms = ", ".join(f"{100 * np.mean(usual['typicality'] <= rate):.1f} % at {rate:.0%}" for rate in RATES)
    columns = ("unknown", "images", "AUROC by distance", "by 1 - max softmax", *(f"found at {rate:.0%}" for rate in RATES))
    table(f"{args.bundle.name}, {bundle.manifest.precision}", columns, rows)
    print(f"false alarms on {len(usual['doubt'])} images of {args.known.name}: {alarms}; built with {bundle.manifest.known}")


def scores(bundle: Bundle, session: Session, folder: Path, limit: int) -> dict[str, NDArray[np.float64]]:
    """Of each image: how far away it is, how rare that is, and how unsure the model is of its class."""
    known = bundle.known()
    assert known is not None
    images = load_images(folder).held_out(limit, 0, ())
    distances, doubts = [], []
    for frame in images.prepared(bundle.manifest.preprocessing):
        logits = session.infer(frame)
        assert session.features is not None
        distances.append(float(known.distance(session.features, logits.argmax(-1))[0]))
        doubts.append(1 - float(softmax(logits).max()))
    return {
        "distance": np.array(distances),
        "doubt": np.array(doubts),
        "typicality": np.array([*map(known.typicality, distances)]),
    }


if __name__ == "__main__":
    main()
