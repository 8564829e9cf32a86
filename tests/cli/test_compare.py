"""`edgevit compare` as it is used: several models, files to write, a run that is killed and goes on, and wrong requests."""

from __future__ import annotations

import errno
import os
import re
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from edgevit.files import writing
from tests.support import COMMAND, python, write_images

RUN = ("--runs", 5, "--threads", 1, "--engines", "onnxruntime")


@pytest.fixture(scope="module")
def ruined_path(checkpoint_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The checkpoint with the head's rows of two classes exchanged: a model that is measurably worse."""
    from edgevit.model.checkpoint import load_checkpoint, save_checkpoint

    whole = load_checkpoint(checkpoint_path)
    with torch.no_grad():
        for value in whole.model.head.parameters():
            value.copy_(value[[1, 0, 2]].clone())
    path = tmp_path_factory.mktemp("ruined") / "ruined.safetensors"
    save_checkpoint(whole.model, path, preprocessing=whole.preprocessing, labels=whole.labels)
    return path


def test_every_precision_of_a_checkpoint(edgevit: Callable[..., Any], checkpoint_path: Path, image_folder: Path) -> None:
    precisions = "fp32,fp16,int8-linear,int8"
    outcome = edgevit("compare", checkpoint_path, "--data", image_folder, "--precisions", precisions, *RUN, "--json")
    assert outcome.code == 0, outcome.stderr
    rows = outcome.json["rows"]
    assert [row["precision"] for row in rows] == precisions.split(",")
    assert [row["name"] for row in rows] == precisions.split(",")
    assert rows[1]["bytes"] < 0.6 * rows[0]["bytes"]
    assert rows[1]["accuracy"]["sqnr_db"] > rows[3]["accuracy"]["sqnr_db"] > 20
    assert rows[0]["change"] is None
    for row in rows[1:]:
        low, high = row["change"]["interval"]
        assert low <= row["change"]["difference"] <= high
        assert row["startup"]["peak_mib"] > 20
        assert row["latency"]["per_second"] > 0
    assert outcome.json["recommendation"]["row"] in range(4)
    assert any("CPU engines still compute in FP32" in note for note in outcome.json["notes"])


def test_a_model_that_lost_is_told_from_one_that_did_not(
    edgevit: Callable[..., Any], checkpoint_path: Path, ruined_path: Path, image_folder: Path, tmp_path: Path
) -> None:
    """McNemar says there is a difference for the ruined model, none for INT8; the ruined one is never recommended."""
    outcome = edgevit(
        "compare", checkpoint_path, ruined_path, "--data", image_folder, "--precisions", "fp32,int8", *RUN, "--json"
    )
    assert outcome.code == 0, outcome.stderr
    rows = {row["name"]: row for row in outcome.json["rows"]}
    assert list(rows) == ["tiny fp32", "tiny int8", "ruined fp32", "ruined int8"]
    assert rows["tiny int8"]["change"]["p"] > 0.05
    assert rows["ruined fp32"]["change"]["p"] < 0.05
    assert rows["ruined fp32"]["change"]["difference"] < 0
    headline = outcome.json["recommendation"]["headline"]
    assert headline.startswith("Too few images to tell: 32 images cannot rule out that tiny ")
    assert re.search(r"\. (Keep|By speed alone) tiny ", headline)
    assert outcome.json["recommendation"]["enough"] is False
    assert any(
        reason.startswith("ruined") and "measurably worse" in reason for reason in outcome.json["recommendation"]["reasons"]
    )
    people = edgevit("compare", checkpoint_path, ruined_path, "--data", image_folder, "--precisions", "fp32,int8", *RUN)
    assert people.stdout.startswith("Too few images to tell: 32 images cannot rule out that tiny ")
    assert re.search(r"ruined fp32 +onnxruntime +[\d.]+ +[\d.]+ +-[\d.]+!", people.stdout)
    assert "!: measurably worse" in people.stdout


def test_all_files(edgevit: Callable[..., Any], bundle_path: Path, image_folder: Path, tmp_path: Path) -> None:
    files = {kind: tmp_path / f"report.{kind}" for kind in ("html", "markdown", "csv")}
    options = [item for kind, path in files.items() for item in (f"--{kind}", path)]
    outcome = edgevit("compare", bundle_path, "--data", image_folder, *RUN, *options)
    assert outcome.code == 0, outcome.stderr
    headline = outcome.stdout.splitlines()[0]
    assert "measurably worse (McNemar" not in outcome.stdout  # no row bears the mark, so nobody need know it
    assert "ECE" not in outcome.stdout
    html = files["html"].read_text(encoding="utf-8")
    assert "Where the time goes" in html
    assert "Noise that quantization adds, by block" in html
    assert "block 1" in html
    assert headline[:8] in html
    assert files["markdown"].read_text(encoding="utf-8").startswith(f"**{headline[:8]}")
    assert files["csv"].read_text(encoding="utf-8").count("\n") == 3
    assert all(f"Written: {path}" in outcome.stdout for path in files.values())


def test_other_images_to_calibrate_on(
    edgevit: Callable[..., Any], checkpoint_path: Path, image_folder: Path, tmp_path: Path
) -> None:
    """Then all of --data is compared on, but for what was calibrated on."""
    fresh = write_images(tmp_path / "fresh", 4, first=500)
    options = ("--calibration", image_folder, *RUN, "--json")
    assert edgevit("compare", checkpoint_path, "--data", fresh, *options).json["conditions"]["images"] == 12
    same = edgevit("compare", checkpoint_path, "--data", image_folder, *options).json
    assert same["conditions"]["images"] == 32
    # A processor with bfloat16 tells what it chose, too.
    notes = [note for note in same["notes"] if not note.startswith("int8: form: ")]
    assert notes == [f"64 images of {image_folder} were calibrated on and are left out"]


def test_without_labels(edgevit: Callable[..., Any], bundle_path: Path, tmp_path: Path) -> None:
    flat = tmp_path / "flat"
    flat.mkdir()
    for path in write_images(tmp_path / "classes", 3, first=700).rglob("*.png"):
        path.rename(flat / f"{path.parent.name}{path.name}")
    document = edgevit("compare", bundle_path, "--data", flat, *RUN, "--json").json
    assert document["rows"][1]["change"] is None
    assert document["rows"][1]["accuracy"]["top1"] is None


def test_a_killed_comparison_goes_on(edgevit: Callable[..., Any], bundle_path: Path, tmp_path: Path, cache_dir: Path) -> None:
    """SIGKILL when the first logits are on disk: the same command keeps them and ends with what a whole run gives."""
    data = write_images(tmp_path / "many", 150, first=2000)
    arguments = ("compare", bundle_path, "--data", data, *RUN, "--json")
    logits = cache_dir / "logits"
    with python(COMMAND, *arguments) as process:
        end = time.monotonic() + 60
        while not (logits.is_dir() and any(not path.name.startswith(".") for path in logits.iterdir())):
            assert time.monotonic() < end
            assert process.poll() is None
            time.sleep(0.002)
        process.send_signal(signal.SIGKILL)
        process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL
    kept = {path.name: path.stat().st_ino for path in logits.iterdir() if not path.name.startswith(".")}
    assert 1 <= len(kept) < 8  # two variants of 450 images in chunks of 128
    outcome = edgevit(*arguments)
    assert outcome.code == 0, outcome.stderr
    assert {name: (logits / name).stat().st_ino for name in kept} == kept  # not computed again
    whole = edgevit(*arguments, "--no-cache").json
    assert [row["accuracy"] for row in outcome.json["rows"]] == [row["accuracy"] for row in whole["rows"]]
    assert [row["change"] for row in outcome.json["rows"]] == [row["change"] for row in whole["rows"]]


# --- wrong requests ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("precisions", "words"),
    [
        ("fp31", "--precisions: unknown 'fp31'. Did you mean 'fp32'?"),
        ("int8-linear", "this bundle holds fp32, int8, not int8-linear. Give the checkpoint"),
    ],
)
def test_wrong_precisions(
    edgevit: Callable[..., Any], bundle_path: Path, image_folder: Path, precisions: str, words: str
) -> None:
    outcome = edgevit("compare", bundle_path, "--data", image_folder, "--precisions", precisions)
    assert outcome.code == 2
    assert words in outcome.stderr


def test_a_precision_that_only_one_model_has(
    edgevit: Callable[..., Any], bundle_path: Path, checkpoint_path: Path, image_folder: Path
) -> None:
    """The other model goes without it, and a note says so."""
    options = ("--data", image_folder, "--precisions", "fp32,fp16", *RUN, "--json")
    document = edgevit("compare", checkpoint_path, bundle_path, *options).json
    assert [row["precision"] for row in document["rows"]] == ["fp32", "fp16", "fp32"]
    assert any("holds no fp16: left out for it" in note for note in document["notes"])


def test_mixed_of_a_checkpoint(edgevit: Callable[..., Any], checkpoint_path: Path, image_folder: Path) -> None:
    outcome = edgevit("compare", checkpoint_path, "--data", image_folder, "--precisions", "mixed")
    assert outcome.code == 2
    assert "mixed is what build --max-drop makes" in outcome.stderr


def test_the_same_model_twice(edgevit: Callable[..., Any], bundle_path: Path, image_folder: Path) -> None:
    outcome = edgevit("compare", bundle_path, bundle_path, "--data", image_folder)
    assert outcome.code == 2
    assert "given twice. Name each model once." in outcome.stderr


def test_models_of_other_classes(edgevit: Callable[..., Any], checkpoint_path: Path, image_folder: Path, tmp_path: Path) -> None:
    from edgevit.model.checkpoint import load_checkpoint, save_checkpoint

    whole, other = load_checkpoint(checkpoint_path), tmp_path / "other.safetensors"
    save_checkpoint(whole.model, other, preprocessing=whole.preprocessing, labels=("a", "b", "c"))
    outcome = edgevit("compare", checkpoint_path, other, "--data", image_folder, "--precisions", "fp32")
    assert outcome.code == 2
    assert "other: not the classes of tiny (3 and 3). Compare models of the same task only." in outcome.stderr


def test_unwritable_report(edgevit: Callable[..., Any], bundle_path: Path, image_folder: Path, tmp_path: Path) -> None:
    """Said before minutes of measuring."""
    (tmp_path / "file").write_text("x")
    outcome = edgevit("compare", bundle_path, "--data", image_folder, "--html", tmp_path / "file" / "report.html")
    assert outcome.code == 9
    assert "cannot write" in outcome.stderr
    assert "evaluate" not in outcome.stderr


def test_the_folder_of_a_report_is_made(
    edgevit: Callable[..., Any], bundle_path: Path, image_folder: Path, tmp_path: Path
) -> None:
    path = tmp_path / "reports" / "of today" / "rows.csv"
    outcome = edgevit("compare", bundle_path, "--data", image_folder, *RUN, "--csv", path)
    assert outcome.code == 0, outcome.stderr
    assert path.read_text(encoding="utf-8").startswith("precision,")


def test_a_report_that_cannot_be_written_loses_no_figure(
    edgevit: Callable[..., Any], bundle_path: Path, image_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk is full when it is written: the table is out by then, other files are written, the hint names the option."""
    put = writing.put

    def full(fresh: Path, path: Path, **options: Any) -> None:
        if path.suffix == ".md":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        put(fresh, path, **options)

    monkeypatch.setattr(writing, "put", full)
    options = ("--markdown", tmp_path / "a.md", "--csv", tmp_path / "a.csv")
    outcome = edgevit("compare", bundle_path, "--data", image_folder, *RUN, *options)
    assert outcome.code == 9
    assert re.search(r"int8 +onnxruntime +[\d.]+", outcome.stdout)
    assert f"{tmp_path / 'a.md'}: cannot write: No space left on device" in outcome.stderr
    assert "choose another place with --markdown." in outcome.stderr
    assert (tmp_path / "a.csv").is_file()
    outcome = edgevit("compare", bundle_path, "--data", image_folder, *RUN, *options, "--json")
    assert (outcome.code, len(outcome.json["rows"])) == (9, 2)


def test_a_sample_says_how_it_was_drawn(edgevit: Callable[..., Any], bundle_path: Path, tmp_path: Path) -> None:
    """Sixty discs, six squares, six stripes: eighteen of them in proportion, not six of each; what is uneven is said first."""
    data = write_images(tmp_path / "data", 60, first=3000)
    for kind in ("square", "stripes"):
        for path in sorted((data / kind).iterdir())[6:]:
            path.unlink()
    outcome = edgevit("compare", bundle_path, "--data", data, "--limit", 18, *RUN)
    assert outcome.code == 0, outcome.stderr
    assert f"18 of 72 images of {data}, drawn in proportion to their classes, seed 0" in outcome.stdout
    document = edgevit("compare", bundle_path, "--data", data, "--limit", 18, *RUN, "--json").json
    classes = {item["label"]: item["images"] for item in document["rows"][1]["change"]["classes"]}
    assert abs(classes["disc"] - 15) <= 1
    assert (document["conditions"]["population"], document["conditions"]["images"]) == (72, 18)
    whole = edgevit("compare", bundle_path, "--data", data, *RUN)
    assert whole.stdout.startswith("Check first: the classes are uneven, from 6 images (square) to 60 (disc): ")


def test_images_unlike_those_of_the_build_are_said_first(
    edgevit: Callable[..., Any], checkpoint_path: Path, image_folder: Path, tmp_path: Path
) -> None:
    """The manifest's own figure against folders whose names were exchanged; in text, HTML and Markdown, and which would fit."""
    bundle, data = tmp_path / "b.edgevit", write_images(tmp_path / "data", 40, first=4000)
    assert edgevit("build", checkpoint_path, "--data", image_folder, "--eval-data", data, "-o", bundle).code == 0
    for old, new in (("disc", "x"), ("square", "disc"), ("stripes", "square"), ("x", "stripes")):
        (data / old).rename(data / new)
    options = ("--html", tmp_path / "a.html", "--markdown", tmp_path / "a.md")
    outcome = edgevit("compare", bundle, "--data", data, *RUN, *options)
    assert outcome.code == 0, outcome.stderr
    first, second, third = outcome.stdout.splitlines()[:3]
    assert first.startswith("Check first: these images are not like those at build time: fp32 has ")
    assert re.search(r"% of 120 right, and then had [\d.]+ % of 120\.", first)
    assert "no better than chance" in second
    assert third.startswith("Check first: the labels may be in another order: ")
    assert "square is answered stripes" in third
    for path in (tmp_path / "a.html", tmp_path / "a.md"):
        text = path.read_text(encoding="utf-8")
        assert text.index("not like those at build time") < text.index("int8")


def test_a_checkpoint_at_chance_is_said_first(
    edgevit: Callable[..., Any], ruined_path: Path, image_folder: Path, tmp_path: Path
) -> None:
    """Or one whose labels are exchanged: by build, before its notes, and in the manifest."""
    data = write_images(tmp_path / "data", 40, first=5000)
    outcome = edgevit("build", ruined_path, "--data", image_folder, "--eval-data", data, "-o", tmp_path / "b.edgevit")
    assert outcome.code == 0, outcome.stderr
    # Which of the two depends on the last bits of a training that lasts a second.
    said = outcome.stdout.splitlines()[0]
    assert said.startswith("Check first: ")
    assert "the labels may be in another order" in said or "no better than chance" in said
    notes = edgevit("inspect", tmp_path / "b.edgevit", "--json").json["notes"]
    assert notes[0] in outcome.stdout


def test_a_pruned_precision(edgevit: Callable[..., Any], checkpoint_path: Path, image_folder: Path) -> None:
    """It is pruned and quantized on images that are then left out; what went is noted."""
    options = ("--data", image_folder, "--precisions", "fp32,fp32+prune20,int8+prune30", *RUN, "--json")
    outcome = edgevit("compare", checkpoint_path, *options)
    assert outcome.code == 0, outcome.stderr
    rows = {row["precision"]: row for row in outcome.json["rows"]}
    assert list(rows) == ["fp32", "fp32+prune20", "int8+prune30"]
    assert rows["fp32+prune20"]["bytes"] < rows["fp32"]["bytes"]
    assert rows["fp32+prune20"]["accuracy"]["agreement"] > 0.7
    assert outcome.json["conditions"]["images"] == 32  # of 96: the 64 of calibration are among those pruned on
    for share, name in ((20, "fp32+prune20"), (30, "int8+prune30")):
        note = next(note for note in outcome.json["notes"] if note.startswith(f"{name}: pruned: "))
        assert share <= float(note.split()[2]) < share + 15
    assert f"64 images of {image_folder} were calibrated or fitted on and are left out" in outcome.json["notes"]


def test_a_merged_precision(edgevit: Callable[..., Any], checkpoint_path: Path, image_folder: Path) -> None:
    """Alone, and after pruning, whatever order they are named in."""
    names = ("fp32", "int8+merge10", "int8+merge3+prune20")
    outcome = edgevit("compare", checkpoint_path, "--data", image_folder, "--precisions", ",".join(names), *RUN, "--json")
    assert outcome.code == 0, outcome.stderr
    assert [row["precision"] for row in outcome.json["rows"]] == list(names)
    notes = [note for note in outcome.json["notes"] if ": merged: " in note]
    assert [note.partition(": merged: ")[0] for note in notes] == list(names[1:])
    assert all("not refitted" not in note for note in notes)
    assert any(note.startswith("int8+merge3+prune20: pruned: ") for note in outcome.json["notes"])


@pytest.mark.parametrize(
    "precision",
    [
        "int8+prune",
        "int8+prune0",
        "int8+prune95",
        "int8+prune-3",
        "int8+",
        "int8+cut20",
        "+prune20",
        "int8+merge",
        "int8+merge0",
        "int8+merge99",
        "int8+merge20+merge30",
        "int8+prune20+",
        "int8 + merge20",
    ],
)
def test_wrong_pruned_precisions(edgevit: Callable[..., Any], checkpoint_path: Path, image_folder: Path, precision: str) -> None:
    outcome = edgevit("compare", checkpoint_path, "--data", image_folder, "--precisions", precision)
    assert outcome.code == 2
    assert "--precisions: " in outcome.stderr
    assert repr(precision) in outcome.stderr
    assert "Traceback" not in outcome.stderr


def test_a_target_for_a_bundle(edgevit: Callable[..., Any], bundle_path: Path, image_folder: Path) -> None:
    outcome = edgevit("compare", bundle_path, "--data", image_folder, "--target", "jetson")
    assert outcome.code == 2
    assert "a bundle brings its own settings; target can only be given for a checkpoint" in outcome.stderr


def test_a_precision_that_the_target_lacks(
    edgevit: Callable[..., Any], checkpoint_path: Path, image_folder: Path, tmp_path: Path
) -> None:
    from edgevit.target import load_target

    lines = (Path(__file__).parents[2] / "targets" / "jetson-orin-nano-8gb.toml").read_text(encoding="utf-8").splitlines()
    assert "fp16" in load_target("jetson-orin-nano-8gb").precisions
    own = tmp_path / "own.toml"
    own.write_text(
        "\n".join('precisions = ["int8"]' if line.startswith("precisions") else line for line in lines), encoding="utf-8"
    )
    outcome = edgevit("compare", checkpoint_path, "--data", image_folder, "--precisions", "fp16+prune20", "--target", own)
    assert outcome.code == 2
    assert "--precisions: target own offers int8, not fp16+prune20. Leave it out." in outcome.stderr
