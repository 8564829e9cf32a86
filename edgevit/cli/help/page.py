"""What a command's ``--help`` shows beyond the words that stand at its options."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module, util

DOCS = "docs/"
"""Where the guides are, as people find them: in the repository."""


@dataclass(frozen=True, kw_only=True)
class Page:
    """One command's page."""

    arguments: Mapping[str, str] = field(default_factory=dict)
    """By name, as the usage line has it: what to type. Where one is missing, the error quotes the first sentence."""
    groups: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Options by heading, each by its longest name. What stands in none is shown under `OTHER`."""
    examples: tuple[tuple[str, str], ...] = ()
    """Command lines, and what each is for."""
    guides: tuple[str, ...] = ()
    """Files below `DOCS`."""

    def arranged(self, names: list[str]) -> dict[str, list[str]]:
        """The options ``names`` of a command by heading, empty headings left out, what no group has last."""
        found = {title: [name for name in group if name in names] for title, group in self.groups.items()}
        grouped = {name for group in found.values() for name in group}
        found[OTHER if self.groups else "Options"] = [name for name in names if name not in grouped]
        return {title: group for title, group in found.items() if group}


OTHER = "Other options"
"""The heading of what a page has in no group: a new option is seen before anybody gave it one."""


def page_of(name: str | None) -> Page:
    """The page of the command called ``name``; an empty one of a command without."""
    module = f"{__package__}.{name}"
    if not name or util.find_spec(module) is None:
        return Page()
    page: Page = import_module(module).PAGE
    return page
