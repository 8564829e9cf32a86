"""A trained Vision Transformer in; a quantized, compiled bundle and a camera classifier out."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from edgevit.api import Classifier, load

__version__ = "0.1.0"
__all__ = ["Classifier", "__version__", "load"]


def __getattr__(name: str) -> Any:
    """`load` and `Classifier`, imported when they are asked for: the command line starts without them."""
    if name in __all__:
        from edgevit import api

        return getattr(api, name)
    msg = f"module {__name__!r} has no attribute {name!r}"
    raise AttributeError(msg)


def __dir__() -> list[str]:
    """What is public, whether it was asked for yet or not."""
    return sorted(__all__)
