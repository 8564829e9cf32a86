"""A model that tells where it looks: its graph with the attention weights taken out, on ONNX Runtime."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from edgevit.attention_maps.heat import hottest, overlay
from edgevit.attention_maps.maps import Attention, unmerged
from edgevit.engine.outputs import NamedOutputs
from edgevit.errors import ConfigError, EngineError, needs_extra
from edgevit.preprocess import Preprocessing, prepare
from edgevit.unreported import import_onnxruntime
from edgevit.vitconfig import VitConfig

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
            self._exposed = with_attention(model)
        except ValueError as error:
            msg = f"this model's attention cannot be shown: {error}"
            raise EngineError(msg) from error
        side = config["patch_size"]
        self._grid = (config["image_size"][0] // side, config["image_size"][1] // side)
        self._class_token = bool(config["class_token"])
        self._tokens = VitConfig.from_dict(dict(config)).tokens
        self._outputs = NamedOutputs(self._exposed.model, threads=threads)

    @property
    def blocks(self) -> tuple[int, ...]:
        """Those that have attention weights, in order."""
        return tuple(self._exposed.attention)

    def look(self, frame: Frame) -> tuple[Any, Attention]:
        """Logits float32 [classes] of one prepared frame uint8 [H, W, 3], and the attention that led to them.

        Of a model that merges tokens it is spread back onto the tokens that were merged: see `unmerged`.
        """
        found = self._outputs.run(frame[None])
        weights = {block: found[name].reshape(-1, *found[name].shape[-2:]) for block, name in self._exposed.attention.items()}
        # Behind all others may be a token that nothing looks at, see `edgevit.graphform.Form.padded`.
        weights = {block: each[:, : self._tokens, : self._tokens] for block, each in weights.items()}
        places = {block: found[name].ravel().round().astype(np.int64) for block, name in self._exposed.places.items()}
        weights = unmerged(weights, places)
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
        return overlay(large, heat, hottest(heat))
