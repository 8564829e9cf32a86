"""The places of a ViT that decisions are about: parts that have a number format, and sublayers that pruning cuts."""

from __future__ import annotations

import re
from dataclasses import dataclass, fields
from functools import total_ordering
from typing import Any, ClassVar, TypeVar

LINEARS = ("qkv", "proj", "fc1", "fc2")
"""A block's GEMMs, in order."""
WRITERS = ("proj", "fc2")
"""Those of them that write to the residual stream."""
_TEXT = re.compile(r"blocks\.(0|[1-9][0-9]{0,5})\.(\w+)")
_Place = TypeVar("_Place", bound="_InBlock")


@total_ordering
@dataclass(frozen=True)
class _InBlock:
    """Something that every block has once; in network order."""

    KINDS: ClassVar[tuple[str, ...]] = ()

    block: int
    """From 0."""
    kind: str
    """One of ``KINDS``."""

    def __post_init__(self) -> None:
        if self.block < 0 or self.kind not in self.KINDS:
            known = ", ".join(self.KINDS)
            msg = f"no such {type(self).__name__.lower()}: block {self.block!r}, kind {self.kind!r}; kinds: {known}"
            raise ValueError(msg)

    def __str__(self) -> str:
        return f"blocks.{self.block}.{self.kind}"

    def __lt__(self: _Place, other: _Place) -> bool:
        if other.__class__ is not self.__class__:
            return NotImplemented
        return (self.block, self.KINDS.index(self.kind)) < (other.block, self.KINDS.index(other.kind))

    @classmethod
    def parse(cls: type[_Place], text: str) -> _Place:
        """The inverse of ``str``, for what comes from a file. Raises ValueError for another text."""
        match = _TEXT.fullmatch(text)
        if match is None:
            msg = f"not the name of a {cls.__name__.lower()}: {text!r}; such names are blocks.3.{cls.KINDS[0]}"
            raise ValueError(msg)
        return cls(int(match[1]), match[2])


class Part(_InBlock):
    """A GEMM of a block, or the two products of its attention: what computes in one number format.

    ``str`` gives its name in files, reports and messages, ``blocks.3.fc1`` or ``blocks.3.attention``.
    """

    KINDS = ("qkv", "attention", "proj", "fc1", "fc2")

    @property
    def sublayer(self) -> Sublayer:
        """What it belongs to."""
        return Sublayer(self.block, "mlp" if self.kind in ("fc1", "fc2") else "attention")

    @property
    def node(self) -> str:
        """Where its nodes begin in a written graph, ``blocks.3/fc1``."""
        return f"blocks.{self.block}/{self.kind}"


class Sublayer(_InBlock):
    """All of a block's attention, qkv and proj included, or its MLP: what reads the residual stream and adds to it.

    ``str`` gives its name in files, reports and messages, ``blocks.3.attention`` or ``blocks.3.mlp``.
    """

    KINDS = ("attention", "mlp")

    @property
    def writer(self) -> Part:
        """The GEMM that writes to the residual stream: proj or fc2."""
        return Part(self.block, "proj" if self.kind == "attention" else "fc2")


def named(report: Any) -> dict[str, Any]:
    """JSON-ready form of a dataclass whose first field is a part or sublayer: its text as ``name``, then all else."""
    place, *rest = (item.name for item in fields(report))
    return {"name": str(getattr(report, place))} | {name: getattr(report, name) for name in rest}
