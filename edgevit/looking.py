"""What `edgevit attention` does: run a model on an image and take its attention weights out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgevit.bundle import MODEL, REFERENCE, is_bundle, open_bundle
from edgevit.cache import Cache
from edgevit.engine.outputs import Outputs
from edgevit.errors import ConfigError, EngineError, needs_extra
from edgevit.images import load_images, read_image
from edgevit.preprocess import Preprocessing, prepare
from edgevit.progress import Progress
from edgevit.recipe import Recipe
from edgevit.report.attention import Attention
from edgevit.report.attention_picture import HOTTEST, overlay
from edgevit.runtime.classify import Prediction, top_k
from edgevit.unreported import import_onnxruntime

if TYPE_CHECKING:
    from edgevit.preprocess import Frame


GLANCE_SIDE = 448
"""Pixels of the longer side of a `Glance`."""


class Probe:
    """A model that tells where it looks. Runs on ONNX Runtime, whatever engine the model was built for."""

    def __init__(self, model: bytes, config: Mapping[str, Any], *, threads: int | None = None) -> None:
        """Load ``model``, an ONNX graph that edgevit wrote; ``config`` is ``Manifest.model``. Raises EngineError if it cannot."""
        import_onnxruntime("attention")  # said here, so that one line names all that is needed
        with needs_extra("attention"):
            from edgevit.export.expose import with_attention
        try:
            exposed, self._names = with_attention(model)
        except ValueError as error:
            msg = f"this model's attention cannot be shown: {error}"
            raise EngineError(msg) from error
        side = config["patch_size"]
        self._grid = (config["image_size"][0] // side, config["image_size"][1] // side)
        self._class_token = bool(config["class_token"])
        self._outputs = Outputs(exposed, threads=threads)

    @property
    def blocks(self) -> tuple[int, ...]:
        """Those that have attention weights, in order."""
        return tuple(self._names)

    def look(self, frame: Frame) -> tuple[Any, Attention]:
        """Logits float32 [classes] of one prepared frame uint8 [H, W, 3], and the attention that led to them."""
        found = self._outputs.run(frame[None])
        weights = {block: found[name].reshape(-1, *found[name].shape[-2:]) for block, name in self._names.items()}
        seen = Attention(weights=weights, grid=self._grid, class_token=self._class_token)
        if seen.prefix < self._class_token:
            msg = f"this model's attention cannot be shown: it has not the {self._grid} patches that its manifest says"
            raise EngineError(msg)
        return found["logits"][0], seen


class Glance:
    """Draws where a model looks in a frame of any size: one map over what of the frame reaches the model."""

    def __init__(self, model: bytes, config: Mapping[str, Any], contract: Preprocessing, part: str) -> None:
        """Load ``model`` as `Probe` does, for one thread.

        Args:
            model: an ONNX graph that edgevit wrote.
            config: ``Manifest.model``.
            contract: the model's preprocessing.
            part: ``rollout``, or a block's number or ``last``, of which the mean over heads is drawn.

        Raises:
            ConfigError: no such block, or none with attention weights.
            EngineError: the model cannot be loaded, or tells no attention.
            MissingPackageError: the extra ``attention`` is not installed.
        """
        self._probe = Probe(model, config, threads=1)
        self._contract = contract
        self._block: int | None = None
        known = self._probe.blocks
        if part != "rollout":
            wanted = str(known[-1]) if part == "last" else part
            if not wanted.isdecimal() or int(wanted) not in known:
                msg = f"--attention {part}: no such map. Known: rollout, last, and the blocks {', '.join(map(str, known))}"
                raise ConfigError(msg)
            self._block = int(wanted)

    @property
    def title(self) -> str:
        """What is drawn, for people."""
        return "rollout" if self._block is None else f"block {self._block}, mean of heads"

    def __call__(self, frame_bgr: Frame) -> Frame:
        """The picture, uint8 [H', W', 3] BGR; ``frame_bgr`` uint8 [H, W, 3]."""
        import cv2

        seen = prepare(frame_bgr, self._contract)
        _, attention = self._probe.look(seen)
        heat = attention.rollout() if self._block is None else attention.maps(self._block).mean(0)
        factor = GLANCE_SIDE / max(seen.shape[:2])
        large = np.asarray(cv2.resize(seen, None, fx=factor, fy=factor, interpolation=cv2.INTER_LINEAR), np.uint8)
        return overlay(large, heat, float(np.percentile(heat, HOTTEST)))


@dataclass(frozen=True, kw_only=True, eq=False)
class View:
    """What one precision made of the image."""

    precision: str
    prediction: Prediction
    attention: Attention


@dataclass(frozen=True, kw_only=True)
class Model:
    """A model's graphs by precision, and how frames reach them."""

    graphs: dict[str, bytes]
    config: Mapping[str, Any]
    contract: Preprocessing
    labels: tuple[str, ...]
    problem_type: str


def look_at(model: Model, image: Path, *, threads: int | None = None) -> tuple[Frame, list[View]]:
    """The prepared image, uint8 [H, W, 3] BGR, and how each precision of ``model`` sees it. Raises DataError for no image."""
    frame = prepare(read_image(image), model.contract)
    views = []
    for precision, graph in model.graphs.items():
        logits, attention = Probe(graph, model.config, threads=threads).look(frame)
        views.append(
            View(precision=precision, prediction=top_k(logits, model.labels, 1, model.problem_type)[0], attention=attention)
        )
    return frame, views


def read_model(
    path: Path, data: Path | None, recipe: Recipe, options: Mapping[str, Any], cache: Cache, progress: Progress
) -> Model:
    """A bundle in all it holds, or a checkpoint in FP32, and in INT8 if there is ``data`` to calibrate on."""
    if is_bundle(path) or path.suffix in (".edgevit", ".zip"):
        return _of_bundle(path, data, options)
    with needs_extra("build"):
        from edgevit.model.checkpoint import load_checkpoint
        from edgevit.precision.variants import fp32_variant, int8_variant
    with progress.stage("import model"):
        checkpoint = load_checkpoint(path, **options)
    variants = [fp32_variant(checkpoint)]
    if data is not None:
        images = load_images(data)
        images.check()
        calibration, _ = images.split(recipe.calibrate.images, recipe.calibrate.seed)
        variants.append(int8_variant(checkpoint, calibration, recipe, cache, progress))
    return Model(
        graphs={variant.precision: variant.model for variant in variants},
        config=checkpoint.model.config.to_dict(),
        contract=checkpoint.preprocessing,
        labels=checkpoint.labels,
        problem_type=checkpoint.problem_type,
    )


def _of_bundle(path: Path, data: Path | None, options: Mapping[str, Any]) -> Model:
    bundle = open_bundle(path)
    manifest = bundle.manifest
    given = sorted(["data"] * (data is not None) + [key for key, value in options.items() if value])
    if given:
        msg = f"{path}: a bundle brings its own settings; {', '.join(given)} can only be given for a checkpoint."
        raise ConfigError(msg)
    files = {"fp32": REFERENCE, manifest.precision: MODEL}
    return Model(
        graphs={precision: bundle.read(file) for precision, file in files.items() if file in manifest.files},
        config=manifest.model,
        contract=manifest.preprocessing,
        labels=manifest.labels,
        problem_type=manifest.problem_type,
    )
