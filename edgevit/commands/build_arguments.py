"""From plain arguments to what a build or a pruning is asked to do: what goes with what, and what is assumed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from edgevit.commands.arguments import (
    bundle_named_after,
    choice_of,
    device_of,
    known_options,
    number_of,
    number_or_none,
    path_of,
    path_or_none,
    pruned_named_after,
    recipe_of,
    target_of,
    wrong_type,
)
from edgevit.commands.build_request import BuildRequest
from edgevit.commands.import_options import ImportOptions, import_options
from edgevit.commands.steps import Merge, Prune, Search, Step
from edgevit.errors import ConfigError
from edgevit.images.classes import ORDERS
from edgevit.pruning.settings import PruneSettings
from edgevit.search.settings import SearchSettings
from edgevit.target import PRECISIONS
from edgevit.tokens.settings import MergeSettings, merge_settings

if TYPE_CHECKING:
    from pathlib import Path

    from typing_extensions import Unpack

    from edgevit.recipe import Recipe
    from edgevit.target import Target

CHOICES = ("auto", *reversed(PRECISIONS))


class PruneOptions(ImportOptions, total=False):
    """How to prune, where something is to be pruned, and how to read the checkpoint."""

    recover: int
    """Epochs of distillation from the unpruned model afterwards."""
    score: str
    """What goes first: obs, wifv, variance, or taylor, which needs labels."""
    prune_images: int
    """Images that pruning uses at most."""
    multiple: int | None
    """MLP widths stay a multiple of it; the target's by default."""


class SharedArguments(PruneOptions, total=False):
    """What `build_request` and `prune_request` take alike."""

    data: str | Path | None
    target: str | Path | Target
    out: str | Path | None
    eval_data: str | Path | None
    eval_limit: int
    recipe: str | Path | Recipe
    reference: bool
    features: bool
    unknown: bool
    class_order: str | None
    threads: int | None
    device: str
    command: str


def build_request(
    model: str | Path,
    *,
    precision: str | None = None,
    max_drop: float | None = None,
    prune: float | str | None = None,
    speedup: float | None = None,
    merge: float | str | None = None,
    **rest: Unpack[SharedArguments],
) -> BuildRequest:
    """What `edgevit.commands.build.build` is asked to do. Raises as it does for arguments that are wrong by themselves."""
    given, target = known_options(dict(rest), SharedArguments), target_of(rest.get("target", "cpu"))
    smaller = _smaller(prune, speedup, merge, given, target.multiple)
    precision, max_drop = choice_of(precision, "precision", CHOICES), number_or_none(max_drop, "max_drop", 0.0, 100.0)
    auto = any(step.spends for step in smaller)
    if auto and max_drop is None:
        max_drop = 1.0  # for pruning and INT8 together
    precision = precision or ("int8" if max_drop is None else "auto")
    if precision != "auto" and max_drop is not None and not auto:
        msg = f"--precision {precision} leaves --max-drop nothing to choose. Give one of the two, or --precision auto."
        raise ConfigError(msg)
    if precision == "auto":
        precision, max_drop = "int8", 0.5 if max_drop is None else max_drop
    source = path_of(model, "model")
    out = path_or_none(given.pop("out", None), "out") or bundle_named_after(source)
    return _request(given, model=source, target=target, out=out, precision=precision, max_drop=max_drop, smaller=smaller)


def prune_request(
    model: str | Path,
    *,
    share: float | str | None = None,
    speedup: float | None = None,
    merge: float | str | None = None,
    max_drop: float | None = None,
    precision: str | None = None,
    **rest: Unpack[SharedArguments],
) -> BuildRequest:
    """What `edgevit.commands.prune.prune` is asked to do. Raises as it does for arguments that are wrong by themselves."""
    given, target = known_options(dict(rest), SharedArguments), target_of(rest.get("target", "cpu"))
    max_drop = number_or_none(max_drop, "max_drop", 0.0, 100.0)
    if max_drop is not None and share is None and speedup is None and merge in (None, "none"):
        share = "auto"
    smaller = _smaller(share, speedup, merge, given, target.multiple)
    if not smaller:
        msg = "Say how much: --prune 0.2 or --merge 0.2 (a share of the MACs), --speedup 1.2, or --prune auto --max-drop 0.5."
        raise ConfigError(msg)
    auto = any(step.spends for step in smaller)
    if auto and max_drop is None:
        max_drop = 0.5
    if not auto and max_drop is not None:
        msg = "--max-drop bounds --prune auto; a share or a speed-up leaves it nothing to choose."
        raise ConfigError(msg)
    precision = choice_of(precision, "precision", CHOICES[1:]) or ("int8" if "int8" in target.precisions else "fp32")
    source = path_of(model, "model")
    out = path_or_none(given.pop("out", None), "out") or pruned_named_after(source)
    return _request(given, model=source, target=target, out=out, precision=precision, max_drop=max_drop, smaller=smaller)


def _smaller(prune: Any, speedup: Any, merge: Any, given: dict[str, Any], multiple: int) -> tuple[Step, ...]:
    """What makes the model smaller: one search for a goal, or shares and merges by hand. Takes how out of ``given``."""
    method: dict[str, Any] = {
        "images": number_of(given.pop("prune_images", 512), "prune_images", 1),
        "multiple": number_of(given.pop("multiple", multiple), "multiple", 1),
        "recover": number_of(given.pop("recover", 0), "recover", 0), "score": given.pop("score", "obs"),
    }  # fmt: skip
    auto, none = isinstance(prune, str) and prune == "auto", isinstance(merge, str) and merge == "none"
    merges = None if none else _merges(merge)
    for name, value in (("share to prune", None if auto else prune), ("speedup", speedup)):
        if value is not None and (isinstance(value, bool) or not isinstance(value, int | float)):
            raise wrong_type(value, name, "a number, or 'auto'" if name != "speedup" else "a number")
    if speedup is not None or auto:
        if speedup is not None and prune is not None:
            msg = "say how much to prune in one way: a share of the MACs (--prune 0.2), --speedup 1.2, or --prune auto."
            raise ConfigError(msg)
        return (Search(SearchSettings(speedup=speedup, auto=auto, merge=merges, tokens=not none, **method)),)
    if none:
        msg = "--merge none keeps a search from merging tokens: it goes with --speedup or --prune auto. Leave it out."
        raise ConfigError(msg)
    if prune is None and method["recover"]:
        msg = "--recover trains a pruned model: say how much to prune with --prune or --speedup."
        raise ConfigError(msg)
    pruned = (Prune(PruneSettings(share=prune, **method)),) if prune is not None else ()
    return (*pruned, *((Merge(merges),) if merges else ()))


def _merges(merge: Any) -> MergeSettings | None:
    """How many tokens to merge; None if none are."""
    if merge is None:
        return None
    if isinstance(merge, bool) or not isinstance(merge, str | int | float):
        raise wrong_type(merge, "merge", "a share of the MACs, or a text such as '64@2,64@5'")
    return merge_settings(merge if isinstance(merge, str) else repr(float(merge)))


def _request(given: dict[str, Any], **decided: Any) -> BuildRequest:
    """A request from what was ``decided`` and what of `SharedArguments` is ``given``, which need no rule."""
    unknown = bool(given.pop("unknown", False))
    return BuildRequest(
        data=path_or_none(given.pop("data", None), "data"),
        eval_data=path_or_none(given.pop("eval_data", None), "eval_data"),
        eval_limit=number_of(given.pop("eval_limit", 1024), "eval_limit", 1),
        recipe=recipe_of(given.pop("recipe", "default")),
        reference=bool(given.pop("reference", True)),
        features=bool(given.pop("features", False)) or unknown,
        unknown=unknown,
        class_order=choice_of(given.pop("class_order", None), "class_order", ORDERS),
        threads=number_or_none(given.pop("threads", None), "threads", 1),
        device=device_of(given.pop("device", "auto")),
        command=given.pop("command", ""),
        options=import_options({name: value for name, value in given.items() if name in ImportOptions.__annotations__}),
        **decided,
    )
