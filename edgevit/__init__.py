"""A trained Vision Transformer in; a quantized, compiled bundle and a camera classifier out."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from edgevit.api import Classifier, load
    from edgevit.commands.attention import attention
    from edgevit.commands.build import build
    from edgevit.commands.collect import collect
    from edgevit.commands.compare import compare
    from edgevit.commands.inspect import inspect
    from edgevit.commands.prune import prune
    from edgevit.commands.sweep import sweep
    from edgevit.commands.train import train

__version__ = "0.2.0"
__all__ = ["Classifier", "__version__", "attention", "build", "collect", "compare", "inspect", "load", "prune", "sweep", "train"]


def __getattr__(name: str) -> Any:
    """What is public, imported when it is asked for: the command line starts without it, and a device needs no torch."""
    if name in ("Classifier", "load"):
        from edgevit import api

        return getattr(api, name)
    if name in __all__:
        from importlib import import_module

        from edgevit.errors import needs_extra

        with needs_extra("build"):
            return getattr(import_module(f"edgevit.commands.{name}"), name)
    msg = f"module {__name__!r} has no attribute {name!r}"
    raise AttributeError(msg)


def __dir__() -> list[str]:
    """What is public, whether it was asked for yet or not."""
    return sorted(__all__)
