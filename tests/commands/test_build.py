"""The pipeline: same inputs, same bytes; nothing slow runs twice or in vain; an interruption loses at most one chunk."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgevit.bundle import MODEL, REFERENCE, REPORT, SAMPLES, open_bundle
from edgevit.cache import Cache
from edgevit.commands import build as build_module
from edgevit.commands.build import run_build
from edgevit.commands.build_request import BuildRequest
from edgevit.commands.build_result import BuildResult
from edgevit.commands.plan import plan_build
from edgevit.commands.steps import Merge, Prune, Search
from edgevit.engine.base import SessionBase
from edgevit.engine.check import REPEATS
from edgevit.errors import BundleError, ConfigError, DataError, EdgevitError, StorageError
from edgevit.images.dataset import load_images
from edgevit.measure import evaluate
from edgevit.progress import Progress, Stage
from edgevit.pruning.settings import PruneSettings
from edgevit.quantize.samples import FRAMES
from edgevit.recipe import Calibrate, load_recipe
from edgevit.search.settings import SearchSettings
from edgevit.target import Machine, load_target
from edgevit.tokens.settings import MergeSettings
from edgevit.workbench import Workbench
from tests.support import CLASSES, write_images

# ONNX Runtime compiles tiny models in a tenth of OpenVINO's time. One test builds for the target as shipped.
TARGET = replace(load_target("cpu"), engines={"default": "onnxruntime"})


class Recorder(Progress):
    """Keeps every stage that ended."""

    def __init__(self) -> None:
        self.stages: dict[str, Stage] = {}
        self.steps: dict[str, int] = {}

    def advance(self, stage: Stage, steps: int) -> None:
        self.steps[stage.name] = self.steps.get(stage.name, 0) + steps

    def end(self, stage: Stage) -> None:
        self.stages[stage.name] = stage

    @property
    def cached(self) -> set[str]:
        return {name for name, stage in self.stages.items() if stage.cached}


class Begun(Progress):
    """Names of stages in the order in which they first begin; of those whose every turn was cached, the names."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.missed: set[str] = set()

    def begin(self, stage: Stage) -> None:
        if stage.name not in self.names:
            self.names.append(stage.name)

    def end(self, stage: Stage) -> None:
        if not stage.cached:
            self.missed.add(stage.name)

    @property
    def cached(self) -> set[str]:
        return set(self.names) - self.missed


@pytest.fixture(autouse=True)
def few_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing here looks at latencies."""
    monkeypatch.setattr(build_module, "RUNS", 5)


@pytest.fixture
def request_of(checkpoint_path: Path, image_folder: Path, tmp_path: Path) -> Callable[..., BuildRequest]:
    """A request of the tiny model, changed by keyword."""

    def make(**changes: Any) -> BuildRequest:
        request = BuildRequest(
            model=checkpoint_path,
            target=TARGET,
            recipe=load_recipe("default"),
            out=tmp_path / "out" / "tiny.edgevit",
            data=image_folder,
            threads=1,
        )
        return replace(request, **changes)

    return make


def built(request: BuildRequest, **cache: Any) -> tuple[BuildResult, Recorder]:
    recorder = Recorder()
    return run_build(request, Cache(**cache), recorder), recorder


def litter(request: BuildRequest) -> list[Path]:
    """What lies beside the bundle, the bundle included."""
    return sorted(request.out.parent.iterdir()) if request.out.parent.exists() else []


@pytest.fixture
def never_slow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails the test when a slow stage begins."""

    def slow(*_: object, **__: object) -> None:
        pytest.fail("a slow stage began")

    monkeypatch.setattr("edgevit.quantize.quantize.Streamed", slow)
    monkeypatch.setattr(SessionBase, "infer", slow)


# --- what comes out --------------------------------------------------------------------------------------------------


def test_bundle_of_a_build(request_of) -> None:
    """The files, the measurement and the labels are there, verified, and nothing lies beside the bundle."""
    request = request_of(target=load_target("cpu"))
    result, recorder = built(request)
    bundle = open_bundle(request.out)
    bundle.verify()
    assert set(bundle.manifest.files) == {MODEL, REFERENCE, REPORT, SAMPLES}
    assert bundle.manifest.labels == CLASSES
    assert bundle.manifest.precision == "int8"
    assert {precision for block in bundle.manifest.blocks for precision in block.values()} == {"int8", "fp32"}
    assert litter(request) == [request.out]
    assert list(result.seconds) == list(recorder.stages)
    assert not recorder.cached


def test_accuracy_is_that_of_the_held_out_images(request_of) -> None:
    """The tiny model has learned its classes, and INT8 keeps what it learned."""
    result, _ = built(request_of())
    fp32, int8 = result.comparison.rows
    assert (fp32.precision, int8.precision) == ("fp32", "int8")
    assert fp32.accuracy.images == int8.accuracy.images == 32
    assert fp32.accuracy.top1 > 0.85
    assert fp32.accuracy.agreement == 1
    assert int8.accuracy.agreement > 0.9
    assert int8.accuracy.sqnr_db > 15
    manifest = result.bundle.manifest
    assert manifest.accuracy["int8"]["top1"] == int8.accuracy.top1
    assert manifest.latency["fp32"]["runs"] == 5


def test_manifest_round_trip(request_of) -> None:
    """What the folder says equals what the build returned, and JSON keeps all of it."""
    result, _ = built(request_of(out=request_of().out.with_suffix(".zip")))
    manifest = open_bundle(result.bundle.path).manifest
    assert json.loads(manifest.to_json()) == json.loads(result.bundle.manifest.to_json())
    report = json.loads(open_bundle(result.bundle.path).read(REPORT))
    assert len(report["layers"]) == 8
    assert report["comparison"]["rows"][1]["precision"] == "int8"


def test_second_build_without_cache_gives_the_same_bytes(request_of, tmp_path: Path) -> None:
    """Calibration is deterministic: the model's hash identifies its inputs."""
    first, _ = built(request_of(), enabled=False)
    second, recorder = built(request_of(out=tmp_path / "again.edgevit"), enabled=False)
    assert not recorder.cached
    assert first.bundle.read(MODEL) == second.bundle.read(MODEL)
    assert first.bundle.read(REFERENCE) == second.bundle.read(REFERENCE)


def test_second_build_finds_every_slow_stage(request_of, cache_dir: Path) -> None:
    """The same bytes, quantized and evaluated by the cache."""
    first, _ = built(request_of())
    model = first.bundle.read(MODEL)
    second, recorder = built(request_of())
    assert recorder.cached == {"quantize", "evaluate fp32 on onnxruntime", "evaluate int8 on onnxruntime"}
    assert second.bundle.read(MODEL) == model
    assert second.comparison.rows[1].accuracy == first.comparison.rows[1].accuracy
    assert any(cache_dir.rglob("*"))


@pytest.mark.parametrize("change", ["recipe", "image", "preprocessing"])
def test_changed_input_is_quantized_anew(request_of, change: str, tmp_path: Path) -> None:
    data = write_images(tmp_path / "data", 26)
    request = request_of(data=data)
    built(request)
    if change == "recipe":
        request = replace(request, recipe=replace(request.recipe, calibrate=Calibrate(images=63)))
    elif change == "image":
        for path in data.rglob("*.png"):
            path.write_bytes(path.read_bytes() + b"\0")
    else:
        request = replace(request, options={"preprocessing": {"interpolation": "cubic"}})
    assert "quantize" not in built(request)[1].cached


def test_renamed_recipe_is_the_same_recipe(request_of) -> None:
    built(request_of())
    assert "quantize" in built(request_of(recipe=replace(load_recipe("default"), name="mine")))[1].cached


def test_fp32_needs_no_images(request_of) -> None:
    """One graph, no calibration, no accuracy; and the notes say so."""
    result, recorder = built(request_of(precision="fp32", data=None))
    manifest = result.bundle.manifest
    assert "quantize" not in recorder.stages
    assert (result.comparison, manifest.accuracy, manifest.precision) == (None, None, "fp32")
    assert set(manifest.files) == {MODEL, REPORT, SAMPLES}
    assert {precision for block in manifest.blocks for precision in block.values()} == {"fp32"}
    assert any("--eval-data" in note for note in manifest.notes)


def test_fp32_calibrates_on_nothing(request_of) -> None:
    """All images are there to measure on, and none is recorded as calibrated on."""
    result, _ = built(request_of(precision="fp32"))
    assert result.comparison.rows[0].accuracy.images == 96
    assert result.bundle.manifest.provenance["calibration_images"] == []


def test_without_the_reference(request_of) -> None:
    result, _ = built(request_of(reference=False))
    assert set(result.bundle.manifest.files) == {MODEL, REPORT, SAMPLES}
    assert len(result.comparison.rows) == 2


# --- images ----------------------------------------------------------------------------------------------------------


def test_int8_without_images(request_of, never_slow) -> None:
    with pytest.raises(DataError, match="--data DIR"):
        run_build(request_of(data=None), Cache(), Progress())


def test_held_out_images_are_never_calibration_images(request_of, image_folder: Path) -> None:
    """Calibration takes 64, class by class; exactly the others are evaluated."""
    inputs = build_module.read_inputs(request_of(), Progress())
    calibration, held_out = (
        {images.fingerprint(i) for i in range(len(images))} for images in (inputs.calibration, inputs.held_out)
    )
    assert (len(calibration), len(held_out)) == (64, 32)
    assert not calibration & held_out
    counts = np.bincount(inputs.calibration.targets)
    assert counts.max() - counts.min() <= 1


def test_copies_of_calibration_images_are_not_evaluated(request_of, tmp_path: Path) -> None:
    """Not even under another name."""
    data = write_images(tmp_path / "data", 30)
    for path in list(data.rglob("*.png")):
        path.with_name(f"copy-{path.name}").write_bytes(path.read_bytes())
    inputs = build_module.read_inputs(request_of(data=data), Progress())
    calibration = inputs.calibration.fingerprints()
    assert not calibration & inputs.held_out.fingerprints()
    assert len(inputs.held_out) == 2 * (90 - len(calibration)) > 0  # every picture is there twice


def test_evaluation_images_of_their_own(request_of, tmp_path: Path) -> None:
    other = write_images(tmp_path / "test", 5, first=500)
    result, _ = built(request_of(eval_data=other))
    assert result.comparison.rows[0].accuracy.images == 15
    assert result.comparison.conditions["source"] == str(other)


def test_evaluation_folder_that_overlaps_calibration(request_of, image_folder: Path) -> None:
    """``--eval-data`` naming the calibration folder measures on what calibration left, as `compare` does."""
    result, _ = built(request_of(eval_data=image_folder))
    assert result.comparison.rows[0].accuracy.images == 32


def test_limit_of_evaluated_images(request_of) -> None:
    result, _ = built(request_of(eval_limit=7))
    assert result.comparison.rows[0].accuracy.images == 7


def test_too_few_images_are_noted(request_of, tmp_path: Path) -> None:
    """All are calibrated on; the notes say so and that accuracy is unknown."""
    result, _ = built(request_of(data=write_images(tmp_path / "few", 2)))
    notes = " ".join(result.bundle.manifest.notes)
    assert "has 6 images, the recipe asks for 64" in notes
    assert "--eval-data" in notes
    assert result.comparison is None


def test_classes_that_are_not_the_models(request_of, tmp_path: Path) -> None:
    """Top-1 is unknown, not wrong; agreement with FP32 is known."""
    data = write_images(tmp_path / "data", 26)
    (data / "disc").rename(data / "moon")
    result, _ = built(request_of(data=data))
    assert result.comparison.rows[1].accuracy.top1 is None
    assert result.comparison.rows[1].accuracy.agreement > 0.8
    assert any("--labels" in note for note in result.bundle.manifest.notes)


def test_unreadable_image_is_named(request_of, tmp_path: Path) -> None:
    data = write_images(tmp_path / "data", 20)
    bad = data / "disc" / "003.png"
    bad.write_bytes(b"not an image")
    request = request_of(data=data)
    with pytest.raises(DataError, match=r"1 of 60 images cannot be read: disc/003\.png \(no image\)"):
        run_build(request, Cache(), Progress())
    assert not request.out.exists()


# --- provenance ------------------------------------------------------------------------------------------------------


def test_provenance_is_complete(request_of, checkpoint_path: Path, image_folder: Path) -> None:
    """Weights by hash, software by version, and every calibration image by fingerprint."""
    provenance = built(request_of())[0].bundle.manifest.provenance
    digest = hashlib.sha256(checkpoint_path.read_bytes()).hexdigest()
    assert provenance["weights"] == {"file": "tiny.safetensors", "sha256": digest}
    assert set(provenance["versions"]) == {"edgevit", "python", "torch", "onnx", "openvino", "onnxruntime"}
    contents = {hashlib.sha256(path.read_bytes()).hexdigest() for path in image_folder.rglob("*.png")}
    assert len(set(provenance["calibration_images"])) == 64
    assert set(provenance["calibration_images"]) <= contents


def test_compare_leaves_out_what_the_bundle_was_calibrated_on(bundle_path: Path, image_folder: Path) -> None:
    """The fingerprints in the manifest serve this."""
    from edgevit.commands.compare_field import find_field
    from edgevit.commands.compare_request import Request

    request = Request(models=(bundle_path,), data=image_folder, limit=1024, recipe=load_recipe("default"))
    subject = find_field(request, Workbench())
    calibrated = set(open_bundle(bundle_path).manifest.provenance["calibration_images"])
    assert len(subject.images) == 32
    assert not calibrated & {subject.images.fingerprint(i) for i in range(32)}
    assert any("64 images" in note for note in subject.notes)


def test_fingerprints_of_a_folder_and_an_npz(tmp_path: Path) -> None:
    """Of files their bytes, of arrays the pixels."""
    array = np.random.default_rng(0).integers(0, 256, (3, 8, 8, 3), dtype=np.uint8)
    np.savez(tmp_path / "x.npz", images=array)
    images = load_images(tmp_path / "x.npz")
    assert len({images.fingerprint(i) for i in range(3)}) == 3
    assert images.subset([1]).fingerprint(0) == images.fingerprint(1)


# --- interruptions ---------------------------------------------------------------------------------------------------


class Interrupting:
    """`SessionBase.infer` that raises KeyboardInterrupt at its call number ``at``, and counts."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.calls, self.at = 0, None
        original = SessionBase.infer

        def infer(session: SessionBase, frames: Any) -> Any:
            self.calls += 1
            if self.calls == self.at:
                raise KeyboardInterrupt
            return original(session, frames)

        monkeypatch.setattr(SessionBase, "infer", infer)


def test_interrupted_evaluation_goes_on(request_of, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C in the second chunk: no bundle, no litter; next time quantization and the first chunk are there."""
    monkeypatch.setattr(evaluate, "CHUNK", 8)
    infer, request = Interrupting(monkeypatch), request_of()
    checks = 2 * FRAMES * REPEATS  # fp32 and int8
    infer.at = checks + 12
    with pytest.raises(KeyboardInterrupt):
        run_build(request, Cache(), Progress())
    assert litter(request) == []
    infer.calls, infer.at = 0, None
    monkeypatch.setattr("edgevit.quantize.quantize.Streamed", lambda *_, **__: pytest.fail("quantized again"))
    result, recorder = built(request)
    assert "quantize" in recorder.cached
    # fp32: 24 of 32 images, int8: 32, and the latencies: 2 sessions of 5 to warm up, 1 and 5.
    assert infer.calls == checks + 24 + 32 + 2 * (5 + 1 + 5)
    assert recorder.steps["evaluate fp32 on onnxruntime"] == 32
    assert result.comparison.rows[0].accuracy.images == 32


@pytest.mark.parametrize("when", ["edgevit.quantize.quantize.Streamed", "edgevit.export.variants.write_graph"])
def test_interrupted_elsewhere_leaves_nothing(request_of, when: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    request = request_of()
    with monkeypatch.context() as patch:
        patch.setattr(when, interrupt)
        with pytest.raises(KeyboardInterrupt):
            run_build(request, Cache(), Progress())
    assert litter(request) == []
    built(request)
    assert litter(request) == [request.out]


def test_failed_rebuild_keeps_the_older_bundle(request_of, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bundle that works is replaced by one that works, or not at all."""
    request = request_of()
    built(request)
    before = {path: path.read_bytes() for path in request.out.iterdir()}
    infer = Interrupting(monkeypatch)
    infer.at = 3
    with pytest.raises(KeyboardInterrupt):
        run_build(request, Cache(enabled=False), Progress())
    assert {path: path.read_bytes() for path in request.out.iterdir()} == before
    assert litter(request) == [request.out]


# --- errors come before work -----------------------------------------------------------------------------------------


def place(kind: str, folder: Path) -> Path:
    """An output path that cannot be used."""
    (folder / "file").write_text("x")
    (folder / "photos").mkdir()
    (folder / "photos" / "1.jpg").write_bytes(b"")
    (folder / "data.zip").write_bytes(b"")
    return {
        "inside a file": folder / "file" / "b.edgevit",
        "inside proc": Path("/proc/none/b.edgevit"),
        "a file": folder / "file",
        "a folder": folder / "photos",
        "a zip": folder / "data.zip",
    }[kind]


@pytest.mark.parametrize(
    ("kind", "error"),
    [
        ("inside a file", StorageError),
        ("inside proc", StorageError),
        ("a file", BundleError),
        ("a folder", BundleError),
        ("a zip", BundleError),
    ],
)
def test_useless_output_fails_at_once(request_of, kind: str, error: type[EdgevitError], tmp_path: Path, never_slow) -> None:
    """Not after minutes of quantization; and a dry run says the same."""
    for action in (run_build, lambda request, cache, _: plan_build(request, cache)):
        folder = tmp_path / action.__name__
        folder.mkdir()
        with pytest.raises(error) as caught:
            action(request_of(out=place(kind, folder)), Cache(), Progress())
        assert "\n" not in str(caught.value)


def test_missing_engine_fails_at_once(request_of, never_slow, monkeypatch: pytest.MonkeyPatch) -> None:
    """A package that is not installed is missed before quantization, not after it."""
    import sys

    from edgevit.errors import MissingPackageError

    monkeypatch.setitem(sys.modules, "openvino", None)
    target = replace(TARGET, engines={"default": "openvino"})
    with pytest.raises(MissingPackageError, match="edgevit\\[cpu\\]"):
        run_build(request_of(target=target), Cache(), Progress())


def test_unwritable_cache_is_said_at_once(request_of, never_slow, tmp_path: Path) -> None:
    """Not when the first result, after minutes, is to be kept; and the build goes on."""
    (tmp_path / "file").write_text("")
    said: list[str] = []
    with pytest.raises(pytest.fail.Exception):  # of `never_slow`
        run_build(request_of(), Cache(root=tmp_path / "file" / "cache", note=said.append), Progress())
    assert len(said) == 1
    assert "finished stages are not kept" in said[0]


def test_precision_that_the_target_lacks(request_of, never_slow) -> None:
    target = replace(TARGET, precisions=("fp32",))
    with pytest.raises(ConfigError, match="offers fp32, not int8"):
        run_build(request_of(target=target), Cache(), Progress())


# --- the plan --------------------------------------------------------------------------------------------------------


SOMETIMES = {"input", "sensitivity", "in all"}
"""What a dry run lists beside the stages of every build: the model's input, what turns out to be needed or not, what it takes."""
REQUESTS: dict[str, dict[str, Any]] = {
    "int8": {},
    "fp32": {"precision": "fp32"},
    "no images": {"precision": "fp32", "data": None},
    "budget": {"max_drop": 100.0},
    "pruned": {"smaller": (Prune(PruneSettings(share=0.2, multiple=8)),)},
    "pruned fp32": {"precision": "fp32", "smaller": (Prune(PruneSettings(share=0.2, multiple=8, score="taylor")),)},
    "recovered": {"smaller": (Prune(PruneSettings(share=0.2, multiple=8, recover=1)),)},
    "faster": {"smaller": (Search(SearchSettings(speedup=1.01, multiple=8)),)},
    "faster, tokens by hand": {"smaller": (Search(SearchSettings(speedup=1.01, multiple=8, merge=MergeSettings(share=0.1))),)},
    "faster, tokens left": {"smaller": (Search(SearchSettings(speedup=1.01, multiple=8, tokens=False)),)},
    "merged": {"smaller": (Merge(MergeSettings(share=0.1)),)},
    "pruned and merged": {"smaller": (Prune(PruneSettings(share=0.2, multiple=8)), Merge(MergeSettings(merges=((0, 4),))))},
    "auto": {"max_drop": 100.0, "smaller": (Search(SearchSettings(auto=True, multiple=8)),)},
    "elsewhere": {"target": replace(TARGET, machine=Machine(models=("No Such Board",)))},
    "gpu": {"target": load_target("jetson")},
    "gpu, pruned": {"target": load_target("jetson"), "smaller": (Prune(PruneSettings(share=0.2, multiple=8)),)},
}


def twice_as_fast(_before: object, _after: object, _precision: str, bench: Workbench) -> float:
    """Stands for `timed_speedup`: what a tiny model gains is noise."""
    with bench.stage("measure the speed-up"):
        return 2.0


@pytest.mark.parametrize("changes", REQUESTS.values(), ids=REQUESTS)
def test_the_stages_planned_are_the_stages_run(request_of, changes: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """In the same order, under the same names; and what is said to be cached is then found, no more and no less."""
    monkeypatch.setattr("edgevit.engine.tensorrt.find_spec", lambda _name: None)  # no builder, on any machine
    monkeypatch.setattr("edgevit.search.speedup.timed_speedup", twice_as_fast)
    request = request_of(**changes)

    def check(cached: set[str]) -> None:
        planned = plan_build(request, Cache()).stages
        begun = Begun()
        run_build(request, Cache(), begun)
        known = [stage.name for stage in planned if stage.name in begun.names or stage.name not in SOMETIMES]
        assert known == begun.names
        assert {stage.name for stage in planned if stage.cached} == begun.cached
        assert cached <= begun.cached

    check(set())
    check({"quantize"} if request.precision == "int8" else set())


def test_a_plan_for_a_model_that_is_pruned_otherwise(request_of) -> None:
    """What is kept of one model is not there for another: neither of the unpruned one nor of another share."""
    built(request_of())
    pruned = request_of(smaller=(Prune(PruneSettings(share=0.2, multiple=8)),))
    assert "quantize" not in {stage.name for stage in plan_build(pruned, Cache()).stages if stage.cached}
    built(pruned)
    assert "quantize" in {stage.name for stage in plan_build(pruned, Cache()).stages if stage.cached}
    other = plan_build(request_of(smaller=(Prune(PruneSettings(share=0.5, multiple=8)),)), Cache()).stages
    assert {stage.name for stage in other if stage.cached} == {"measure layer times", "score", "evaluate fp32 on onnxruntime"}


def test_a_plan_counts_the_images_of_each_stage(request_of) -> None:
    """With a budget half of those that are left go to the search: neither half is promised the others'."""
    what = {stage.name: stage.what for stage in plan_build(request_of(max_drop=1.0), Cache()).stages}
    assert "on 16 images set apart" in what["search"]
    assert what["evaluate int8 on onnxruntime"] == "16 held-out images"
    plain = {stage.name: stage.what for stage in plan_build(request_of(), Cache()).stages}
    assert plain["evaluate int8 on onnxruntime"] == "32 held-out images"


def test_a_plan_computes_nothing_slow(request_of, never_slow) -> None:
    stages = plan_build(request_of(max_drop=1.0, smaller=(Search(SearchSettings(auto=True, multiple=8)),)), Cache()).stages
    assert not any(stage.cached for stage in stages)


def test_plan_writes_nothing(request_of, cache_dir: Path) -> None:
    """Not even the output's parent folder."""
    request = request_of(out=request_of().out.parent / "new" / "b.edgevit")
    plan_build(request, Cache())
    assert not request.out.parent.parent.exists()
    assert not cache_dir.exists()


def test_stages_know_whether_they_finished() -> None:
    """A bar that ended by an error is not shown as done."""
    recorder = Recorder()
    with recorder.stage("good"):
        pass
    with pytest.raises(ValueError, match="x"), recorder.stage("bad"):
        raise ValueError("x")  # noqa: EM101
    assert (recorder.stages["good"].finished, recorder.stages["bad"].finished) == (True, False)
