"""The Arm computer that these tests run on: made once, in the folder that `make test-arm` names, and kept."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.arm.boards import lay_out
from tests.arm.machine import Arm, lacking, refused
from tests.arm.root import make_root


@pytest.fixture(scope="session")
def arm(tmp_path_factory: pytest.TempPathFactory) -> Arm:
    """The computer, with this edgevit installed. What is below pytest's own folder of temporary files is on it, too."""
    folder = os.environ.get("EDGEVIT_ARM", "")
    if not folder:
        pytest.skip("takes minutes, and a Debian for Arm: make test-arm")
    shared = tmp_path_factory.getbasetemp().resolve()
    if why := lacking() or refused():
        pytest.skip(why)
    home = Path(folder).resolve()
    made = Arm(root=home / "root", shared=shared)
    make_root(home, made)
    lay_out(made.root)
    return made
