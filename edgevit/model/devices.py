"""Where torch computes what is heavy: statistics, GPTQ, gradients, training. Results come back to the CPU, where models live."""

from __future__ import annotations

import torch

from edgevit.errors import ConfigError

CPU = torch.device("cpu")
AUTO = "auto"


def compute_device(asked: str = AUTO) -> torch.device:
    """The device called ``asked``: ``cpu``, ``cuda`` or ``cuda:1``; for ``auto`` CUDA where torch has it.

    Raises ConfigError for one that this torch has not.
    """
    if asked == AUTO:
        return torch.device("cuda") if torch.cuda.is_available() else CPU
    try:
        device = torch.device(asked)
    except RuntimeError as error:
        msg = f"--device {asked}: no name of a device. Give auto, cpu, cuda or cuda:N."
        raise ConfigError(msg) from error
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        msg = f"--device {asked}: this torch sees {torch.cuda.device_count()} CUDA devices. Leave --device out, or give cpu."
        raise ConfigError(msg)
    if device.type not in ("cpu", "cuda"):
        msg = f"--device {asked}: only the CPU and CUDA are supported. Give auto, cpu, cuda or cuda:N."
        raise ConfigError(msg)
    return device
