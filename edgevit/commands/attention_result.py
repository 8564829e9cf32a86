"""Where a model looks in one image: as an object, as JSON, as a file, and as the picture that a notebook shows."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgevit.attention_maps.maps import Attention, correlation, distance, stacked
from edgevit.errors import ConfigError
from edgevit.files.own_kinds import MAPS, require_kind
from edgevit.files.writing import write_whole
from edgevit.runtime.classify import Prediction

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from edgevit.preprocess import Frame

PICTURES = (".jpeg", ".jpg", ".png", ".webp")
ARRAYS = (".npy", ".npz")


@dataclass(frozen=True, kw_only=True, eq=False)
class View:
    """What one precision made of the image."""

    precision: str
    prediction: Prediction
    attention: Attention

    @property
    def title(self) -> str:
        """Precision, label and confidence in a line."""
        return f"{self.precision}: {self.prediction.label} {100 * self.prediction.confidence:.1f} %"


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class AttentionResult:
    """Where each precision of a model looks in one image. A notebook shows the picture."""

    frame: Frame
    """What the model saw, uint8 [H, W, 3] BGR."""
    views: tuple[View, ...]
    """The reference first."""
    blocks: tuple[int, ...]
    """Those that were asked for; all by default."""
    drawn: tuple[int, ...]
    """Those of the picture; of `blocks` the last by default."""
    all_heads: bool = False
    """Whether the picture has every head, not the mean over heads."""
    written: Path | None = None
    """The file, if one was asked for."""

    @property
    def moved(self) -> dict[int, NDArray[np.float32]]:
        """By block, of each head the share of its weights, 0 to 1, that the last view has elsewhere than the first."""
        if len(self.views) < 2:
            return {}
        shares = distance(self.views[0].attention, self.views[-1].attention)
        return {block: shares[block] for block in self.blocks if block in shares}

    @property
    def rows(self) -> list[dict[str, Any]]:
        """A record for each block that both views have: the mean and the worst of `moved`; empty of a single view."""
        return [{"block": block, "mean": float(own.mean()), "worst": float(own.max())} for block, own in self.moved.items()]

    def picture(self) -> NDArray[np.uint8]:
        """Image, rollouts and means of blocks, or with ``all_heads`` every map, views side by side: uint8 [H, W, 3] BGR."""
        from edgevit.attention_maps.canvas import Panel
        from edgevit.attention_maps.grid import draw_grid
        from edgevit.attention_maps.picture import draw_attention

        panels = [Panel(name=view.precision, title=view.title, attention=view.attention) for view in self.views]
        notes = {block: f"moved {100 * float(shares.mean()):.1f} %" for block, shares in self.moved.items()}
        return (draw_grid if self.all_heads else draw_attention)(self.frame, panels, self.drawn, notes)

    def save(self, path: str | Path) -> None:
        """Write a picture, or with .npy the maps, or with .npz all weights. Raises ConfigError or StorageError."""
        out = Path(path)
        check_output(out)
        write_whole(out, self._content(out.suffix.lower()), kind=MAPS, option="-o")

    def _content(self, kind: str) -> bytes:
        """The bytes of a file of ``kind``, its suffix."""
        import cv2

        stream = io.BytesIO()
        if kind == ".npy":
            np.save(stream, stacked([view.attention for view in self.views])[:, list(self.blocks)], allow_pickle=False)
        elif kind == ".npz":
            np.savez_compressed(stream, **{"frame": self.frame, **self._arrays()})  # type: ignore[arg-type]
        else:
            stream.write(cv2.imencode(kind, self.picture())[1].tobytes())
        return stream.getvalue()

    def _arrays(self) -> dict[str, NDArray[np.float32]]:
        found = {
            f"{view.precision}/block{block}": view.attention.weights[block]
            for view in self.views
            for block in self.blocks
            if block in view.attention.weights
        }
        return found | {f"{view.precision}/rollout": view.attention.rollout() for view in self.views}

    def to_dict(self) -> dict[str, Any]:
        """What ``edgevit attention --json`` prints."""
        first, last, moved = self.views[0].attention, self.views[-1].attention, self.moved
        return {
            "written": None if self.written is None else str(self.written),
            "grid": list(first.grid),
            "prefix_tokens": first.prefix,
            "map": "class token" if first.class_token else "mean over patches",
            "views": [_document(view, self.blocks) for view in self.views],
            "moved": {str(block): [float(share) for share in shares] for block, shares in moved.items()} or None,
            "rollout_correlation": correlation(first.rollout(), last.rollout()) if len(self.views) > 1 else None,
        }

    def __repr__(self) -> str:
        return f"AttentionResult({', '.join(view.title for view in self.views)}; {len(self.blocks)} blocks)"

    def _repr_html_(self) -> str:
        from edgevit.report.fragment import fragment, lines, picture

        titles = [view.title for view in self.views]
        return fragment(lines(titles), picture(self._content(".png"), f"Attention maps: {', '.join(titles)}"))


def check_output(path: Path) -> None:
    """Raise ConfigError if no attention can be written to ``path``: by its suffix, or for what lies there."""
    if path.suffix.lower() not in (*PICTURES, *ARRAYS):
        msg = f"{path}: cannot write this kind of file. Choose a name that ends in {', '.join((*PICTURES, *ARRAYS))}."
        raise ConfigError(msg)
    require_kind(path, MAPS)


def _document(view: View, blocks: tuple[int, ...]) -> dict[str, Any]:
    weights = view.attention.weights
    return {
        "precision": view.precision,
        "label": view.prediction.label,
        "confidence": view.prediction.confidence,
        "shapes": {str(block): list(weights[block].shape) for block in blocks if block in weights},
    }
