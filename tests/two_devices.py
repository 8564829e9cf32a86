"""A machine with a second device, played by the CPU: tensors of the two do not mix, and only `to` moves them, as with CUDA."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

OTHER = torch.device("meta")
"""What the second device is called; nothing is ever on the real one of that name."""
ON_HOST = (Tensor.numpy, Tensor.__array__)


class TwoDevices(TorchFunctionMode):
    """Use it in a ``with``; ``moved`` counts tensors that came to the second device."""

    moved = 0

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:  # fmt: skip
        named = dict(kwargs or {})
        if func == Tensor.device.__get__:  # type: ignore[attr-defined]
            return OTHER if _is_there(args[0]) else func(*args)
        if func is Tensor.to and any(isinstance(each, torch.device) for each in (*args[1:], *named.values())):
            there = OTHER in (*args[1:], *named.values())
            self.moved += there
            return _put(args[0].clone(), there=there) if there != _is_there(args[0]) else args[0]
        there = named.get("device") == OTHER
        if there:
            del named["device"]
        given = [each for each in _tensors((args, named)) if each.ndim or _is_there(each)]
        if any(map(_is_there, given)) and not all(map(_is_there, given)):
            msg = f"{getattr(func, '__name__', func)}: expected all tensors on one device"
            raise RuntimeError(msg)
        if func in ON_HOST and _is_there(args[0]):
            msg = "cannot convert a tensor of the second device to numpy"
            raise TypeError(msg)
        result = func(*args, **named)
        there = there or any(map(_is_there, given))
        if func is Tensor.__iter__:
            return iter([_put(each, there=there) for each in result])
        for each in _tensors(result) if there else ():
            _put(each, there=True)
        return result


def _is_there(tensor: Any) -> bool:
    return isinstance(tensor, Tensor) and getattr(tensor, "is_there", False)


def _put(tensor: Tensor, *, there: bool) -> Tensor:
    tensor.is_there = there  # type: ignore[attr-defined]
    return tensor


def _tensors(found: Any) -> Iterator[Tensor]:
    if isinstance(found, Tensor):
        yield found
    elif isinstance(found, dict):
        yield from _tensors(tuple(found.values()))
    elif isinstance(found, tuple | list):
        for each in found:
            yield from _tensors(each)
