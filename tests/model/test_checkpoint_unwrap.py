"""What training scripts wrap around weights, and keep beside them: opened with a note, chosen by option, never executed."""

from __future__ import annotations

import argparse
import collections
import datetime
import os
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from edgevit.errors import CheckpointError, ConfigError
from edgevit.model import load_checkpoint
from edgevit.model.reading.pickles import Ignored, read_pickle
from tests.model import references as ref

State = dict[str, torch.Tensor]


def timm(seed: int = 5, **changes: Any) -> State:
    return dict(ref.randomise(ref.TimmVit(**changes), seed=seed).state_dict())


def prefixed(state: State, prefix: str) -> State:
    return {prefix + key: value for key, value in state.items()}


def head(path: Path, **options: Any) -> torch.Tensor:
    return load_checkpoint(path, **options).model.head.weight


def saved(content: Any, folder: Path) -> Path:
    torch.save(content, folder / "w.pt")
    return folder / "w.pt"


# --- values that are not weights -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("core", ["numpy._core", "numpy.core"])
def test_arguments_and_scores_of_a_training_script(core: str, legacy: bool, tmp_path: Path) -> None:
    """A Namespace, numpy values by numpy 1's and numpy 2's names, paths, dates, defaultdicts: read, and not executed."""
    args = argparse.Namespace(lr=0.1, out=Path("out"), when=datetime.datetime(2026, 1, 1), tags={"a"}, scores=np.arange(3.0))
    content = {"model": timm(), "args": args, "best": np.float64(71.5), "epoch": np.int64(3), "dtype": np.dtype("float32"),
               "log": collections.defaultdict(list, {"loss": [np.float32(1)]})}  # fmt: skip
    path = tmp_path / "w.pth"
    torch.save(content, path, _use_new_zipfile_serialization=not legacy)
    if legacy:  # a pickle names its globals in lines of text
        path.write_bytes(path.read_bytes().replace(b"numpy._core", core.encode()))
    read = read_pickle(path)
    assert read["args"].lr == 0.1
    assert {type(read[key]) for key in ("best", "epoch", "dtype")} == {Ignored}
    assert type(read["args"].out) is type(read["args"].when) is type(read["args"].scores) is Ignored
    assert type(read["log"]) is dict
    assert torch.equal(head(path), content["model"]["head.weight"])


def test_what_the_arguments_say_is_shown(tmp_path: Path) -> None:
    """They are not applied: a script's own transforms may differ. But nobody has to look for them."""
    for args in (argparse.Namespace(model="vit_tiny", mean=[0.5] * 3, lr=0.1), {"model": "vit_tiny", "mean": [0.5] * 3}):
        notes = load_checkpoint(saved({"model": timm(), "args": args}, tmp_path)).notes
        expected = (
            "arguments: those of the training in the file say model=vit_tiny, mean=[0.5, 0.5, 0.5]; compare, they are not applied"
        )
        assert expected in notes


def fake(monkeypatch: pytest.MonkeyPatch, module: str, name: str, base: type = object) -> type:
    """A class that pickles under another package's name."""
    kind = type(name, (base,), {"__module__": module})
    holder = types.ModuleType(module)
    setattr(holder, name, kind)
    parts = module.split(".")
    for end in range(1, len(parts)):
        monkeypatch.setitem(sys.modules, ".".join(parts[:end]), types.ModuleType(".".join(parts[:end])))
    monkeypatch.setitem(sys.modules, module, holder)
    return kind


@pytest.mark.parametrize(
    ("module", "name", "base"),
    [
        ("omegaconf.dictconfig", "DictConfig", object),
        ("pytorch_lightning.utilities.parsing", "AttributeDict", dict),
        ("mmengine.logging.history_buffer", "HistoryBuffer", object),
        ("deepspeed.runtime.fp16.loss_scaler", "LossScaler", object),
        ("yacs.config", "CfgNode", dict),
    ],
)
def test_objects_of_packages_that_are_not_here(module: str, name: str, base: type, tmp_path: Path) -> None:
    """They are left alone, whether the package is installed or not."""
    with pytest.MonkeyPatch.context() as patch:
        value = fake(patch, module, name, base)()
        if base is dict:
            value["lr"] = 0.1
        else:
            value.content = {"lr": 0.1}
        path = saved({"state_dict": timm(), "hyper_parameters": value}, tmp_path)
    assert head(path).shape == (5, 128)


class Runs:
    """Pickled, it asks for ``function(*arguments)`` where it is loaded."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> Any:
        return self.call


@pytest.mark.parametrize("where", ["value", "in the arguments", "in a state", "as a factory"])
@pytest.mark.parametrize("function", [os.system, eval, exec, getattr, __import__, Path.touch, open], ids=lambda f: f.__name__)
def test_nothing_is_executed(function: Any, where: str, tmp_path: Path) -> None:
    """Wherever a function hides among the values that are let through, the file is refused before it could be called."""
    mark = tmp_path / "executed"
    argument: Any = mark if function is Path.touch else f"touch {mark}" if function is os.system else f"open({str(mark)!r}, 'w')"
    call = Runs(function, str(mark), "w") if function is open else Runs(function, argument)
    namespace = argparse.Namespace()
    vars(namespace)["__class__"] = call
    content = {
        "value": call,
        "in the arguments": argparse.Namespace(lr=call),
        "in a state": namespace,
        "as a factory": collections.defaultdict(function),
    }[where]
    path = saved({"model": timm(), "extra": content}, tmp_path)
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(path)
    assert "would run code to load, which edgevit refuses (" in str(caught.value)
    assert not mark.exists()


def test_a_constructor_that_is_let_through_keeps_nothing(tmp_path: Path) -> None:
    """numpy's own names with arguments made to do harm: numpy is not called, so they are nothing but arguments."""

    class Harm:
        def __reduce__(self) -> Any:
            return np.dtype("O").__reduce__()[0], ("O", argparse.Namespace, [1]), {"__class__": "x"}

    path = saved({"model": timm(), "best": Harm()}, tmp_path)
    assert type(read_pickle(path)["best"]) is Ignored


# --- wrappers ------------------------------------------------------------------------------------------------------------


def middle(state: State, segment: str) -> State:
    """``state`` as torch.compile, FSDP or activation checkpointing of every block names it."""
    return {key.replace("blocks.0.", f"blocks.0.{segment}.").replace("blocks.1.", f"blocks.1.{segment}."): value
            for key, value in state.items()}  # fmt: skip


WRAPPED = {
    "DistributedDataParallel": lambda s: {"model": prefixed(s, "module.")},
    "torch.compile": lambda s: prefixed(s, "_orig_mod."),
    "both": lambda s: {"state_dict": prefixed(s, "module._orig_mod.")},
    "compiled blocks": lambda s: middle(s, "_orig_mod"),
    "FSDP": lambda s: prefixed(middle(s, "_fsdp_wrapped_module"), "_fsdp_wrapped_module."),
    "activation checkpointing": lambda s: middle(s, "_checkpoint_wrapped_module"),
    "Lightning": lambda s: {"epoch": 3, "state_dict": prefixed(s, "model."), "optimizer_states": [{}], "callbacks": {}},
    "Lightning, net": lambda s: {"state_dict": prefixed(s, "net.")},
    "Lightning with a loss": lambda s: {"state_dict": {**prefixed(s, "model."), "criterion.weight": torch.ones(5)}},
    "Lightning with metrics": lambda s: {"state_dict": {**prefixed(s, "model."), "train_acc.tp": torch.ones(1)}},
    "DeepSpeed": lambda s: {"module": s, "buffer_names": [], "optimizer": None},
    "MAE": lambda s: {"model": s, "optimizer": {"state": {0: {"exp_avg": torch.zeros(3)}}}, "scaler": {}},
    "fastai": lambda s: {"model": s, "opt": {"state": [], "hypers": []}},
    "several deep": lambda s: {"checkpoint": {"app": {"network": {"weights": prefixed(s, "a.b.module.encoder.")}}}},
    "one class within another": lambda s: {**prefixed({k: v for k, v in s.items() if "head." not in k}, "wrapped.backbone."),
                                           "wrapped.fc.weight": s["head.weight"], "wrapped.fc.bias": s["head.bias"]},
    "head in a Sequential": lambda s: {k.replace("head.", "head.1."): v for k, v in s.items()},
    "OpenMMLab": lambda s: {"state_dict": {**prefixed({k: v for k, v in s.items() if "head." not in k}, "backbone.timm_model."),
                                           "head.fc.weight": s["head.weight"], "head.fc.bias": s["head.bias"]}},
}  # fmt: skip


@pytest.mark.parametrize("name", WRAPPED)
def test_wrapped_weights(name: str, tmp_path: Path) -> None:
    """Whatever is around them, the weights are the same, and what was taken off is said."""
    state = timm()
    checkpoint = load_checkpoint(saved(WRAPPED[name](state), tmp_path))
    assert torch.equal(checkpoint.model.head.weight, state["head.weight"])
    assert torch.equal(checkpoint.model.blocks[1].proj.weight, state["blocks.1.attn.proj.weight"])
    if name not in ("torch.compile", "compiled blocks", "FSDP", "activation checkpointing"):  # inserted by torch itself
        assert any(note.startswith(("weights: ", "head: ")) for note in checkpoint.notes), checkpoint.notes


@pytest.mark.parametrize(("outer", "inner"), [("vit.", "vit."), ("backbone.", ""), ("model.backbone.", "vit."), ("model.", "")])
def test_wrapped_hugging_face_models(outer: str, inner: str, tmp_path: Path) -> None:
    """A transformers backbone in a class of one's own, its head beside it."""
    state = dict(ref.randomise(ref.HfVit(), seed=5).state_dict())
    parent = outer.partition(".")[0] + "." if outer.startswith("model.") else ""
    base = inner if outer == "vit." else outer + inner
    wrapped = {base + key.removeprefix("vit.") if key.startswith("vit.") else parent + key: value for key, value in state.items()}
    assert torch.equal(head(saved(wrapped, tmp_path), heads=4), state["classifier.weight"])


@pytest.mark.parametrize("extra", ["normalizer.mean", "adapter.weight", "model.extra"])
def test_what_may_matter_is_not_left_out(extra: str, tmp_path: Path) -> None:
    """Only losses, metrics and averages are known to take no part."""
    content = {**prefixed(timm(), "model."), extra: torch.zeros(3, 3, 3)}
    with pytest.raises(CheckpointError, match="leaving it out would change the results"):
        load_checkpoint(saved(content, tmp_path))


def test_a_file_that_holds_itself(tmp_path: Path) -> None:
    """A pickle may name one mapping within itself."""
    content: dict[str, Any] = {"state_dict": timm()}
    content["again"] = content
    content["state_dict"]["more"] = content
    assert head(saved(content, tmp_path)).shape == (5, 128)


# --- averages ------------------------------------------------------------------------------------------------------------

AVERAGED = {
    "timm": lambda raw, ema: {"state_dict": raw, "state_dict_ema": ema},
    "DeiT": lambda raw, ema: {"model": raw, "model_ema": ema},
    "ema": lambda raw, ema: {"model": raw, "ema": {"decay": 0.9, "module": ema}},
    "ema_state_dict": lambda raw, ema: {"model_state_dict": raw, "ema_state_dict": ema},
    "ema_model": lambda raw, ema: {"net": raw, "ema_model": prefixed(ema, "module.")},
    "module_ema": lambda raw, ema: {"module": raw, "module_ema": ema},
    "shadow": lambda raw, ema: {"model": raw, "ema": {"shadow": ema}},
    "within one state dict": lambda raw, ema: {"state_dict": prefixed(raw, "model.") | prefixed(ema, "ema_model.module.")
                                               | {"ema_model.n_averaged": torch.tensor(4)}},
    "Lightning callback": lambda raw, ema: {"state_dict": prefixed(raw, "model."),
                                            "callbacks": {"EMACallback": {"ema_weights": prefixed(ema, "model.")}}},
    "DINO": lambda raw, ema: {"student": prefixed(raw, "module."), "teacher": ema},
}  # fmt: skip


@pytest.mark.parametrize("name", AVERAGED)
def test_averages_are_taken_as_timm_takes_them(name: str, tmp_path: Path) -> None:
    """Unless the option says otherwise; the note says which were taken and how to get the others, and caches tell them apart."""
    raw, ema = timm(1), timm(2)
    path = saved(AVERAGED[name](raw, ema), tmp_path)
    taken = load_checkpoint(path)
    assert torch.equal(taken.model.head.weight, ema["head.weight"])
    (note,) = [note for note in taken.notes if note.startswith("weights: took")]
    assert "--weights raw" in note
    assert torch.equal(head(path, weights="ema"), ema["head.weight"])
    other = load_checkpoint(path, weights="raw")
    assert torch.equal(other.model.head.weight, raw["head.weight"])
    assert "--weights ema" in next(note for note in other.notes if note.startswith("weights: took"))
    assert taken.digest != other.digest


def test_an_average_alone(tmp_path: Path) -> None:
    """As torch.optim.swa_utils.AveragedModel saves itself: it is what there is, and raw weights are not."""
    path = saved({"n_averaged": torch.tensor(9), **prefixed(timm(), "module.")}, tmp_path)
    assert head(path, weights="ema").shape == head(path).shape == (5, 128)
    with pytest.raises(ConfigError, match=r"holds no weights 'raw' \(--weights\)"):
        load_checkpoint(path, weights="raw")


def test_weights_that_are_not_there(tmp_path: Path) -> None:
    path = saved({"state_dict": timm()}, tmp_path)
    with pytest.raises(ConfigError, match=r"holds no weights 'ema' \(--weights\). It holds state_dict"):
        load_checkpoint(path, weights="ema")
    with pytest.raises(ConfigError, match="Did you mean 'state_dict'"):
        load_checkpoint(path, weights="statedict")


def test_several_models_by_name(tmp_path: Path) -> None:
    """Two of a kind: the one in the customary entry, with a note; the other by its name."""
    last, best = timm(1), timm(2)
    path = saved({"best_weights": best, "model": last, "state_dict_ema": None}, tmp_path)
    checkpoint = load_checkpoint(path)
    assert torch.equal(checkpoint.model.head.weight, last["head.weight"])
    assert "weights: took the weights in 'model'; --weights best_weights takes 'best_weights'" in checkpoint.notes
    assert torch.equal(head(path, weights="best_weights"), best["head.weight"])


def test_a_larger_teacher_is_no_average(tmp_path: Path) -> None:
    """Distillation: the student is the model."""
    path = saved({"teacher": timm(1, width=192, heads=3), "student": timm(2)}, tmp_path)
    checkpoint = load_checkpoint(path)
    assert checkpoint.model.config.width == 128
    assert any("'teacher'" in note for note in checkpoint.notes)


@pytest.mark.parametrize("name", ["schema", "semantic", "emanuel", "maximum"])
def test_names_that_only_contain_ema(name: str, tmp_path: Path) -> None:
    path = saved({name: timm(1), "state_dict_ema": timm(2)}, tmp_path)
    assert torch.equal(head(path, weights="raw"), timm(1)["head.weight"])
