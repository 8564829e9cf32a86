"""Types of options that take a share, or points of accuracy: both ways in which people write one."""

from __future__ import annotations

from typing import Any

import click

from edgevit.share import meant_by, share_of


class Share(click.ParamType):  # type: ignore[type-arg]  # generic only in the newest click
    """A share from 0 to 1, ``0.6`` or ``60%``, or one of the words ``others``."""

    name = "share"

    def __init__(self, example: str = "0.6 or 60%", others: tuple[str, ...] = ()) -> None:
        """``example`` is what to write instead of what is none."""
        self._example, self._others = example, others

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float | str:
        """Parse; fails with the value that was given."""
        text = str(value)
        if text in self._others:
            return text
        share = share_of(text)
        if share is None or share > 1:
            words = "".join(f", or {word}" for word in self._others)
            self.fail(f"{text!r} is no share: write {self._example}{words}.{meant_by(text)}", param, ctx)
        return share


class Points(click.FloatRange):
    """Points of accuracy from 0 to 100, of which ``0.5`` and ``0.5%`` are half of one."""

    def __init__(self) -> None:
        super().__init__(0, 100)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Parse; fails with the value that was given."""
        number: Any = value.strip().removesuffix("%") if isinstance(value, str) else value
        return super().convert(number, param, ctx)
