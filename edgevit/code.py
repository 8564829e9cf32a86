"""The source that a result depends on: what an older algorithm left is not taken for what the present one would make."""

from __future__ import annotations

import ast
import hashlib
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

PACKAGE = Path(__file__).parent
_MODULE = re.compile(r"edgevit(?:\.\w+)+")
_IMPORT = re.compile(r"\b(?:from|import) (edgevit(?:\.\w+)+)")
_ENTRY = re.compile(r"(edgevit(?:\.\w+)+):\w+")


@cache
def code_digest(module: str, package: Path = PACKAGE) -> str:
    """SHA-256, hexadecimal, over ``module`` (a dotted name) and all of edgevit that it imports, however indirectly.

    ``package`` is the folder of edgevit's source.
    """
    digest = hashlib.sha256()
    for path in sorted(sources(module, package)):
        digest.update(f"{path.relative_to(package)}\0".encode() + path.read_bytes())
    return digest.hexdigest()


@cache
def package_digest(package: Path = PACKAGE) -> str:
    """SHA-256, hexadecimal, over all of edgevit's source in the folder ``package``: the same on machines that run the same."""
    digest = hashlib.sha256()
    for path in sorted(package.rglob("*.py")):
        digest.update(f"{path.relative_to(package).as_posix()}\0".encode() + path.read_bytes())
    return digest.hexdigest()


def sources(module: str, package: Path = PACKAGE) -> set[Path]:
    """The files that `code_digest` covers.

    An import counts wherever it stands, also in a text that a process is given to run, and so does a text that is a module's
    name. An entry point, ``module:class`` as in a table of engines, counts for what loads it: a module that imports the table
    and `importlib`. Who only reads the table depends on no engine's code.
    """
    found: set[Path] = set()
    waiting = [module]
    while waiting:
        name = waiting.pop()
        path = _file(name, package)
        if path is not None and path not in found:
            found.add(path)
            waiting += [name.rpartition(".")[0], *_reached(path, package)]
    return found


@cache
def _reached(path: Path, package: Path) -> tuple[str, ...]:
    """Names in the module at ``path`` that are modules of ``package``."""
    return tuple(name for name in dict.fromkeys((*_names(path), *_loaded(path, package))) if _file(name, package) is not None)


@cache
def _file(name: str, package: Path) -> Path | None:
    """The file of a module; None for what is none, and for the package itself, whose imports are for its users."""
    place = package.joinpath(*name.split(".")[1:])
    if place == package:
        return None
    return next((path for path in (place.with_suffix(".py"), place / "__init__.py") if path.is_file()), None)


def _loaded(path: Path, package: Path) -> Iterator[str]:
    """Modules of the entry points in tables that the module at ``path`` imports, if it imports modules by name."""
    tree = _tree(path)
    if any(isinstance(node, ast.ImportFrom) and node.module == "importlib" for node in ast.walk(tree)):
        tables = [table for name in _names(path) if (table := _file(name, package)) is not None]
        texts = (node.value for table in tables for node in ast.walk(_tree(table)) if isinstance(node, ast.Constant))
        yield from (entry[1] for text in texts if isinstance(text, str) and (entry := _ENTRY.fullmatch(text)))


@cache
def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_bytes())


@cache
def _names(path: Path) -> tuple[str, ...]:
    return tuple(name for node in ast.walk(_tree(path)) for name in _of_node(node) if _MODULE.fullmatch(name))


def _of_node(node: ast.AST) -> Iterator[str]:
    """Names that may be modules; what is imported from a package may be one, too."""
    if isinstance(node, ast.ImportFrom) and node.module:
        yield node.module
        yield from (f"{node.module}.{item.name}" for item in node.names)
    elif isinstance(node, ast.Import):
        yield from (item.name for item in node.names)
    elif isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield node.value
        yield from _IMPORT.findall(node.value)
