"""Text embeddings by a checkpoint's own text tower: of transformers, or of OpenCLIP, whose packages compute them."""

from __future__ import annotations

import logging
import re
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from edgevit.errors import CheckpointError, ConfigError, needs_extra
from edgevit.model.families.openai import OPENAIS_OWN
from edgevit.model.reading.files import Files, locate
from edgevit.model.reading.hub import on_disk
from edgevit.model.reading.labels import given_labels
from edgevit.model.reading.weights import read_weights
from edgevit.textclasses import TextClasses, TextSource, read_embeddings, text_classes

if TYPE_CHECKING:
    from numpy.typing import NDArray

PROMPT = "a photo of a {}"
"""CLIP's own, where none is given."""
BATCH = 64
TOKENIZERS = ("tokenizer.json", "vocab.json", "spiece.model", "tokenizer.model", "vocab.txt", "sentencepiece.bpe.model")
_TEXT_KEY = re.compile(r"text_model\.|token_embedding\.weight|text\.")


@dataclass(frozen=True, kw_only=True)
class Tower:
    """A text tower that is ready."""

    embed: Callable[[list[str]], Tensor]
    """Texts to vectors [texts, features]."""
    scale: float | None
    bias: float | None


def resolved(
    source: TextSource, model: Path, labels: Sequence[str] | None = None, *, activation: str | None = None
) -> tuple[TextClasses, list[str]]:  # fmt: skip
    """The classes of ``source`` for the image tower of the checkpoint ``model``, called ``labels`` if there are some; and notes.

    Raises as `texts_by_tower` and `edgevit.textclasses.read_embeddings` do.
    """
    if source.embeddings is not None:
        return read_embeddings(source.embeddings, labels), []
    classes = given_labels(source.classes)
    texts = texts_by_tower(on_disk(source.model or model)[0], classes, source.prompts, activation=activation)
    notes = [] if source.prompts else [f"classes: as text in {PROMPT!r}; --prompt has another sentence, or several"]
    return texts.called(labels), notes


def texts_by_tower(
    model: Path, labels: Sequence[str], prompts: Sequence[str] = (), *, activation: str | None = None
) -> TextClasses:  # fmt: skip
    """Classes called ``labels``, each the mean of its embeddings in all ``prompts`` (arXiv 2103.00020, section 3.1.4).

    Args:
        model: a checkpoint that holds the text tower: a folder of transformers, or of OpenCLIP; or a file of OpenAI's keys.
        labels: what to look for.
        prompts: sentences with ``{}``, where the class stands; `PROMPT` by default.
        activation: of a file that does not tell, ``quick_gelu`` or ``gelu``.

    Raises:
        ConfigError: no labels, or a prompt without ``{}``.
        CheckpointError: there is no text tower.
        MissingPackageError: the package that computes it is not installed.
    """
    prompts = tuple(prompts) or (PROMPT,)
    wrong = next((prompt for prompt in prompts if "{}" not in prompt), None)
    if wrong is not None:
        msg = f"--prompt {wrong!r}: write {{}} where the class stands: --prompt {PROMPT!r}"
        raise ConfigError(msg)
    if not labels or not all(label.strip() for label in labels):
        msg = 'classes: name at least two, with commas between them: --classes "crack, scratch, fine"'
        raise ConfigError(msg)
    names = [label.strip() for label in labels]
    tower = _tower(locate(model), activation)
    embeddings = torch.stack([_embedded(tower, [prompt.replace("{}", name) for name in names]) for prompt in prompts]).mean(0)
    return text_classes(names, _numpy(embeddings), model, scale=tower.scale, bias=tower.bias, prompts=prompts)


@torch.inference_mode()
def _embedded(tower: Tower, texts: list[str]) -> Tensor:
    """Vectors of length 1 [texts, features], float32."""
    with _quiet():
        parts = [tower.embed(texts[start : start + BATCH]) for start in range(0, len(texts), BATCH)]
    return torch.nn.functional.normalize(torch.cat(parts).float(), dim=-1)


def _numpy(values: Tensor) -> NDArray[Any]:
    found: NDArray[Any] = values.detach().cpu().numpy()
    return found


def _tower(files: Files, activation: str | None) -> Tower:
    folder, model = files.origin.parent, files.config.get("model_type")
    if isinstance(files.config.get("model_cfg"), dict):
        return _of_open_clip(folder)
    if model is not None:
        return _of_transformers(folder, files)
    return _of_file(files, activation)


def _of_transformers(folder: Path, files: Files) -> Tower:
    with needs_extra("text"):
        from transformers import AutoModel, AutoTokenizer
    tokenizer: Any = None
    try:
        with _quiet():
            model: Any
            model, said = AutoModel.from_pretrained(
                folder, local_files_only=True, dtype=torch.float32, output_loading_info=True
            )  # fmt: skip
            # Without one, transformers would make an empty tokenizer, to which all words are one.
            if any((folder / name).is_file() for name in TOKENIZERS):
                tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError, ImportError, KeyError) as error:
        msg = (
            f"{folder}: transformers cannot make the text tower or its tokenizer of these: {_first_line(error)}. The folder "
            "needs config.json and the tokenizer's files."
        )
        raise CheckpointError(msg) from error
    if not hasattr(model, "get_text_features") or any(_TEXT_KEY.match(key) for key in said["missing_keys"]):
        raise CheckpointError(_no_text(files))
    if tokenizer is None:
        msg = f"{folder}: there is no tokenizer beside the text tower ({', '.join(TOKENIZERS[:3])}). Download the whole folder."
        raise CheckpointError(msg)
    model.eval()
    bias, sigmoid = getattr(model, "logit_bias", None), hasattr(model, "logit_bias")
    length = getattr(getattr(model.config, "text_config", None), "max_position_embeddings", None)

    def embed(texts: list[str]) -> Tensor:
        if sigmoid:  # trained on lower case, every text padded to the full length
            texts = [text.lower() for text in texts]
        how = {"padding": "max_length" if sigmoid else True, "truncation": True, "max_length": length}
        found = model.get_text_features(**_known(tokenizer(texts, return_tensors="pt", **how), model))
        return found if isinstance(found, Tensor) else found.pooler_output

    return Tower(embed=embed, scale=_exp(model.logit_scale), bias=None if bias is None else float(bias.detach()))


def _known(tokens: Mapping[str, Tensor], model: Any) -> dict[str, Tensor]:
    """SigLIP's text tower was trained without a mask over padding; some tokenizers make one all the same."""
    dropped = {"token_type_ids"} | ({"attention_mask"} if hasattr(model, "logit_bias") else set())
    return {name: value for name, value in tokens.items() if name not in dropped}


def _of_open_clip(folder: Path) -> Tower:
    with needs_extra("open-clip"):
        import open_clip
    try:
        with _quiet():
            model = open_clip.create_model(f"local-dir:{folder}")
            tokenizer = open_clip.get_tokenizer(f"local-dir:{folder}")
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        msg = f"{folder}: open_clip cannot make the text tower of these files: {_first_line(error)}"
        raise CheckpointError(msg) from error
    return _open_clip_tower(model, tokenizer)


def _of_file(files: Files, activation: str | None) -> Tower:
    """Of weights alone in OpenAI's keys, whose shapes tell the rest, and whose tokenizer OpenCLIP has."""
    state = read_weights(files.weights).tensors
    if not any(_TEXT_KEY.match(key) for key in state):
        raise CheckpointError(_no_text(files))
    with needs_extra("open-clip"):
        import open_clip
    quick = activation == "quick_gelu" if activation is not None else OPENAIS_OWN in state
    try:
        with _quiet():
            model = open_clip.model.build_model_from_openai_state_dict(dict(state), quick_gelu=quick).float()
            model.load_state_dict(dict(state), strict=False)  # again: it made FP16 of them
    except (RuntimeError, KeyError, ValueError) as error:
        msg = (
            f"{files.origin}: the text tower is none that its weights alone tell ({_first_line(error)}). Give the folder with "
            "open_clip_config.json, or --text-embeddings FILE."
        )
        raise CheckpointError(msg) from error
    return _open_clip_tower(model, open_clip.get_tokenizer("ViT-B-32", context_length=model.context_length))


def _open_clip_tower(model: Any, tokenizer: Any) -> Tower:
    model.eval()
    bias = getattr(model, "logit_bias", None)
    return Tower(
        embed=lambda texts: model.encode_text(tokenizer(texts)),
        scale=_exp(model.logit_scale),
        bias=None if bias is None else float(bias.detach()),
    )


def _no_text(files: Files) -> str:
    return (
        f"{files.origin}: holds no text tower, so there is nothing to make embeddings of classes with. Name the whole model "
        "with --text-model, or give --text-embeddings FILE."
    )


def _exp(logit_scale: Tensor) -> float:
    return float(logit_scale.detach().double().exp())


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)[:200]


@contextmanager
def _quiet() -> Iterator[None]:
    """Without what both packages tell of their own accord, and without their progress bars."""
    level = logging.root.manager.disable
    logging.disable(logging.ERROR)
    bars = getattr(getattr(sys.modules.get("transformers"), "utils", None), "logging", None)
    if bars is not None:
        bars.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)
        if bars is not None:
            bars.enable_progress_bar()
