"""Every kind of stored result is bound to the code that makes it, and to every input that it depends on."""

from __future__ import annotations

import ast
import copy
import importlib
import shutil
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from edgevit.cache import Cache, Kind
from edgevit.code import PACKAGE, code_digest, sources
from edgevit.images.dataset import ImageSet
from edgevit.measure.evaluator import Budget, Evaluator
from edgevit.model.checkpoint import Checkpoint
from edgevit.progress import Progress, Stage
from edgevit.pruning.costs import macs_only
from edgevit.pruning.first_pass import score
from edgevit.pruning.layer_times import measured
from edgevit.pruning.settings import PruneSettings
from edgevit.quantize.accuracy_control import within_budget
from edgevit.quantize.fp16_check import half_model
from edgevit.quantize.quantize import quantization
from edgevit.recipe import load_recipe
from edgevit.search.search import search
from edgevit.search.settings import SearchSettings
from edgevit.workbench import Workbench

# By kind, some of what makes it: reading of checkpoints and images, the way to the model, the algorithm, the graph, the engine.
READING = (
    "model/families/timm.py",
    "model/reading/weights.py",
    "model/vit.py",
    "images/dataset.py",
    "preprocess.py",
    "preprocess_averaging.py",
)
REWRITES = (
    "part.py",
    "numberformat.py",
    "model/rounding.py",
    "model/rewrites/legal.py",
    "model/rewrites/folding.py",
    "model/rewrites/migration.py",
)
QUANTIZING = (
    *READING, "engines.py", "quantize/gptq.py", "quantize/smoothing.py", "quantize/quantize.py", "model/planfile.py", *REWRITES
)  # fmt: skip
PRUNING = (*READING, "pruning/compensation.py", "pruning/candidates.py", "pruning/allocation.py", "pruning/first_pass.py")
ENGINES = (
    "engines.py",
    "engine/base.py",
    "engine/builder.py",
    "engine/openvino.py",
    "engine/onnxruntime.py",
    "engine/tensorrt.py",
    "engine/tensorrt_child.py",
)
EVALUATING = (*ENGINES, "images/dataset.py", "preprocess.py", "preprocess_averaging.py", "measure/evaluate.py")
DEPENDS = {
    "quantize": QUANTIZING,
    "quantize-report": QUANTIZING,
    "half": (*READING, "quantize/fp16.py", "model/rewrites/scores.py", "model/rewrites/stream.py"),
    "half-simulated": (*READING, "quantize/fp16.py", "model/planfile.py"),
    "sensitivity": (*QUANTIZING, "quantize/sensitivity.py"),
    "prune-scores": (
        *READING,
        "pruning/candidates.py",
        "pruning/gradients.py",
        "pruning/candidate_file.py",
        "pruning/first_pass.py",
    ),
    "pruned": (*PRUNING, "pruning/second_pass.py", "pruning/distillation.py"),
    "pruned-report": (*PRUNING, "pruning/second_pass.py", "pruning/costs.py"),
    "faster": (
        *PRUNING,
        *ENGINES,
        "pruning/second_pass.py",
        "pruning/distillation.py",
        "search/trade.py",
        "search/schedules.py",
        "tokens/settings.py",
        "model/merging.py",
        "measure/evaluator.py",
        "measure/accuracy.py",
    ),
    "faster-report": (*PRUNING, "pruning/second_pass.py", "pruning/layer_times.py", "export/graph.py"),
    "graph-form": (
        *ENGINES,
        "commands/faster_form.py",
        "export/graph.py",
        "onnxfile.py",
        "measure/latency.py",
        "quantize/samples.py",
    ),
    "demo-model": ("model/vit.py", "model/merging.py", "vitconfig.py", "preprocess.py", "cache.py"),
    "merge-harms": (*READING, "model/merging.py", "model/folded.py", "tokens/merge.py", "pruning/candidates.py"),
    "features": ("model/vit.py", "preprocess.py", "model/pixels.py", "training/settings.py"),
    "front-tokens": ("model/vit.py", "preprocess.py", "model/pixels.py", "training/augment.py", "training/unfrozen.py"),
    "fine-tuning": (
        "model/vit.py",
        "training/augment.py",
        "training/folds.py",
        "training/head.py",
        "training/run.py",
        "training/settings.py",
        "training/train.py",
        "training/unfrozen.py",
        "training/views.py",
    ),
    "recover": (*READING, "pruning/distillation.py", "pruning/recover.py", "model/pixels.py"),
    "costs": (
        *ENGINES,
        "pruning/costs.py",
        "pruning/layer_times.py",
        "export/graph.py",
        "numberformat.py",
        "measure/latency.py",
        "plan/roofline.py",
        "model/vit.py",
    ),
    "merged": (
        *READING,
        "model/merging.py",
        "tokens/refit.py",
        "tokens/merge.py",
        "pruning/compensation.py",
        "pruning/gradients.py",
    ),
    "merged-report": (*READING, "model/merging.py", "tokens/refit.py", "pruning/compensation.py"),
    "engine-check": (
        *ENGINES,
        "engine/cut.py",
        "engine/onnx_nodes.py",
        "engine/cuda_graph.py",
        "engine/tensorrt_log.py",
    ),
    "sweep-point": (
        *QUANTIZING,
        *PRUNING,
        *ENGINES,
        "commands/build.py",
        "commands/faster_form.py",
        "commands/sweep_points.py",
        "tokens/refit.py",
        "bundle.py",
        "measure/latency.py",
    ),
    "logits": EVALUATING,
    "seen": EVALUATING,
}


def kinds() -> dict[str, Kind]:
    """All that the source makes."""
    found = {}
    for path in PACKAGE.rglob("*.py"):
        if "Kind(" not in (text := path.read_text(encoding="utf-8")):  # to parse all takes each worker seconds
            continue
        calls = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Call)]
        if path.name != "cache.py" and any(isinstance(node.func, ast.Name) and node.func.id == "Kind" for node in calls):
            module = importlib.import_module(".".join(("edgevit", *path.relative_to(PACKAGE).with_suffix("").parts)))
            found |= {value.name: value for value in vars(module).values() if isinstance(value, Kind)}
    return found


def test_all_kinds_are_listed_here() -> None:
    assert set(kinds()) == set(DEPENDS)


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the source, to change."""
    return Path(shutil.copytree(PACKAGE, tmp_path_factory.mktemp("source") / "edgevit"))


@pytest.mark.parametrize("kind", kinds().values(), ids=lambda kind: kind.name)
def test_other_code_finds_nothing(kind: Kind, package: Path) -> None:
    def digest() -> str:
        code_digest.cache_clear()
        return code_digest(kind.module, package)

    before = digest()
    assert before == code_digest(kind.module)
    for name in (*DEPENDS[kind.name], f"{kind.module.partition('.')[2].replace('.', '/')}.py"):
        path = package / name
        kept = path.read_bytes()
        path.write_bytes(kept + b"\n# changed\n")
        assert digest() != before, name
        path.write_bytes(kept)
    for name in ("cli/run.py", "runtime/loop.py", "report/html.py", "cli/demo.py"):  # what makes nothing that is kept
        path = package / name
        kept = path.read_bytes()
        path.write_bytes(kept + b"\n# changed\n")
        assert digest() == before, name
        path.write_bytes(kept)


def test_what_counts_as_an_import(tmp_path: Path) -> None:
    """Inside functions, from packages, in tables, in what a process is given to run; not in prose."""
    (tmp_path / "pack").mkdir()
    for name in ("pack/__init__", "pack/one", "two", "three", "four", "five", "other"):
        (tmp_path / f"{name}.py").write_text("")
    (tmp_path / "start.py").write_text(
        '"""Not like `edgevit.other`."""\n'
        "from edgevit.pack import one, missing\n"
        "def late():\n    import edgevit.two\n"
        'TABLE = {"x": ("edgevit.three", "Class")}\n'
        'CHILD = "import sys; from edgevit.four import main; main()"\n'
    )
    (tmp_path / "two.py").write_text("from edgevit import five\n")
    found = {str(path.relative_to(tmp_path)) for path in sources("edgevit.start", tmp_path)}
    assert found == {"start.py", "pack/__init__.py", "pack/one.py", "two.py", "three.py", "four.py", "five.py"}


def test_an_entry_point_counts_for_what_loads_it(tmp_path: Path) -> None:
    """Who reads a table of engines depends on the table; who imports by it, on all that it names."""
    (tmp_path / "table.py").write_text('ROWS = {"x": Row(backend="edgevit.own:Class", text="not edgevit.other:Class of it")}\n')
    (tmp_path / "own.py").write_text("from edgevit import deep\n")
    (tmp_path / "deep.py").write_text("")
    (tmp_path / "reads.py").write_text("from edgevit.table import ROWS\n")
    (tmp_path / "loads.py").write_text("from importlib import import_module\nfrom edgevit.table import ROWS\n")

    def found(module: str) -> set[str]:
        return {path.name for path in sources(module, tmp_path)}

    assert found("edgevit.reads") == {"reads.py", "table.py"}
    assert found("edgevit.loads") == {"loads.py", "table.py", "own.py", "deep.py"}


def test_calibration_outlives_another_version_of_an_engine() -> None:
    """What an engine's traits are counts; how it compiles and infers does not."""
    files = {str(path.relative_to(PACKAGE)) for path in sources("edgevit.quantize.quantize")}
    assert "engines.py" in files
    assert not [file for file in files if file.startswith("engine/")]


def test_an_entry_is_bound_to_its_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache, kind = Cache(root=tmp_path), Kind("stage", "edgevit.errors")
    cache.store(kind, b"old", a=1)
    assert cache.find(kind, a=1) == b"old"
    monkeypatch.setattr("edgevit.cache.code_digest", lambda _module: "of an upgrade")
    assert cache.find(kind, a=1) is None


# --- every other input -----------------------------------------------------------------------------------------------


class Keys(Cache):
    """Keeps nothing and notes under which keys something is asked for."""

    def find(self, kind: Kind, **inputs: Any) -> bytes | None:
        asked = self.__dict__.setdefault("asked", {})
        asked.setdefault(kind.name, self._path(kind, inputs))
        return None

    def store(self, kind: Kind, result: bytes, **inputs: Any) -> None:
        pass


class EnoughError(Exception):
    """The key is known; what would come takes time."""


class Hasty(Progress):
    """Stops before the first image."""

    def advance(self, stage: Stage, steps: int) -> None:
        raise EnoughError


def other_weights(checkpoint: Checkpoint) -> Checkpoint:
    """Of the same file: read with another option, or by another importer."""
    model = copy.deepcopy(checkpoint.model)
    with torch.no_grad():
        model.head.bias[0] += 1e-3
    return replace(checkpoint, model=model)


def other_contract(checkpoint: Checkpoint) -> Checkpoint:
    return replace(checkpoint, preprocessing=replace(checkpoint.preprocessing, interpolation="cubic"))


def other_labels(checkpoint: Checkpoint) -> Checkpoint:
    return replace(checkpoint, labels=checkpoint.labels[::-1])


def path_of(kind: str, checkpoint: Checkpoint, images: ImageSet, threads: int = 1) -> Path:
    """Under what name a result of ``kind`` is kept."""
    keys, recipe = Keys(), load_recipe("fast")
    bench = Workbench(cache=keys, progress=Hasty(), threads=threads, measured_on="onnxruntime")
    asked = PruneSettings(share=0.3, multiple=4, score="taylor")
    with suppress(EnoughError):
        if kind == "quantize":
            quantization(checkpoint, images, recipe, bench)
        elif kind == "half":
            half_model(checkpoint, images, "int8", bench)
        elif kind == "prune-scores":
            score(checkpoint, images, asked, bench)
        elif kind == "costs":
            measured(checkpoint.model.config, "fp32", bench)
        else:
            Evaluator(checkpoint, images, bench)
    return keys.__dict__["asked"][kind]


@pytest.mark.parametrize("kind", ["quantize", "half", "prune-scores", "logits"])
@pytest.mark.parametrize("other", [other_weights, other_contract])
def test_another_model_finds_nothing(kind: str, other: Any, checkpoint: Checkpoint, images: ImageSet) -> None:
    few = images.subset(range(0, len(images), 6))
    path = path_of(kind, checkpoint, few)
    assert path == path_of(kind, copy.deepcopy(checkpoint), few)
    assert path != path_of(kind, other(checkpoint), few)
    assert path != path_of(kind, checkpoint, few.subset(range(len(few) - 1)))


def test_labels_count_where_they_are_read(checkpoint: Checkpoint, images: ImageSet) -> None:
    few = images.subset(range(0, len(images), 6))
    assert path_of("prune-scores", checkpoint, few) != path_of("prune-scores", other_labels(checkpoint), few)
    assert path_of("quantize", checkpoint, few) == path_of("quantize", other_labels(checkpoint), few)


@pytest.mark.parametrize("kind", ["costs", "logits"])
def test_threads_count_where_they_run(kind: str, checkpoint: Checkpoint, images: ImageSet) -> None:
    assert path_of(kind, checkpoint, images) != path_of(kind, checkpoint, images, threads=2)


def test_recovery_knows_the_contract_and_the_labels(checkpoint: Checkpoint, images: ImageSet) -> None:
    from edgevit.pruning.distillation import RecoverSettings
    from edgevit.pruning.recover import recover

    def path(checkpoint: Checkpoint, student: Checkpoint) -> Path:
        keys = Keys()
        with suppress(EnoughError):
            recover(student.model, checkpoint, images, RecoverSettings(epochs=1), Workbench(cache=keys, progress=Hasty()))
        return keys.__dict__["asked"]["recover"]

    found = path(checkpoint, checkpoint)
    assert found == path(checkpoint, copy.deepcopy(checkpoint))
    for other in (other_weights, other_contract, other_labels):
        assert found != path(other(checkpoint), checkpoint)
    assert found != path(checkpoint, other_weights(checkpoint))


def test_the_scan_knows_model_and_images(checkpoint: Checkpoint, images: ImageSet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Evaluator, "drop", lambda *_: 50.0)
    few = images.subset(range(0, len(images), 6))
    result = quantization(checkpoint, few, load_recipe("fast"), Workbench())

    def path(result: Any, images: ImageSet) -> Path:
        evaluator = Evaluator(checkpoint, images, Workbench(threads=1, measured_on="onnxruntime"))
        keys = Keys()
        with suppress(EnoughError):
            bench = Workbench(cache=keys, progress=Hasty())
            within_budget(checkpoint, result, Budget(evaluator=evaluator, max_drop=0.0), bench)
        return keys.__dict__["asked"]["sensitivity"]

    found = path(result, few)
    assert found == path(result, few)
    assert found != path(result, few.subset(range(10)))
    assert found != path(replace(result, key=result.key | {"model": "another"}), few)


def test_a_search_knows_who_judged(checkpoint: Checkpoint, images: ImageSet, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pruning within a budget depends on the evaluator's images, their labels, its engine and its threads."""
    few = images.subset(range(0, len(images), 6))
    monkeypatch.setattr("edgevit.search.search.score", lambda *_: (_ for _ in ()).throw(EnoughError))
    monkeypatch.setattr("edgevit.search.search.costs_on", lambda _bench, config, _precision: macs_only(config))

    def path(judged: ImageSet, *, threads: int = 1, max_drop: float = 1.0, checkpoint: Checkpoint = checkpoint) -> Path:
        evaluator = Evaluator(checkpoint, judged, Workbench(threads=threads, measured_on="onnxruntime"))
        keys = Keys()
        with suppress(EnoughError):
            bench, budget = Workbench(cache=keys, threads=1), Budget(evaluator=evaluator, max_drop=max_drop)
            search(checkpoint, few, SearchSettings(auto=True, multiple=4), "fp32", bench, budget)
        return keys.__dict__["asked"]["faster"]

    found = path(few)
    assert found == path(few)
    assert found != path(few.subset(range(10)))
    assert found != path(replace(few, class_names=few.class_names[::-1]))
    assert found != path(few, threads=2)
    assert found != path(few, max_drop=2.0)
    for other in (other_weights, other_contract, other_labels):
        assert found != path(few, checkpoint=other(checkpoint))
