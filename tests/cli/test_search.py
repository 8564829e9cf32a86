"""``--speedup`` and ``--prune auto`` from the command line: tokens and widths in one search, tokens by hand, or left alone."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edgevit.bundle import REPORT, open_bundle
from edgevit.model.checkpoint import load_checkpoint
from edgevit.model.macs import macs
from edgevit.pruning.costs import macs_only
from edgevit.search import schedules
from edgevit.vitconfig import VitConfig
from tests.support import Outcome


@pytest.fixture(autouse=True)
def machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that is as fast as there is arithmetic: what a tiny model takes is noise."""

    def timed(before: VitConfig, after: VitConfig, *_: object) -> float:
        return macs(before) / macs(after)

    monkeypatch.setattr("edgevit.pruning.layer_times.measured", lambda config, *_, **__: macs_only(config))
    monkeypatch.setattr("edgevit.search.speedup.timed_speedup", timed)
    monkeypatch.setattr("edgevit.commands.build.RUNS", 5)
    monkeypatch.setattr("edgevit.commands.prune.RUNS", 5)


@pytest.fixture
def cheap_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schedules._Look, "harm", lambda _self, merges: 1e-9 * sum(merges.values()))


def test_a_bundle_as_fast_as_wanted(
    edgevit: Callable[..., Outcome], checkpoint_path: Path, image_folder: Path, tmp_path: Path, cheap_tokens: None
) -> None:
    out = tmp_path / "out.edgevit"
    command = ("build", checkpoint_path, "--data", image_folder, "--speedup", "1.1", "--target", "cpu", "-o", out)
    planned = edgevit(*command, "--dry-run")
    assert "for a speed-up of 1.1" in planned.stdout
    assert "the harm of merging" in planned.stdout
    done = edgevit(*command, "--json")
    assert done.code == 0, done.stderr
    assert [row["precision"] for row in done.json["comparison"]["rows"]] == ["fp32", "fp32-faster", "int8"]
    note = next(note for note in done.json["notes"] if note.startswith("pruned: "))
    assert "; merged: 17 tokens to " in note
    assert " times as fast, measured in int8 on " in note
    bundle = open_bundle(out)
    merged = {str(i): block["merged"] for i, block in enumerate(bundle.manifest.model["blocks"]) if block.get("merged")}
    assert bundle.manifest.provenance["merging"]["merges"] == merged != {}
    assert bundle.manifest.provenance["pruning"]["measured"]["speedup"] >= 1.1
    report = json.loads(bundle.read(REPORT))
    assert report["merging"]["tokens"] == 17 - sum(merged.values())
    assert len(report["pruning"]["halves"]) == 4


@pytest.mark.parametrize(("merge", "wanted"), [(None, "some"), ("none", {}), ("4@0", {0: 4})])
def test_tokens_are_found_left_alone_or_given(
    edgevit: Callable[..., Outcome], checkpoint_path: Path, image_folder: Path, tmp_path: Path, cheap_tokens: None, merge: Any,
    wanted: Any,
) -> None:  # fmt: skip
    out = tmp_path / "out.safetensors"
    by_hand = () if merge is None else ("--merge", merge)
    done = edgevit("prune", checkpoint_path, "--data", image_folder, "--multiple", 8, "--speedup", "1.2", *by_hand, "-o", out)
    assert done.code == 0, done.stderr
    config = load_checkpoint(out).model.config
    merged = {index: block.merged for index, block in enumerate(config.blocks) if block.merged}
    assert merged if wanted == "some" else merged == wanted
    assert ("tokens merged" in done.stdout) == bool(merged)
    assert macs(load_checkpoint(checkpoint_path).model.config) / macs(config) >= 1.2


def test_a_checkpoint_with_tokens_merged(
    edgevit: Callable[..., Outcome], checkpoint_path: Path, image_folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out.safetensors"
    done = edgevit("prune", checkpoint_path, "--data", image_folder, "--merge", "6@0", "-o", out, "--json")
    assert done.code == 0, done.stderr
    assert done.json["merging"]["tokens"] == 11
    assert "pruning" not in done.json
    people = edgevit("prune", checkpoint_path, "--data", image_folder, "--merge", "6@0", "-o", out)
    assert "tokens merged" in people.stdout
    assert "heads" not in people.stdout.partition("What is left")[2].partition("blocks.0")[0]
    again = edgevit("build", out, "--data", image_folder, "-o", tmp_path / "out.edgevit")
    assert again.code == 0, again.stderr
    both = edgevit(
        "prune", checkpoint_path, "--data", image_folder, "--multiple", 8, "--prune", "0.2", "--merge", "4@0", "-o", out
    )
    assert both.code == 0, both.stderr
    assert load_checkpoint(out).model.config.blocks[0].merged == 4


def test_within_a_budget_tokens_go_as_well(
    edgevit: Callable[..., Outcome], checkpoint_path: Path, image_folder: Path, tmp_path: Path, cheap_tokens: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    for name in ("MOST", "FIRST"):  # further, this model's last block goes as a whole, and its tokens are worth nothing
        monkeypatch.setattr(f"edgevit.search.within_budget.{name}", 0.05)
    done = edgevit("build", checkpoint_path, "--data", image_folder, "--prune", "auto", "--max-drop", "8", "--multiple", 8,
                   "-o", tmp_path / "out.edgevit", "--json")  # fmt: skip
    assert done.code == 0, done.stderr
    report = json.loads(open_bundle(tmp_path / "out.edgevit").read(REPORT))
    assert report["pruning"]["search"]["drop"] <= 4
    assert report["merging"]["merges"]


def test_as_fast_as_wanted_beside_others(
    edgevit: Callable[..., Outcome], checkpoint_path: Path, image_folder: Path
) -> None:  # fmt: skip
    done = edgevit("compare", checkpoint_path, "--data", image_folder, "--runs", 5, "--json",
                   "--precisions", "fp32,int8+speedup1.1")  # fmt: skip
    assert done.code == 0, done.stderr
    assert [row["precision"] for row in done.json["rows"]] == ["fp32", "int8+speedup1.1"]


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (("--speedup", "1.2", "--prune", "0.3"), "in one way"),
        (("--speedup", "0.9"), "above 1"),
        (("--speedup", "nan"), "above 1"),
        (("--merge", "none"), "--merge none keeps a search from merging tokens"),
        (("--speedup", "1.2", "--merge", "4@1"), "block 1 cannot merge 4 tokens away"),
        (("--speedup", "1.2", "--merge", "much"), "expected tokens at blocks"),
        (("--speedup", "9.5"), "more than there is to gain"),
    ],
)
def test_what_cannot_be_asked_for(
    edgevit: Callable[..., Outcome],
    checkpoint_path: Path,
    image_folder: Path,
    tmp_path: Path,
    command: tuple[str, ...],
    said: str,
) -> None:
    out = tmp_path / "out.edgevit"
    done = edgevit("build", checkpoint_path, "--data", image_folder, "--multiple", 8, *command, "-o", out)
    assert done.code == 2, done.stderr
    assert said in done.stderr
    assert not out.exists()


@pytest.mark.parametrize("name", ["int8+speedup1", "int8+speedup11", "int8+speedup", "int8+speedup1.5+merge20", "int8+speedup-2"])
def test_names_that_nothing_has(
    edgevit: Callable[..., Outcome], checkpoint_path: Path, image_folder: Path, name: str
) -> None:  # fmt: skip
    done = edgevit("compare", checkpoint_path, "--data", image_folder, "--precisions", f"fp32,{name}")
    assert done.code == 2
    assert "speed-up" in done.stderr
