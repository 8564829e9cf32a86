"""A sweep: its points and their names, what it writes, what it leaves undone, and that it goes on."""

from __future__ import annotations

import json
import shlex
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edgevit import compare, sweep
from edgevit.bundle import MODEL, open_bundle
from edgevit.cache import Cache
from edgevit.commands.sweep_points import Axes, Point, axes_of, points_of
from edgevit.errors import CheckpointError, ConfigError, DataError
from edgevit.measure.front import pareto
from tests.support import COMMAND, Outcome, python

Edgevit = Callable[..., Outcome]


def names(*models: str, common: dict[str, Any] | None = None, **axes: Any) -> list[str]:
    return [point.name for point in points_of([Path(model) for model in models], axes_of(None, **axes), common or {})]


def test_every_combination_once_behind_fp32() -> None:
    assert names("m.pt") == ["fp32", "int8"]
    assert names("m.pt", recipes="default,fast", prune=[0, 0.2, 0.125], precisions="int8,fp32") == [
        "fp32", "int8", "int8@fast", "int8+prune20", "int8+prune20@fast", "int8+prune12.5", "int8+prune12.5@fast",
        "fp32+prune20", "fp32+prune20@fast", "fp32+prune12.5", "fp32+prune12.5@fast",
    ]  # fmt: skip
    assert names("m.pt", merge=["none,0.35,64@2,64@5"], speedup="1.5,2") == [
        "fp32", "int8", "int8+merge35", "int8+merge64@2,64@5", "int8+speedup1.5", "int8+speedup2",
    ]  # fmt: skip
    assert names("a/small.pt", "base/") == ["small-fp32", "small-int8", "base-fp32", "base-int8"]


@pytest.mark.parametrize(
    ("axes", "said"),
    [
        ({"prune": "0.2,much"}, r"--prune: 'much' is not one of its values: 0, 0.2 or auto"),
        ({"merge": "auto"}, r"--merge: 'auto' is not one of its values"),
        ({"prune": "2"}, r"--prune: '2' is not one of its values: .*\. Did you mean 2%\?"),
        ({"prune": [1.5]}, r"--prune: 1.5 is not one of its values"),
        ({"merge": "35"}, r"--merge: '35' is not one of its values: .*\. Did you mean 35%\?"),
        ({"speedup": "150%"}, r"--speedup: '150%' is not one of its values: 1.5"),
        ({"speedup": "0"}, r"--speedup: '0' is not one of its values: 1.5"),
        ({"speedup": "nan"}, r"--speedup: 'nan'"),
        ({"precisions": "int9"}, r"--precisions: unknown 'int9'. Did you mean 'int8'"),
        ({"recipes": ","}, r"--recipes: unknown ''"),
        ({"recipes": []}, r"--recipes: nothing is named"),
    ],
)
def test_values_that_no_build_takes(axes: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        axes_of(None, **axes)


def test_shares_are_read_as_everywhere() -> None:
    """In both forms: the points and their commands are the same."""
    assert axes_of(None, prune="0,20%", merge="none,35%") == axes_of(None, prune=[0, 0.2], merge=["none", 0.35])


def test_names_that_could_not_be_told_apart() -> None:
    with pytest.raises(ConfigError, match="two models are called 'm'"):
        names("a/m.pt", "b/m.pt")
    with pytest.raises(ConfigError, match="two recipes are called 'fast'"):
        names("m.pt", recipes="fast,mine/fast.toml")


def test_a_grid_of_a_file(tmp_path: Path) -> None:
    grid = tmp_path / "grid.toml"
    grid.write_text('recipes = ["default", "fast"]\nprune = [0, 0.2]\nmerge = ["none", "64@2,64@5"]\n')
    assert axes_of(grid) == Axes(recipes=("default", "fast"), prune=(None, 0.2), merge=(None, "64@2,64@5"))
    assert axes_of(grid, prune="auto").prune == ("auto",), "options come before it"
    for text, said in (
        ("prunes = [0.2]\n", "unknown key prunes. Did you mean 'prune'"),
        ("prune = [true]\n", "prune: expected a list of values"),
        ('prune = "x"\n', r"grid.toml: prune: 'x' is not one"),
        ("prune = [\n", "not a readable TOML file"),
    ):
        grid.write_text(text)
        with pytest.raises((ConfigError, TypeError), match=said):
            axes_of(grid)


def test_a_points_command_is_what_its_arguments_are() -> None:
    common = {"data": Path("my train"), "eval_data": None, "eval_limit": 1024, "max_drop": 0.5, "target": "cpu",
              "image_size": (224, 196), "mean": (0.5, 0.4, 0.3), "prompt": ("a {}", "the {}")}  # fmt: skip
    point = Point(model=Path("m.pt"), precision="int8", recipe="fast", prune=0.2, common=common)
    assert shlex.split(point.command()) == [
        "edgevit", "build", "m.pt", "--data", "my train", "--image-size", "224x196", "--mean", "0.5,0.4,0.3", "--prompt", "a {}",
        "--prompt", "the {}", "--recipe", "fast", "--prune", "0.2", "-o", "int8+prune20@fast.edgevit",
    ]  # fmt: skip
    assert "--max-drop 0.5" in Point(model=Path("m"), precision="auto", common=common).command()
    assert "--max-drop 0.5" in Point(model=Path("m"), precision="int8", prune="auto", common=common).command()


@pytest.mark.parametrize(
    ("costs", "gains", "front"),
    [
        ([1, 2, 3], [1, 2, 3], [0, 1, 2]),
        ([3, 2, 1], [1, 2, 3], [2]),
        ([1, 1, 2], [5, 6, 6], [1]),
        ([2, 1, 1], [0, 0, 0], [1]),
        ([], [], []),
    ],
)
def test_the_front(costs: list[float], gains: list[float], front: list[int]) -> None:
    assert pareto(costs, gains) == front
    better = [
        i
        for i in range(len(costs))
        if not any(
            costs[j] <= costs[i] and gains[j] >= gains[i] and (costs[j] < costs[i] or gains[j] > gains[i] or j < i)
            for j in range(len(costs))
            if j != i
        )
    ]
    assert sorted(front) == better


@pytest.fixture
def given(checkpoint_path: Path, image_folder: Path, tmp_path: Path) -> list[object]:
    return ["sweep", checkpoint_path, "--data", image_folder, "--recipes", "fast,minmax", "--prune", "0,0.3", "--runs", 5,
            "--threads", 1, "--workers", 2, "-o", tmp_path / "swept"]  # fmt: skip


POINTS = ["fp32", "int8@fast", "int8@minmax", "int8+prune30@fast", "int8+prune30@minmax"]


def test_a_sweep_and_its_reports(given: list[object], edgevit: Edgevit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    planned = edgevit(*given, "--dry-run", "--json").json
    assert [(point["name"], point["done"]) for point in planned["points"]] == [(name, False) for name in POINTS]
    assert not (tmp_path / "swept").exists()
    printed = edgevit(*given)
    assert printed.code == 0, printed.stderr
    out = tmp_path / "swept"
    found = json.loads((out / "sweep.json").read_text())
    assert [point["name"] for point in found["points"]] == POINTS
    for point in found["points"]:
        bundle = open_bundle(out / f"{point['name']}.zip")
        bundle.verify()
        assert bundle.manifest.files[MODEL].sha256 == point["measured"]["sha256"]
        assert (bundle.manifest.recipe["name"], bundle.manifest.latency) == (point["name"].partition("@")[2] or "default", None)
        assert point["measured"]["latency"]["p50_ms"] > 0
    assert {"time", "size"} <= {name for point in found["points"] for name in point["fronts"]}
    page = (out / "sweep.html").read_text()
    for name in POINTS:
        assert page.count(name) >= 3
        assert name in printed.stdout
    assert ("<polyline" in page) == (sum("time" in point["fronts"] for point in found["points"]) > 1)
    assert (out / "sweep.svg").read_text().startswith("<svg xmlns=")
    assert found["sweep"]["command"] in printed.stdout
    # Of the best, its command builds the very same graph.
    monkeypatch.chdir(tmp_path)
    best = next(point for point in found["points"] if point["name"] == "int8+prune30@fast")
    assert edgevit(*shlex.split(best["command"])[1:]).code == 0
    made = open_bundle(tmp_path / "int8+prune30@fast.edgevit").manifest
    assert made.files[MODEL].sha256 == best["measured"]["sha256"]
    assert [point["done"] for point in edgevit(*given, "--dry-run", "--json").json["points"]] == [True] * 5


def test_a_point_that_cannot_be_built_is_a_row(
    checkpoint_path: Path, image_folder: Path, edgevit: Edgevit, tmp_path: Path
) -> None:  # fmt: skip
    printed = edgevit("sweep", checkpoint_path, "--data", image_folder, "--merge", "none,4@99", "--runs", 5, "--threads", 1,
                      "--workers", 1, "--recipes", "fast", "-o", tmp_path / "swept", "--json")  # fmt: skip
    assert printed.code == 0, printed.stderr
    points = {point["name"]: point for point in printed.json["points"]}
    failed = points["int8+merge4@99@fast"]
    assert failed["row"] is None
    assert "99" in failed["reason"]
    assert points["int8@fast"]["measured"] is not None
    assert "not built" in (tmp_path / "swept" / "sweep.html").read_text()


def test_what_is_wrong_with_all_points_is_an_error(image_folder: Path, checkpoint_path: Path, tmp_path: Path) -> None:
    given: dict[str, Any] = {"out": tmp_path / "swept", "workers": 1, "threads": 1}
    with pytest.raises(CheckpointError, match="gone"):
        sweep(tmp_path / "gone.safetensors", data=image_folder, **given)
    with pytest.raises(DataError, match="nowhere"):
        sweep(checkpoint_path, data=tmp_path / "nowhere", **given)
    with pytest.raises(ConfigError, match="Did you mean 'fast'"):
        sweep(checkpoint_path, data=image_folder, recipes="fats", **given)
    with pytest.raises(TypeError, match="name at least one model"):
        sweep(data=image_folder)
    foreign = tmp_path / "swept" / "sweep.json"
    foreign.parent.mkdir(exist_ok=True)
    foreign.write_text('{"mine": 1}')
    with pytest.raises(ConfigError, match="holds something else"):
        sweep(checkpoint_path, data=image_folder, **given)
    assert foreign.read_text() == '{"mine": 1}'


def test_a_killed_sweep_goes_on(given: list[object], edgevit: Edgevit, tmp_path: Path, cache_dir: Path) -> None:
    """SIGKILL when a few points are built: those stay as they are, the others come, and the figures are those of one run."""
    out = tmp_path / "swept"
    with python(COMMAND, *given) as process:
        until = time.monotonic() + 60
        while len(list(cache_dir.glob("sweep-point/[0-9a-f]*"))) < 2 and time.monotonic() < until:
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
        process.wait(timeout=10)
    before = {path.name: path.stat().st_mtime_ns for path in out.glob("*.zip")}
    kept = len(list(cache_dir.glob("sweep-point/[0-9a-f]*")))
    assert 2 <= kept < 5
    done = [point["name"] for point in edgevit(*given, "--dry-run", "--json").json["points"] if point["done"]]
    assert len(done) == kept
    printed = edgevit(*given, "--json")
    assert printed.code == 0, printed.stderr
    after = {path.name: path.stat().st_mtime_ns for path in out.glob("*.zip")}
    assert all(after[f"{name}.zip"] == before[f"{name}.zip"] for name in done)
    assert len(after) == 5
    # And they are what one process finds in the bundles.
    alone = compare(*[out / f"{name}.zip" for name in POINTS], data=given[3], threads=1, runs=5, cache=False).to_dict()["rows"]
    for point, row in zip(printed.json["points"], json.loads(json.dumps(alone)), strict=True):
        assert {key: point["measured"][key] for key in ("sha256", "accuracy", "change")} == {
            key: row[key] for key in ("sha256", "accuracy", "change")
        }


def test_a_bundle_that_was_changed_is_built_again(
    checkpoint_path: Path, image_folder: Path, tmp_path: Path, cache_dir: Path
) -> None:  # fmt: skip
    given: dict[str, Any] = {"data": image_folder, "out": tmp_path / "swept", "workers": 1, "threads": 1, "runs": 5,
                             "precisions": "fp32", "cache": Cache(root=cache_dir)}  # fmt: skip
    assert len(sweep(checkpoint_path, **given).points) == 1
    path = tmp_path / "swept" / "fp32.zip"
    first, content = path.stat().st_mtime_ns, path.read_bytes()
    found = sweep(checkpoint_path, **given)
    assert path.stat().st_mtime_ns == first
    assert "1 points" in repr(found)
    assert "fp32" in found._repr_html_()
    assert found.rows[0]["point"] == "fp32"
    path.unlink()
    sweep(checkpoint_path, **given)
    assert len(path.read_bytes()) == pytest.approx(len(content), rel=0.1)
