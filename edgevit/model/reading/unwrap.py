"""The state dict inside what a training script saved.

Nobody's list of wrappers is complete, so the weights are looked for by what they are: a mapping with the patch embedding of
a known family in it is a model, wherever it lies and whatever prefix its keys have. Entries and prefixes that are named for
an average of the weights (EMA, SWA, a DINO teacher) are told from the raw ones by those names.
"""

from __future__ import annotations

import argparse
import re
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from edgevit.errors import CheckpointError, ConfigError, did_you_mean

AUTO, RAW, EMA = "auto", "raw", "ema"

# Of several models of a kind the one in the entry that comes first here, as far as it is named.
ENTRIES = ("state_dict", "model_state_dict", "model", "module", "net", "network", "student", "state_dict_ema", "model_ema", "ema",
           "teacher")  # fmt: skip
# Segments that torch.compile, FSDP and activation checkpointing put into keys, at any depth.
_INSERTED = re.compile(r"(^|\.)(?:_orig_mod|_fsdp_wrapped_module|_fpw_module|_checkpoint_wrapped_module)(?=\.)")
# Prefixes that every key of an unknown model may have, for the message that refuses it.
_COMMON = ("module.", "model.", "backbone.", "timm_model.", "net.", "network.", "encoder.")

# A key that only a model has, and what its family calls the head. transformers has a name of its own before the embedding.
_ANCHORS = (
    (re.compile(r"((?!.*visual\.trunk\.).*\.)?patch_embed\.proj\.weight"), "head"),
    (re.compile(r"(.*?\.)??visual\.(?:conv1|trunk\.patch_embed\.proj)\.weight"), "visual.head.proj"),
    (re.compile(r"(.*\.)?conv_proj\.weight"), "heads.head"),
    (re.compile(r"(.*?\.)??(?:(?:vit|deit|dinov2|dinov2_with_registers|beit)\.)?embeddings\.patch_embeddings\.projection\.weight"),
     "classifier"),
    (re.compile(r"(.*?\.)??(?:dinov3_vit\.)?embeddings\.patch_embeddings\.weight"), "classifier"),
    (re.compile(r"(.*?\.)??vision_model\.embeddings\.patch_embedding\.weight"), "classifier"),
    (re.compile(r"(.*\.)?attention_layers\.0\.query\.weight"), "output_layer"),
)  # fmt: skip
_HEADS = {
    "head": ("head", "linear_head", "head_dist"),
    "heads.head": ("heads.head",),
    "visual.head.proj": ("visual.head.proj",),
    "classifier": ("classifier", "cls_classifier"),
    "output_layer": ("output_layer",),
}
_HEAD_LIKE = re.compile(r"(?:heads?|\w*classifier|fc|linear|\w*_head|output_layer)(?:\.|$)")
# An average by its name: ema, model_ema, EMACallback, ModelEma, teacher, n_averaged; not schema, not semantic.
_AVERAGE = re.compile(r"EMA|Ema(?![a-z])|(?<![A-Za-z])ema(?![a-z])|teacher|averaged|(?<![A-Za-z])swa(?![a-z])|shadow")
# What lies beside a model and takes no part in it: losses, metrics, counters of averages.
_BESIDE = re.compile(
    r"(?:^|\.)(?:n_averaged|(?:\w*_)?(?:criterion|loss|loss_fn|losses|metrics?|acc|accuracy|f1|auroc|confmat))\d*(?:\.|$)"
)
# Where training scripts keep their arguments, and those that say how the model is used.
_SCRIPTS = ("args", "hyper_parameters", "config", "cfg", "opt")
_ARGUMENTS = ("model", "arch", "img_size", "input_size", "mean", "std", "crop_pct", "interpolation")
_DEPTH = 8  # of nested entries; a real checkpoint has three
_ENTRIES = 10_000  # mappings looked at; an optimizer has one for every parameter


@dataclass(frozen=True, kw_only=True)
class Unwrapped:
    """One model's tensors by the keys of its family, and how it was found."""

    tensors: dict[str, Tensor]
    notes: tuple[str, ...]
    taken: str = ""
    """The name of the entry, where there are several models."""
    arguments: str = ""
    """What the training script's own arguments in the file say about the model and its input, for people."""


@dataclass(frozen=True, kw_only=True)
class _Found:
    """A model in a file."""

    path: tuple[str, ...]
    prefix: str
    tensors: dict[str, Tensor]
    """Without the prefix; what lies beside the model under its whole key."""
    average: bool
    notes: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """As a user may call it: ``state_dict_ema``, or ``ema_model.module`` for a prefix."""
        return "/".join(self.path) or self.prefix.rstrip(".") or "the file"

    @property
    def full_name(self) -> str:
        return "/".join((*self.path, self.prefix.rstrip("."))).strip("/")


def unwrap(content: Any, path: Path, which: str | None = None) -> Unwrapped:
    """The tensors of the model in ``content``, which the file ``path`` holds, and notes on how they were found.

    Args:
        content: what the file holds.
        path: for messages.
        which: ``auto`` (None) takes averaged weights where there are some, as timm does; ``raw``, ``ema``, or an entry's name.

    Raises:
        CheckpointError: there are no tensors.
        ConfigError: ``which`` is not there.
    """
    entries = list(_entries(content))
    if not entries:
        msg = f"{path}: holds no named tensors. Save the model's state_dict()."
        raise CheckpointError(msg)
    found = [model for entry, tensors in entries for model in _models(entry, tensors)]
    if not found:
        return _unknown(entries, path, which)
    found = _told_apart(found)
    chosen, notes = _chosen(found, path, which or AUTO)
    read = _read_from(chosen)
    notes = notes or ((read,) if read else ())
    return Unwrapped(
        tensors=chosen.tensors,
        notes=(*notes, *chosen.notes),
        taken=chosen.full_name if len(found) > 1 else "",
        arguments=_arguments(content),
    )


def _entries(content: Any) -> Iterator[tuple[tuple[str, ...], dict[str, Tensor]]]:
    """Every mapping in ``content`` that holds tensors, with the names that lead to it, the outer ones first."""
    waiting: deque[tuple[tuple[str, ...], Any]] = deque([((), content)])
    for _ in range(_ENTRIES):  # a mapping in a file may hold itself
        if not waiting:
            return
        path, mapping = waiting.popleft()
        if not isinstance(mapping, Mapping):
            continue
        tensors = {_tidy(str(key)): value for key, value in mapping.items() if isinstance(value, Tensor)}
        if tensors:
            yield path, tensors
        if len(path) < _DEPTH:
            waiting.extend(((*path, str(key)), value) for key, value in mapping.items() if isinstance(value, Mapping))


def _arguments(content: Any) -> str:
    """The arguments of a training script that bear on how its model is used, as ``name=value``."""
    for entry in _SCRIPTS if isinstance(content, Mapping) else ():
        held = content.get(entry)
        values = vars(held) if isinstance(held, argparse.Namespace) else held if isinstance(held, Mapping) else {}
        said = [f"{name}={values[name]}" for name in _ARGUMENTS if isinstance(values.get(name), str | int | float | list | tuple)]
        if said:
            return "".join(mark if mark.isprintable() else "?" for mark in ", ".join(said)[:200])
    return ""


def _tidy(key: str) -> str:
    return _INSERTED.sub("", key).lstrip(".") if "_" in key else key


def _models(path: tuple[str, ...], tensors: dict[str, Tensor]) -> Iterator[_Found]:
    """The models among ``tensors``, each without its prefix and with its head."""
    prefixes: dict[str, str] = {}
    for key in tensors:
        for anchor, head in _ANCHORS:
            if match := anchor.fullmatch(key):
                prefixes.setdefault(match[1] or "", head)
    averaged = "n_averaged" in tensors
    for prefix, head in prefixes.items():
        others = [other for other in prefixes if other != prefix and other.startswith(prefix)]
        own = {key.removeprefix(prefix): value for key, value in tensors.items()
               if key.startswith(prefix) and not key.startswith(tuple(others))}  # fmt: skip
        # Beside no other model: what lies beside one that fills the file belongs to that.
        outside = {} if "" in prefixes else {key: value for key, value in tensors.items() if not key.startswith(tuple(prefixes))}
        kept, notes = _with_head(own, outside, head)
        name = ".".join((*path, prefix))
        yield _Found(path=path, prefix=prefix, tensors=kept, average=averaged or bool(_AVERAGE.search(name)), notes=notes)


def _with_head(own: dict[str, Tensor], outside: dict[str, Tensor], head: str) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """``own`` keys with the head under its family's name, wherever it was; what else lies outside stays, unless it is known."""
    left_out = [key for key in (*outside, *own) if _BESIDE.search(key) or (key in outside and _AVERAGE.search(key))]
    rest = {key: value for key, value in {**outside, **own}.items() if key not in left_out}
    shown = [key for key in left_out if key != "n_averaged"]
    named = ", ".join(map(repr, shown[:3])) + (" ..." if shown[3:] else "")
    notes = (f"weights: left out {named}, no part of the model",) if shown else ()
    if any(f"{name}.weight" in rest for name in _HEADS[head]):
        return rest, notes
    stems = {key.rpartition(".")[0] for key in rest if key not in own or _HEAD_LIKE.match(key)}
    stem = stems.pop() if len(stems) == 1 else ""
    weight = rest.get(f"{stem}.weight")
    if weight is None or weight.ndim != 2:
        return rest, notes
    width = next((value.shape[0] for value in own.values() if value.ndim == 4), 0)
    name = "linear_head" if head == "head" and weight.shape[1] == 2 * width else head
    renamed = {name + key.removeprefix(stem) if key.startswith(f"{stem}.") else key: value for key, value in rest.items()}
    said = f"head: took {stem!r} as the classification layer"
    return renamed, (*notes, said) if stem.rpartition(".")[2] not in ("head", "linear_head", "classifier") else notes


def _told_apart(found: list[_Found]) -> list[_Found]:
    """A teacher of another size than its student is no average of it."""
    shapes = [{key: value.shape for key, value in model.tensors.items()} for model in found]
    raw = [shape for model, shape in zip(found, shapes, strict=True) if not model.average]
    return [
        replace(model, average=False) if model.average and raw and shape not in raw and "teacher" in model.full_name else model
        for model, shape in zip(found, shapes, strict=True)
    ]


def _chosen(found: Sequence[_Found], path: Path, which: str) -> tuple[_Found, tuple[str, ...]]:
    """The model that ``which`` means, and what to say of the others."""
    averages, raw = [model for model in found if model.average], [model for model in found if not model.average]
    if which in (AUTO, RAW, EMA):
        pool = averages or raw if which == AUTO else averages if which == EMA else raw
    else:
        pool = [model for model in found if which in (model.name, model.full_name, *model.path[-1:], model.prefix.rstrip("."))]
    if not pool:
        names = [model.full_name or "one model alone" for model in found]
        hint = did_you_mean(which, names) if which not in (RAW, EMA) else f"It holds {', '.join(names)}."
        msg = f"{path}: holds no weights {which!r} (--weights). {hint}"
        raise ConfigError(msg)
    chosen = min(pool, key=lambda model: _rank(model))
    others = [model for model in found if model is not chosen]
    if not others:
        return chosen, ()
    kind = "the averaged weights (EMA)" if chosen.average else "the weights"
    why = ", as timm does" if chosen.average and which == AUTO and any(not model.average for model in others) else ""
    instead = ", ".join(f"--weights {_option(model, found)} takes {model.full_name!r}" for model in others[:3])
    return chosen, (f"weights: took {kind} in {chosen.full_name!r}{why}; {instead}",)


def _option(model: _Found, found: Sequence[_Found]) -> str:
    """The shortest value of ``--weights`` that means ``model`` alone."""
    kind = EMA if model.average else RAW
    named = model.full_name if model.full_name.isprintable() else repr(model.full_name)  # no escapes of a file's on a terminal
    return kind if sum(other.average == model.average for other in found) == 1 else named


def _rank(model: _Found) -> int:
    named = re.split(r"[/.]", model.full_name)
    return min((ENTRIES.index(name) for name in named if name in ENTRIES), default=len(ENTRIES))


def _read_from(model: _Found) -> str:
    """What was opened and taken off, for people; "" if it is the file as it is, or as one library of models writes it."""
    parts = [f"read from {'/'.join(model.path)!r}"] if model.path else []
    if model.prefix not in ("", "timm_model."):
        parts.append(f"without the prefix {model.prefix!r}")
    return f"weights: {', '.join(parts)}" if parts else ""


def _unknown(entries: Sequence[tuple[tuple[str, ...], dict[str, Tensor]]], path: Path, which: str | None) -> Unwrapped:
    """Of a file without a known family the largest mapping, for a message that says what it is."""
    if which not in (None, AUTO, RAW):
        msg = f"{path}: holds no weights {which!r} (--weights) of a model that edgevit knows."
        raise ConfigError(msg)
    _, tensors = max(entries, key=lambda entry: len(entry[1]))
    while prefix := next((p for p in _COMMON if all(key.startswith(p) for key in tensors)), ""):
        tensors = {key.removeprefix(prefix): value for key, value in tensors.items()}
    return Unwrapped(tensors=tensors, notes=())
