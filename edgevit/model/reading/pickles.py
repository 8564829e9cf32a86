"""A torch file's pickle, read without running anything of it.

``torch.load(weights_only=True)`` refuses every global but tensors and plain containers. Training scripts also keep their
arguments, scores and paths in a checkpoint; `LEFT_ALONE` lists those by name. Whatever the file says about them, they become
`Ignored`, which runs nothing and keeps nothing: their own classes are neither imported nor called. The one exception is
``argparse.Namespace``, a class without code of its own, which is read as it is. docs/security.md has the list.
"""

from __future__ import annotations

import argparse
import pickle
import zipfile
from pathlib import Path
from typing import Any

import torch

from edgevit.errors import CheckpointError


class Ignored:
    """Stands in for a value that is not a weight: takes whatever it is made of, and keeps none of it."""

    def __new__(cls, *_: object) -> Ignored:
        """One without content."""
        return super().__new__(cls)

    def __init__(self, *_: object) -> None:
        """Take the arguments of any constructor."""

    def __setstate__(self, state: object) -> None:
        """Take any state."""


LEFT_ALONE = (
    # numpy scalars and arrays (scores, histories), by the module names of numpy 1 and of numpy 2
    *(f"numpy.{core}.multiarray.{name}" for core in ("core", "_core") for name in ("scalar", "_reconstruct")),
    *(f"numpy.{core}.numeric._frombuffer" for core in ("core", "_core")),
    "numpy.dtype", "numpy.ndarray",
    *(f"numpy.dtypes.{kind}DType" for kind in (
        "Bool", "Int8", "Int16", "Int32", "Int64", "UInt8", "UInt16", "UInt32", "UInt64", "LongLong", "ULongLong",
        "Float16", "Float32", "Float64", "LongDouble", "Complex64", "Complex128", "Str", "Bytes", "Object", "DateTime64",
    )),
    # paths, dates and plain records in a script's arguments
    *(f"{module}.{kind}" for module in ("pathlib", "pathlib._local")
      for kind in ("Path", "PosixPath", "WindowsPath", "PurePath", "PurePosixPath", "PureWindowsPath")),
    "datetime.datetime", "datetime.date", "datetime.time", "datetime.timedelta", "datetime.timezone",
    "types.SimpleNamespace", "uuid.UUID", "decimal.Decimal", "fractions.Fraction",
    # configuration objects of Hydra and OpenMMLab, and OpenMMLab's training log
    *(f"omegaconf.{name}" for name in (
        "dictconfig.DictConfig", "listconfig.ListConfig", "base.ContainerMetadata", "base.Metadata", "nodes.AnyNode",
        "nodes.StringNode", "nodes.IntegerNode", "nodes.FloatNode", "nodes.BooleanNode", "nodes.PathNode", "nodes.BytesNode",
        "nodes.EnumNode", "nodes.InterpolationResultNode",
    )),
    "typing.Any", "mmengine.logging.history_buffer.HistoryBuffer",
    # other builtins, and what DeepSpeed and fastai keep
    *(f"builtins.{kind}" for kind in ("list", "tuple", "dict", "int", "float", "str", "bool", "frozenset", "range", "slice")),
    "torch.torch_version.TorchVersion",
    "deepspeed.runtime.fp16.loss_scaler.LossScaler", "deepspeed.runtime.fp16.loss_scaler.DynamicLossScaler",
    "deepspeed.runtime.zero.config.ZeroStageEnum", "deepspeed.utils.tensor_fragment.fragment_address", "fastcore.foundation.L",
)  # fmt: skip
# Dicts of other names: Lightning's hyperparameters, Counter's relatives. They become dicts, whatever made them.
DICTS = (
    "collections.defaultdict",
    "lightning.fabric.utilities.data.AttributeDict", "lightning_fabric.utilities.data.AttributeDict",
    "pytorch_lightning.utilities.parsing.AttributeDict", "lightning.pytorch.utilities.parsing.AttributeDict",
    "yacs.config.CfgNode", "fvcore.common.config.CfgNode",
)  # fmt: skip


def empty_dict(*_: object) -> dict[Any, Any]:
    """What a `DICTS` constructor gives, whatever its arguments: a factory among them is not called."""
    return {}


def read_pickle(path: Path) -> Any:
    """The content of the torch file ``path``, tensors on the CPU, mapped from the file if it can be; nothing in it is executed.

    Raises CheckpointError for a file that is damaged, or needs code to load.
    """
    allowed = [argparse.Namespace, *((Ignored, name) for name in LEFT_ALONE), *((dict, name) for name in DICTS[1:]),
               (empty_dict, DICTS[0])]  # fmt: skip
    try:
        with torch.serialization.safe_globals(allowed):  # type: ignore[arg-type]  # its annotation lacks the pairs
            # Mapped, where the format can be: a training state's optimiser is never read then.
            return torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except pickle.UnpicklingError as error:
        raise CheckpointError(_refused(path, str(error))) from error
    except Exception as error:  # a damaged pickle can make the unpickler raise anything
        if "TorchScript" in str(error):
            msg = f"{path}: a TorchScript program, not weights. Save the model's state_dict() instead."
            raise CheckpointError(msg) from error
        msg = f"{path}: a torch file that is damaged or truncated. Download or save it again."
        raise CheckpointError(msg) from error


def _refused(path: Path, reason: str) -> str:
    kind = "would run code to load, which edgevit refuses" if "global" in reason.lower() else "is damaged or no state_dict"
    named = reason.partition("GLOBAL ")[2].split()[:1] if "GLOBAL " in reason else []
    what = f" ({named[0]})" if named else ""
    return (
        f"{path}: a pickle that {kind}{what}. Save the weights alone where the model was made: "
        "torch.save(model.state_dict(), path), or safetensors.torch.save_model(model, path)."
    )
