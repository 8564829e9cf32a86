"""Models by their names on the Hugging Face hub: ``hf:ORG/NAME``, ``timm:NAME``, or ``ORG/NAME`` where no such path is here.

The package huggingface_hub does all of it: cache, token of its own login, offline mode (HF_HUB_OFFLINE), another hub
(HF_ENDPOINT), progress. Nothing is asked of a hub unless a name is typed that means one.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from edgevit.errors import CheckpointError
from edgevit.files.paths import exists
from edgevit.model.reading.files import INDEX_NAMES, WEIGHT_NAMES

if TYPE_CHECKING:
    from huggingface_hub.hf_api import ModelInfo

_NAME = re.compile(r"(?:(hf|hf-hub|timm):/*)?([A-Za-z0-9][\w.-]*(?:/[A-Za-z0-9][\w.-]*)?)(?:@([\w./-]+))?")
_SETTINGS = (
    "config.json", "preprocessor_config.json", "processor_config.json", "open_clip_config.json", "tokenizer.json",
    "tokenizer_config.json", "special_tokens_map.json", "vocab.json", "vocab.txt", "merges.txt", "spiece.model",
    "tokenizer.model", "sentencepiece.bpe.model",
)  # fmt: skip
"""Small files that tell how weights are used."""
_SUFFIXES = (".safetensors", ".bin", ".pth", ".pt")
PROPOSED = 5


@dataclass(frozen=True, kw_only=True)
class HubName:
    """What was typed, taken apart."""

    repo: str
    """``org/name``."""
    revision: str | None
    """A branch, tag or commit; None is the default branch."""
    of_timm: bool


@dataclass(frozen=True, kw_only=True)
class Fetched:
    """A repository's files on this machine's disk."""

    folder: Path
    repo: str
    commit: str

    @property
    def origin(self) -> str:
        """For provenance: ``org/name@commit``."""
        return f"{self.repo}@{self.commit}"


def hub_name(path: Path) -> HubName | None:
    """The name that ``path`` is on a hub; None for a path of this machine, also for one that is not there."""
    text = path.as_posix()
    match = _NAME.fullmatch(text)
    if match is None or (match[1] is None and ("/" not in match[2] or _is_local(path))):
        return None
    if match[1] in ("hf", "hf-hub") and "/" not in match[2]:
        msg = f"{text}: a name on the hub is ORG/NAME: hf:google/vit-base-patch16-224"
        raise CheckpointError(msg)
    of_timm = match[1] == "timm"
    repo = match[2] if "/" in match[2] else f"timm/{match[2]}"
    return HubName(repo=repo, revision=match[3], of_timm=of_timm)


def _is_local(path: Path) -> bool:
    """Whether it means a place here: it is there, or its folder is, or it has the suffix of a file."""
    suffixes = (*_SUFFIXES, ".ckpt", ".tar", ".onnx", ".zip", ".edgevit", ".npz")
    return exists(path, CheckpointError) or path.parent.is_dir() or path.suffix in suffixes


def on_disk(path: Path) -> tuple[Path, Fetched | None]:
    """``path``, or where the repository that it names was downloaded to. Raises as `fetched` does.

    Without huggingface_hub a name is a path that is not there, and the error for that says how to fetch it by hand.
    """
    name = hub_name(path)
    if name is None or find_spec("huggingface_hub") is None:
        return path, None
    found = fetched(name)
    return found.folder, found


def fetched(name: HubName) -> Fetched:
    """The repository's settings and weights, downloaded if they are not in huggingface_hub's cache.

    Raises CheckpointError for whatever a hub can refuse.
    """
    from huggingface_hub import errors, hf_hub_download

    with _explained(name):
        try:
            name, found = _asked(name)
        except errors.OfflineModeIsEnabled:
            return _of_cache(name)
        files = wanted([item.rfilename for item in found.siblings or ()], name.repo)
        places = [Path(hf_hub_download(name.repo, file, revision=name.revision)) for file in files]
    folder = places[0].parents[len(Path(files[0]).parts) - 1]
    return Fetched(folder=folder, repo=name.repo, commit=folder.name)


def _asked(name: HubName) -> tuple[HubName, ModelInfo]:
    """What the hub knows of ``name``, which for a model of timm may lack the tag of its training where there is one alone.

    Raises CheckpointError where there are several.
    """
    from huggingface_hub import HfApi, errors

    try:
        return name, HfApi().model_info(name.repo, revision=name.revision)
    except errors.RepositoryNotFoundError:
        plain = name.repo.partition("/")[2]
        if not name.of_timm or "." in plain:
            raise
        listed = HfApi().list_models(author=name.repo.partition("/")[0], search=plain)
        tagged = sorted(item.id for item in listed if item.id.partition(".")[0] == name.repo)
        if len(tagged) > 1:
            known = ", ".join(f"timm:{repo.partition('/')[2]}" for repo in tagged)
            msg = f"timm:{plain}: has been trained {len(tagged)} times. Say which: {known}"
            raise CheckpointError(msg) from None
        if not tagged:
            raise
    name = replace(name, repo=tagged[0])
    return name, HfApi().model_info(name.repo, revision=name.revision)


def _of_cache(name: HubName) -> Fetched:
    """What was downloaded before. Raises CheckpointError if nothing was."""
    from huggingface_hub import constants
    from huggingface_hub.file_download import repo_folder_name

    place = Path(constants.HF_HUB_CACHE) / repo_folder_name(repo_id=name.repo, repo_type="model")
    if name.of_timm and not place.is_dir() and len(tagged := sorted(place.parent.glob(f"{place.name}.*"))) == 1:
        place, name = tagged[0], replace(name, repo=f"{name.repo}{tagged[0].suffix}")
    reference, revision = place / "refs" / (name.revision or constants.DEFAULT_REVISION), name.revision
    commit = reference.read_text().strip() if reference.is_file() else revision
    folder = place / "snapshots" / (commit or "")
    if commit is None or not folder.is_dir():
        msg = f"{name.repo}: not in the cache, and HF_HUB_OFFLINE forbids to ask for it. Download it where there is a network."
        raise CheckpointError(msg)
    return Fetched(folder=folder, repo=name.repo, commit=commit)


def wanted(files: Sequence[str], repo: str) -> tuple[str, ...]:
    """Of a repository's ``files`` the settings, and the weights as transformers looks for them: safetensors before pickles, and
    where there are none a float ONNX file where optimum puts it.

    Raises CheckpointError if there are none.
    """
    settings = [name for name in _SETTINGS if name in files]
    for single, index in zip(WEIGHT_NAMES, (*INDEX_NAMES, *[""] * len(WEIGHT_NAMES)), strict=False):
        if single in files:
            return (*settings, single)
        if index in files:
            stem = index.removesuffix(".index.json")
            head, tail = stem.rsplit(".", 1)
            return (*settings, index, *(name for name in files if re.fullmatch(rf"{re.escape(head)}-\d+-of-\d+\.{tail}", name)))
    for graph in ("model.onnx", "onnx/model.onnx"):
        if graph in files:
            return (*settings, graph, *(name for name in (f"{graph}_data", f"{graph}.data") if name in files))
    others = [name for name in files if "/" not in name and name.endswith(_SUFFIXES)]
    if len(others) == 1:
        return (*settings, others[0])
    what = f"several weights files ({', '.join(others[:4])}); download the one you mean and name it" if others else "no weights"
    msg = f"{repo}: holds {what}, of what edgevit reads. Its files: {', '.join(files[:6]) or 'none'}"
    raise CheckpointError(msg)


@contextmanager
def _explained(name: HubName) -> Iterator[None]:
    """Turn what huggingface_hub raises into one line."""
    from huggingface_hub import constants, errors

    asked = f"{name.repo}{f'@{name.revision}' if name.revision else ''}"
    try:
        yield
    except errors.GatedRepoError as error:
        msg = f"{asked}: its owner asks for consent. Accept the licence at {constants.ENDPOINT}/{name.repo}, then: hf auth login"
        raise CheckpointError(msg) from error
    except errors.RevisionNotFoundError as error:
        msg = f"{asked}: the repository is there, and that revision is not. Give a branch, a tag or a commit of it."
        raise CheckpointError(msg) from error
    except errors.RepositoryNotFoundError as error:
        hint = " timm's names have a tag behind a dot: timm:vit_base_patch16_224.augreg2_in21k_ft_in1k" if name.of_timm else ""
        msg = f"{asked}: no such repository, or it is private: check the name, or log in with: hf auth login.{hint}"
        raise CheckpointError(msg) from error
    except errors.LocalEntryNotFoundError as error:
        msg = f"{asked}: not in the cache, and the hub cannot be reached ({_why(error)}). Download it where there is a network."
        raise CheckpointError(msg) from error
    except (errors.HfHubHTTPError, errors.HFValidationError, errors.EntryNotFoundError) as error:
        msg = f"{asked}: the hub refuses: {_why(error)}"
        raise CheckpointError(msg) from error
    except CheckpointError:
        raise
    except (OSError, RuntimeError) as error:
        msg = f"{asked}: the download failed: {_why(error)}. The same command goes on from there."
        raise CheckpointError(msg) from error
    except Exception as error:  # of the HTTP library beneath, which versions of huggingface_hub change
        if type(error).__module__.partition(".")[0] not in ("httpx", "httpx2", "httpcore", "requests", "urllib3"):
            raise
        msg = f"{asked}: the hub cannot be reached ({_why(error)}). Check the network, or HF_ENDPOINT."
        raise CheckpointError(msg) from error


def _why(error: BaseException) -> str:
    return " ".join(str(error).split())[:160] or type(error).__name__
