"""Pages that are made of what they are about: commands of click, the manifest of its schema, copies of files outside docs/."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

from commands import commands, list_of, page_of
from notebook import page_of_notebook
from relinked import PLACES, relinked

ROOT = Path(__file__).parents[2]

COPIES = {place: source for source, place in PLACES.items() if source.endswith(".md") and place.startswith("reference/")}
"""Files of the repository that are pages of the site as they stand."""


@cache
def pages() -> dict[str, str]:
    """What every such page is, by where in docs/ it would lie."""
    made = {place: relinked(_text(source), place, source) for place, source in COPIES.items()}
    made["reference/targets.md"] = f"{made['reference/targets.md']}\n{_figures()}"
    made["reference/commands/index.md"] = list_of()
    made |= {f"reference/commands/{name}.md": page_of(name, command) for name, command in commands().items()}
    made["reference/manifest.md"] = _manifest()
    made["tutorial/first-steps.md"] = page_of_notebook(_text("docs/tutorial/first-steps.ipynb"))
    made["assets/icon.svg"] = _text("edgevit/preview/static/icon.svg")
    return made


def _text(source: str) -> str:
    return (ROOT / source).read_text(encoding="utf-8")


def _manifest() -> str:
    """The keys of a bundle's manifest: types by the published schema, sentences by `edgevit.bundle.Manifest`."""
    schema = json.loads(_text("docs/manifest.schema.json"))
    head = (
        "# The manifest", "", "`manifest.json` is everything about a bundle that is not a weight. Its schema is "
        "[manifest.schema.json](../manifest.schema.json) (JSON Schema 2020-12); `edgevit inspect BUNDLE --json` prints it.", "",
    )  # fmt: skip
    told = _sentences()
    return "\n".join([*head, *(line for name in schema["$defs"] for line in _object(name, schema["$defs"][name], told))])


def _sentences() -> dict[str, str]:
    import griffe

    manifest: Any = griffe.load("edgevit", search_paths=[str(ROOT)], submodules=True)["bundle.Manifest"]
    return {name: " ".join(item.docstring.value.split()) for name, item in manifest.attributes.items() if item.docstring}


def _object(name: str, schema: dict[str, Any], told: dict[str, str]) -> list[str]:
    """The table of one kind of object; nothing where it has no keys of its own."""
    required, whole = set(schema.get("required", ())), name == "ManifestJson"
    rows = [
        f"| `{key}`{'' if key in required else ' (optional)'} | {_type(each)} | {told.get(key, '') if whole else ''} |"
        for key, each in schema.get("properties", {}).items()
    ]
    title, about = ("manifest.json", "") if whole else (name.removesuffix("Json"), schema.get("description", "").split("\n\n")[0])
    return [f"## {title}", "", about, "", "| key | type | |", "|---|---|---|", *rows, ""] if rows else []


def _type(schema: dict[str, Any]) -> str:
    """A type in a few words, with links to those that have a table of their own."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2].removesuffix("Json")
        return f"[{name}](#{name.lower()})"
    if "anyOf" in schema:
        return " or ".join(_type(each) for each in schema["anyOf"])
    if "enum" in schema:
        return " or ".join(f"`{json.dumps(value)}`" for value in schema["enum"])
    kind = schema.get("type", "any")
    if kind == "array":
        items = schema.get("prefixItems") or [schema["items"]] if schema.get("items") is not None else []
        return f"list of {', '.join(dict.fromkeys(map(_type, items)))}" if items else "list"
    if kind == "object" and isinstance(schema.get("additionalProperties"), dict):
        return f"object of {_type(schema['additionalProperties'])}"
    return str(kind)


def _figures() -> str:
    """Peaks of the GPU targets in their power modes, as `edgevit targets NAME` prints them."""
    from edgevit.shipped import shipped_names
    from edgevit.target import load_target

    targets = [load_target(name) for name in shipped_names("targets")]
    rows = [
        f"| `{target.name}` | {mode.name}{' (default)' if mode.default else ''} | {mode.conf} | {mode.sms} | {mode.gpu_mhz:g} "
        f"| {mode.bandwidth_gbs or '?'} | {target.device.peak(mode, 'int8') / 1e12:.1f} |"
        for target in targets if target.device
        for mode in target.modes
    ]  # fmt: skip
    head = ("## Figures", "", "Of the GPU alone and dense; the marketed ones are sparse and count the DLA.", "")
    return "\n".join(
        [*head, "| target | mode | conf | SMs | MHz | GB/s | INT8 TOPS |", "|---|---|---|---|---|---|---|", *rows, ""]
    )
