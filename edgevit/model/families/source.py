"""What a family's reader is given, what it hands back, and the choices that weights alone do not settle."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from edgevit.errors import CheckpointError, ConfigError, did_you_mean
from edgevit.model.families.keys import Keys
from edgevit.model.onnxin.file import OnnxFile
from edgevit.model.onnxin.pixels import Look
from edgevit.model.vit import ACTIVATIONS
from edgevit.textclasses import TextClasses, TextHead
from edgevit.vitconfig import VitConfig

# Every published ViT of these widths (SO400M, H, g, G) has 16 heads; all the others have heads of 64.
SIXTEEN_HEADS = (1152, 1280, 1408, 1664)
HEAD_DIM = 64
IMAGE_SIZE = 224


@dataclass(frozen=True, kw_only=True)
class Imported:
    """A checkpoint in edgevit's terms; ``state`` is the state dict of ``Vit(config)``."""

    family: str
    config: VitConfig
    state: dict[str, Tensor]
    pipeline: str = ""
    """Whose preprocessing it is used with where no settings lie beside it: a key of `edgevit.model.reading.defaults`."""
    any_size: bool = True
    """The source itself interpolates positions to the size that its preprocessing delivers."""
    text: TextHead | None = None
    """How its head was made, where its classes were given as text."""
    look: Look | None = None
    """What an ONNX graph does to pixels by itself."""
    problem_type: str = ""
    """What its outputs mean, where the weights' file itself tells."""


@dataclass(frozen=True, kw_only=True)
class WeightSource:
    """One checkpoint's weights and settings. Readers append to ``notes`` what they had to assume."""

    keys: Keys
    metadata: Mapping[str, str] = field(default_factory=dict)
    """Text inside the weights file."""
    config: Mapping[str, Any] = field(default_factory=dict)
    """``config.json`` beside it."""
    heads: int | None = None
    image_size: tuple[int, int] | None = None
    """(height, width) in pixels, as the user wants it."""
    activation: str | None = None
    texts: TextClasses | None = None
    """Classes that an image tower is to tell apart."""
    tower: bool = False
    """Whether a head is no classifier but a projection into the space of texts, whatever the user says."""
    graph: OnnxFile | None = None
    """The graph that the weights are in, of an ONNX file, whose ``keys`` are empty."""
    fed: tuple[int, int] | None = None
    """(height, width) that the settings beside a graph feed it."""
    notes: list[str] = field(default_factory=list)

    def choose_heads(self, width: int, stated: Any = None) -> int:
        """Heads that share ``width`` channels: the user's, the ``stated`` ones, or the customary ones with a note.

        Raises ConfigError if they do not divide the width, CheckpointError if nothing tells.
        """
        heads = self.heads if self.heads is not None else as_int(stated, "the number of heads", self.keys.origin)
        if heads is None:
            heads = self._customary_heads(width)
        if heads < 1 or width % heads:
            msg = f"{self.keys.origin}: {heads} heads do not divide the attention width {width}. Pass --heads N with another N."
            raise ConfigError(msg)
        return heads

    def _customary_heads(self, width: int) -> int:
        if width not in SIXTEEN_HEADS and width % HEAD_DIM:
            msg = f"{self.keys.origin}: weights do not tell the heads, and the width {width} is unusual. Pass --heads N."
            raise CheckpointError(msg)
        heads = 16 if width in SIXTEEN_HEADS else width // HEAD_DIM
        self.notes.append(f"heads: assumed head_dim {width // heads}, so {heads}; pass --heads to change")
        return heads

    def choose_activation(self, stated: str | None, default: str = "gelu") -> str:
        """The user's activation, the ``stated`` one, or ``default`` with a note. Raises ConfigError if unknown."""
        if self.activation is not None and self.activation not in ACTIVATIONS:
            msg = f"unknown activation {self.activation!r}. {did_you_mean(self.activation, ACTIVATIONS)}"
            raise ConfigError(msg)
        if self.activation is None and stated is None:
            self.notes.append(f"activation: assumed {default}; pass --activation to change")
        return self.activation or stated or default

    def choose_image_size(
        self, patch: int, positions: int | None, stated: Any = None, *, square: bool = False
    ) -> tuple[int, int]:
        """(height, width) that the weights were trained for; ``positions`` counts patch embeddings.

        What the settings state comes first, then what the user states, if it has exactly as many patches, then a square, with
        a note. ``square``: the family itself takes every table of positions for a square.

        Raises CheckpointError if the positions are no square grid and nothing else tells their shape.
        """
        size = as_size(stated, self.keys.origin)
        if positions is None:
            return (size[0] // patch * patch, size[1] // patch * patch) if size else self._assumed_size(patch)
        side = math.isqrt(positions) * patch
        for candidate in ((side, side), size, self.image_size) if square else (size, self.image_size, (side, side)):
            if candidate is not None and (candidate[0] // patch) * (candidate[1] // patch) == positions > 0:
                if not square and candidate == (side, side) != size and candidate != self.image_size:
                    rows = side // patch
                    self.notes.append(
                        f"image size: trained on {side}x{side}, if its {positions} position embeddings are {rows}x{rows}; "
                        "else pass --image-size HEIGHTxWIDTH"
                    )
                return candidate[0] // patch * patch, candidate[1] // patch * patch
        msg = f"{self.keys.origin}: {positions} position embeddings are no square grid. Pass --image-size HEIGHTxWIDTH."
        raise CheckpointError(msg)

    def _assumed_size(self, patch: int) -> tuple[int, int]:
        side = max(1, round(IMAGE_SIZE / patch)) * patch
        if self.image_size is None:
            self.notes.append(f"image size: assumed {side}x{side}; pass --image-size to change")
        return side, side


def as_int(value: Any, what: str, origin: object) -> int | None:
    """``value`` of a settings file if it is a whole number, None if it is None, else a CheckpointError."""
    if value is None or (isinstance(value, int) and not isinstance(value, bool)):
        return value
    msg = f"{origin}: the settings beside it give {value!r} as {what}; expected a whole number."
    raise CheckpointError(msg)


def as_size(value: Any, origin: object) -> tuple[int, int] | None:
    """(height, width) of a settings file's number or pair, None if it is None, else a CheckpointError."""
    if value is None:
        return None
    pair = value if isinstance(value, list | tuple) else (value, value)
    if len(pair) != 2 or not all(type(side) is int and side > 0 for side in pair):
        msg = f"{origin}: the settings beside it give {value!r} as image size; expected one or two whole numbers."
        raise CheckpointError(msg)
    return pair[0], pair[1]
