"""Inference engines behind one protocol; pick one by name with `backend`. The table of them is `edgevit.engines.ENGINES`."""

from __future__ import annotations

from importlib import import_module
from typing import cast

from edgevit.engine.base import Backend, OnDevices, Session
from edgevit.engine.builder import Builder
from edgevit.engines import ENGINES, traits_of
from edgevit.errors import ConfigError

CPU_ENGINES = tuple(name for name, traits in ENGINES.items() if traits.processor == "cpu")
"""Those that run on any machine they are installed on."""


def backend(name: str, device: str | None = None) -> Backend:
    """The engine called ``name``, whose module is imported now, on ``device``; on the one that it takes by itself for None.

    Raises ConfigError for an unknown engine, or one that has but one device; and as `edgevit.engine.base.OnDevices.on` does.
    """
    module, _, attribute = traits_of(name).backend.partition(":")
    engine: Backend = getattr(import_module(module), attribute)()
    if device is None:
        return engine
    require_devices(name, device)
    return cast(OnDevices, engine).on(device)


def require_devices(name: str, device: str) -> None:
    """Raise ConfigError if the engine called ``name`` does not let anybody choose its device, as ``--device`` does."""
    if not traits_of(name).devices:
        having = " or ".join(other for other, traits in ENGINES.items() if traits.devices)
        msg = f"--device {device}: {name} has but one device. Leave it out, or add --engine {having}"
        raise ConfigError(msg)


def builder(name: str) -> Builder:
    """The engine called ``name``, which is compiled ahead of time. Raises ConfigError for an unknown one, or another kind."""
    if not traits_of(name).ahead_of_time:
        msg = f"{name} compiles at every start; nothing is built ahead of time"
        raise ConfigError(msg)
    return cast(Builder, backend(name))


def open_session(
    name: str, model: bytes, *, threads: int | None = None, device: str | None = None, batch: int = 1
) -> Session:  # fmt: skip
    """Compile an ONNX model with the engine called ``name`` and load it, on this machine, or on its ``device``."""
    return backend(name, device).open(model, threads=threads, batch=batch)


def runs_here(name: str) -> bool:
    """Whether this machine has what the engine called ``name`` takes: its packages and its hardware."""
    return not backend(name).lacking()


def alternatives(name: str) -> list[str]:
    """The engine called ``name``, then the other CPU engines that are installed here; one compiled ahead of time has none."""
    if traits_of(name).ahead_of_time:
        return [name]
    return [name, *(other for other in CPU_ENGINES if other != name and runs_here(other))]
