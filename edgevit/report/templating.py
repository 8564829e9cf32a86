"""Templates of what a browser shows: whatever is put into one is text, escaped and fit to be seen, unless it is `Markup`."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from edgevit.printable import printable

if TYPE_CHECKING:
    from jinja2 import Environment


def rendered(template: str, **values: Any) -> str:
    """``template`` of the folder ``templates``, filled with ``values``. Raises jinja2.UndefinedError for one that is missing."""
    return _environment().get_template(template).render(**values)


def macro(template: str, name: str, *values: Any) -> Markup:
    """What the macro ``name`` of ``template`` makes of ``values``."""
    found: Markup = getattr(_environment().get_template(template).module, name)(*values)
    return found


@cache
def _environment() -> Environment:
    from jinja2 import Environment, PackageLoader, StrictUndefined  # here: 50 ms that most commands need not wait for

    return Environment(
        loader=PackageLoader("edgevit.report"), autoescape=True, undefined=StrictUndefined, finalize=_fit, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip


def _fit(value: Any) -> Any:
    """``value`` without what would turn the direction of writing or act otherwise; markup of ours stays as it is."""
    return value if isinstance(value, Markup) else printable(value)
