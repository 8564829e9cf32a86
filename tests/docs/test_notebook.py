"""The notebook is run without a screen, from its first cell to its last, on what stands for the demo's results."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest

from tests.support import ROOT

nbformat = pytest.importorskip("nbformat")
nbclient = pytest.importorskip("nbclient")
pytest.importorskip("ipykernel")
pytest.importorskip("matplotlib")

NOTEBOOK = ROOT / "docs" / "tutorial" / "first-steps.ipynb"


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory, bundle_path: Path, image_folder: Path) -> list[dict[str, object]]:
    """Its code cells after a run in a folder that holds a bundle and images where the demo has them."""
    folder = tmp_path_factory.mktemp("notebook")
    shutil.copytree(bundle_path, folder / "edgevit-demo" / "digits.edgevit")
    shutil.copytree(image_folder, folder / "edgevit-demo" / "digits" / "test")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(ROOT))
        patch.setenv("EDGEVIT_CACHE", str(folder / "cache"))
        patch.setenv("JUPYTER_PLATFORM_DIRS", "1")  # as jupyter_core asks, or it warns
        notebook = nbformat.read(NOTEBOOK, as_version=4)
        nbclient.NotebookClient(notebook, timeout=120, resources={"metadata": {"path": str(folder)}}).execute()
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def outputs(cell: dict[str, object]) -> str:
    return json.dumps(cell["outputs"])


@pytest.mark.slow
def test_notebook_runs_and_shows_what_it_says(ran: list[dict[str, object]]) -> None:
    loaded, classified, counted, compared, told, plotted, seen = ran[:7]
    assert "96" in outputs(loaded)
    assert "Prediction" in outputs(classified)
    share = re.search(r"(\d+) of 96 right", outputs(counted))
    assert share is not None
    assert int(share[1]) > 70  # a third by chance
    assert "<table" in outputs(compared)
    assert "int8" in outputs(told)
    assert "image/png" in outputs(plotted)
    assert "image/png" in outputs(seen) or "<img" in outputs(seen)


def test_notebook_is_kept_with_what_it_showed() -> None:
    """The site shows that; `make screenshots` runs it anew on the demo's own results."""
    cells = [cell for cell in json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"] if cell["cell_type"] == "code"]
    assert len(cells) >= 7
    assert [cell["source"] for cell in cells[:-1] if not cell["outputs"]] == []
    assert NOTEBOOK.stat().st_size < 300_000
