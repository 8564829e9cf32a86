"""Forms of a CPU engine's graph: which there are, that the fastest right one is kept, and that it is told of."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from edgevit.bundle import MODEL, open_bundle
from edgevit.cache import Cache
from edgevit.commands import faster_form
from edgevit.commands.faster_form import BF16, PADDED, PLAIN, STAGE, FormChoice, fastest_form, form_note, offered
from edgevit.engine.base import Session
from edgevit.engine.of_bundle import session_of
from edgevit.engine.openvino import OpenVino, openvino_options
from edgevit.export.variants import fp32_variant, int8_from
from edgevit.images.dataset import ImageSet
from edgevit.measure.evaluator import Budget
from edgevit.measure.latency import Latency
from edgevit.model.checkpoint import Checkpoint
from edgevit.onnxfile import allows_bf16, with_bf16
from edgevit.quantize.quantize import quantization
from edgevit.recipe import load_recipe
from edgevit.target import load_target
from edgevit.unreported import import_openvino
from edgevit.workbench import Workbench
from tests.support import Outcome

OPENVINO, ONNXRUNTIME = (load_target("cpu").on(engine) for engine in ("openvino", "onnxruntime"))
LATENCY = Latency(p50_ms=1.0, p90_ms=1.0, p99_ms=1.0, per_second=1.0, runs=5)
ELSEWHERE = replace(OPENVINO, machine=replace(load_target("raspberry-pi-5").machine, models=("No Such Board",)))


@pytest.fixture
def bf16(monkeypatch: pytest.MonkeyPatch) -> None:
    """A processor with bfloat16, which this one may not be: OpenVINO computes in FP32 then, whatever it is told."""
    monkeypatch.setattr(OpenVino, "computes_bf16", lambda _self: True)


def timed(monkeypatch: pytest.MonkeyPatch, **milliseconds: float) -> None:
    """Stands for the clock."""

    def measure(sessions: Any, _frames: Any, **_: Any) -> dict[str, Latency]:
        names = {"plain": PLAIN, "padded": PADDED, "bf16": BF16, "both": f"{PADDED}, {BF16}"}
        times = {names[name]: value for name, value in milliseconds.items()}
        return {name: replace(LATENCY, p50_ms=times[name]) for name in sessions}

    monkeypatch.setattr(faster_form, "measure_latency", measure)


def some_frames(checkpoint: Checkpoint) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (2, *checkpoint.preprocessing.size, 3), np.uint8)


@pytest.mark.parametrize(
    ("target", "precision", "threads", "wanted"),
    [
        (OPENVINO, "fp32", 1, (PLAIN,)),
        (OPENVINO, "fp32", 64, (PLAIN, PADDED)),  # 17 tokens, and fewer heads than threads
        (OPENVINO, "int8", 1, (PLAIN, BF16)),
        (OPENVINO, "int8", 64, (PLAIN, PADDED, BF16, f"{PADDED}, {BF16}")),
        (OPENVINO, "mixed", 1, (PLAIN, BF16)),
        (ONNXRUNTIME, "int8", 64, (PLAIN,)),
        (ELSEWHERE, "int8", 64, (PLAIN,)),
        (load_target("jetson"), "int8", 64, (PLAIN,)),
    ],
)
def test_what_is_offered(
    checkpoint: Checkpoint, bf16: None, target: Any, precision: str, threads: int, wanted: tuple[str, ...]
) -> None:
    assert offered(checkpoint.model.config, precision, Workbench(target=target, threads=threads)) == wanted


def test_cosines_are_never_in_bfloat16(checkpoint: Checkpoint, bf16: None) -> None:
    """Where features have length 1, the head's precision is the classes'."""
    config = replace(checkpoint.model.config, unit_features=True, registers=1)
    assert BF16 in offered(replace(config, unit_features=False), "int8", Workbench(target=OPENVINO, threads=2))
    assert offered(config, "int8", Workbench(target=OPENVINO, threads=2)) == (PLAIN,)


def test_a_number_of_tokens_that_is_no_prime_is_left(checkpoint: Checkpoint) -> None:
    config = replace(checkpoint.model.config, registers=1)
    assert offered(config, "fp32", Workbench(target=OPENVINO, threads=64)) == (PLAIN,)


@pytest.mark.parametrize(("plain", "padded", "kept"), [(10.0, 8.0, PADDED), (10.0, 9.9, PLAIN), (10.0, 12.0, PLAIN)])
def test_the_fastest_is_kept_unless_it_is_noise(
    checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch, plain: float, padded: float, kept: str
) -> None:
    timed(monkeypatch, plain=plain, padded=padded)
    variant = fp32_variant(checkpoint, "openvino")
    choice = fastest_form(variant, checkpoint, some_frames(checkpoint), Workbench(target=OPENVINO, threads=64))
    assert choice.form == kept
    assert (choice.variant.model == variant.model) == (kept == PLAIN)
    assert [item["p50_ms"] for item in choice.tried] == [plain, padded]


def test_a_wrong_form_is_not_kept(checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    """However fast it is."""
    timed(monkeypatch, plain=10.0)
    spoilt = fp32_variant(checkpoint.with_model(_halved(checkpoint)), "openvino")
    monkeypatch.setattr(faster_form, "padded", lambda variant, _engine: replace(variant, model=spoilt.model))
    choice = fastest_form(
        fp32_variant(checkpoint, "openvino"), checkpoint, some_frames(checkpoint), Workbench(target=OPENVINO, threads=64)
    )
    assert choice.form == PLAIN
    assert choice.tried[1]["p50_ms"] is None
    assert "wrongly" in choice.tried[1]["failure"]


def test_a_right_form_is_taken_where_the_plain_one_is_wrong(checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    """However slow it is; and what was wrong is told."""
    timed(monkeypatch, padded=12.0)
    right, spoilt = (fp32_variant(made, "openvino") for made in (checkpoint, checkpoint.with_model(_halved(checkpoint))))
    monkeypatch.setattr(faster_form, "padded", lambda variant, _engine: replace(variant, model=right.model))
    wrong = replace(right, model=spoilt.model)
    choice = fastest_form(wrong, checkpoint, some_frames(checkpoint), Workbench(target=OPENVINO, threads=64))
    assert (choice.form, choice.variant.model) == (PADDED, right.model)
    assert "wrongly" in choice.tried[0]["failure"]


def test_where_nothing_is_right_the_plain_one_is_left_to_the_engine_check(
    checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    timed(monkeypatch)
    spoilt = fp32_variant(checkpoint.with_model(_halved(checkpoint)), "openvino")
    monkeypatch.setattr(faster_form, "padded", lambda variant, _engine: variant)
    wrong = replace(fp32_variant(checkpoint, "openvino"), model=spoilt.model)
    choice = fastest_form(wrong, checkpoint, some_frames(checkpoint), Workbench(target=OPENVINO, threads=64))
    assert (choice.form, choice.variant.model) == (PLAIN, spoilt.model)
    assert form_note(choice.summary()) == f"form: {PLAIN}; none of 2 is right here, as the engine check says"


def test_a_processor_whose_bfloat16_is_wrong_computes_in_float32(
    edgevit: Callable[..., Outcome], checkpoint: Checkpoint, checkpoint_path: Path, image_folder: Path, tmp_path: Path,
    bf16: None, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """On the same engine, at the first start and at those that remember it; and it is said."""
    timed(monkeypatch, plain=10.0, bf16=8.0)
    target = tmp_path / "cpu.toml"
    target.write_text('description = "here"\nprecisions = ["fp32", "int8"]\nfamily = "cpu"\n[engine]\ndefault = "openvino"\n')
    out = tmp_path / "out.edgevit"
    assert edgevit("build", checkpoint_path, "--data", image_folder, "--target", target, "--threads", 1, "-o", out).code == 0
    assert allows_bf16(open_bundle(out).read(MODEL))
    spoilt = fp32_variant(checkpoint.with_model(_halved(checkpoint)), "openvino").model
    own = OpenVino.open

    def opened(self: OpenVino, model: bytes, *, threads: int | None = None, batch: int = 1) -> Session:
        return own(self, spoilt if allows_bf16(model) else model, threads=threads, batch=batch)

    monkeypatch.setattr(OpenVino, "open", opened)
    for _ in range(2):
        with session_of(open_bundle(out), threads=1) as session:
            assert session.engine.startswith("openvino")
            (warning,) = session.warnings
            assert "wrongly" in warning
            assert warning.endswith("openvino without bfloat16 is taken instead")


def test_a_choice_is_kept(checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What noise decided once it does not decide again: graphs, and all that is kept of them, stay the same."""
    bench, variant = Workbench(target=OPENVINO, threads=64, cache=Cache(root=tmp_path)), fp32_variant(checkpoint, "openvino")
    timed(monkeypatch, plain=10.0, padded=8.0)
    first = fastest_form(variant, checkpoint, some_frames(checkpoint), bench)
    timed(monkeypatch, plain=8.0, padded=10.0)
    assert fastest_form(variant, checkpoint, some_frames(checkpoint), bench) == first
    assert fastest_form(variant, checkpoint, some_frames(checkpoint), replace(bench, threads=63)).form == PLAIN


def test_bfloat16_may_not_cost_more_than_the_budget(
    checkpoint: Checkpoint, bf16: None, monkeypatch: pytest.MonkeyPatch, images: ImageSet
) -> None:
    timed(monkeypatch, plain=10.0, bf16=8.0)

    class Evaluator:
        metric = "top-1"

        def __init__(self, lost: float) -> None:
            self.lost = lost

        def identity(self) -> float:
            return self.lost

        def drop(self, _model: bytes) -> float:
            return self.lost

    def form(lost: float) -> FormChoice:
        budget = Budget(evaluator=Evaluator(lost), max_drop=1.0)  # type: ignore[arg-type]
        plan = quantization(checkpoint, images.subset(range(16)), load_recipe("fast"), Workbench()).plan
        variant = int8_from(plan, {}, "openvino")
        return fastest_form(variant, checkpoint, some_frames(checkpoint), Workbench(target=OPENVINO, threads=1), budget)

    assert form(0.9).form == BF16
    assert form(1.1).form == PLAIN
    assert "1.10 points of top-1 are lost" in form(1.1).tried[1]["failure"]


def _halved(checkpoint: Checkpoint) -> Any:
    import copy

    model = copy.deepcopy(checkpoint.model)
    model.head.weight.data.mul_(0.5)
    return model


def test_without_a_choice_nothing_is_timed(checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(faster_form, "measure_latency", lambda *_, **__: pytest.fail("timed"))
    variant = fp32_variant(checkpoint, "openvino")
    found = fastest_form(variant, checkpoint, some_frames(checkpoint), Workbench(target=OPENVINO, threads=1))
    assert found == FormChoice(variant=variant)
    assert found.summary() == {}


def test_a_bundle_in_bfloat16(
    edgevit: Callable[..., Outcome], checkpoint_path: Path, image_folder: Path, tmp_path: Path, bf16: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """Recorded, shown, planned, and what OpenVINO is told whenever it compiles or loads it."""
    timed(monkeypatch, plain=10.0, bf16=8.0)
    target = tmp_path / "cpu.toml"
    target.write_text('description = "here"\nprecisions = ["fp32", "int8"]\nfamily = "cpu"\n[engine]\ndefault = "openvino"\n')
    out = tmp_path / "out.edgevit"
    command = ("build", checkpoint_path, "--data", image_folder, "--target", target, "--threads", 1, "-o", out)
    assert STAGE in edgevit(*command, "--dry-run").stdout
    done = edgevit(*command)
    assert done.code == 0, done.stderr
    assert f"form: {BF16}, 8.00 ms, as timed here beside {PLAIN} 10.00 ms" in done.stderr
    bundle = open_bundle(out)
    assert bundle.manifest.compiled == {
        "form": BF16,
        "tried": [{"form": PLAIN, "p50_ms": 10.0, "failure": ""}, {"form": BF16, "p50_ms": 8.0, "failure": ""}],
    }
    kinds = {kind for block in bundle.manifest.blocks for kind in block.values()}
    assert "fp32" not in kinds
    assert allows_bf16(bundle.read(MODEL))
    assert f"{BF16}, chosen by timing; {PLAIN} 10.00 ms" in edgevit("inspect", out).stdout
    told: list[str] = []

    def spied(own: Any) -> Any:
        def spy(self: Any, *arguments: Any) -> Any:
            told.append(arguments[2]["INFERENCE_PRECISION_HINT"])
            return own(self, *arguments)

        return spy

    core = import_openvino().Core
    for name in ("compile_model", "import_model"):
        monkeypatch.setattr(core, name, spied(getattr(core, name)))
    with session_of(bundle, threads=2) as session:  # not what was compiled already
        session.infer(np.zeros((1, *bundle.manifest.preprocessing.size, 3), np.uint8))
    assert told
    assert set(told) == {"bf16"}
    assert json.loads(edgevit("inspect", out, "--json").stdout)


@pytest.mark.parametrize("capable", [False, True])
def test_a_processor_without_it_is_not_told(checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch, capable: bool) -> None:
    monkeypatch.setattr(OpenVino, "computes_bf16", lambda _self: capable)
    told = list[bool]()

    def options(threads: int | None, *, bf16: bool = False) -> dict[str, object]:
        told.append(bf16)
        return openvino_options(threads)  # this processor may have none

    monkeypatch.setattr("edgevit.engine.openvino.openvino_options", options)
    with OpenVino().open(with_bf16(fp32_variant(checkpoint, "openvino").model), threads=1) as session:
        assert told == [capable]
        assert session.infer(some_frames(checkpoint)).shape[0] == 2


def test_a_graph_that_allows_it_is_the_same_graph(checkpoint: Checkpoint) -> None:
    plain = fp32_variant(checkpoint, "openvino").model
    allowed = with_bf16(plain)
    assert not allows_bf16(plain)
    assert allows_bf16(allowed)
    proto = onnx.load_from_string(allowed)
    onnx.checker.check_model(proto)
    assert {item.key: item.value for item in proto.metadata_props} == {"edgevit.bf16": "allowed"}
    assert proto.graph == onnx.load_from_string(plain).graph
    with pytest.raises(ValueError, match="protobuf"):
        allows_bf16(allowed[:-1])
