"""The artefact: a directory (or a zip of it) of a manifest and the files that it vouches for.

``manifest.json`` holds the SHA-256 and size of every other file. A file's bytes are checked before
any parser sees them; nothing is pickled; names cannot leave the bundle; sizes are bounded before anything is read.
``manifest.json.sig``, if there is one, is a signature of the manifest's bytes, and so of the whole.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import stat
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any

from edgevit import externaldata, signing
from edgevit.errors import BundleError, ConfigError, StorageError, did_you_mean, storage_errors
from edgevit.files.bounded import open_regular
from edgevit.files.fromjson import conform, json_value
from edgevit.files.paths import exists, is_file
from edgevit.files.recognition import not_a_bundle
from edgevit.files.writing import beside, put, write_whole
from edgevit.known.known import Known, load_known
from edgevit.manifestjson import SCHEMA, ManifestJson
from edgevit.onnxfile import check_model
from edgevit.preprocess import Preprocessing
from edgevit.problem import PROBLEM_TYPES, SINGLE_LABEL
from edgevit.textclasses import TextHead

MANIFEST = "manifest.json"
SIGNATURE = "manifest.json.sig"
MODEL = "model.onnx"
REFERENCE = "reference.onnx"
GRAPHS = (MODEL, REFERENCE)
WEIGHTS = ".data"
"""Behind a graph's name, where its weights lie in a file of their own: that of a graph of over 2 GiB."""
REPORT = "report.json"
ENGINE = "engine.plan"
TIMING_CACHE = "timing.cache"
SAMPLES = "samples.npz"
"""A few frames with what the model makes of them in torch, to check every engine with; see `edgevit.engine.samples`."""
KNOWN = "known.npz"
"""What known images look like to the model: `edgevit.known.known.Known`."""
# What a damaged or foreign zip can raise: bad directory, bad deflate stream, unknown compression, encryption.
_ZIP_ERRORS = (zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, EOFError, ValueError)
_MANIFEST_LIMIT = 16 * 2**20  # bytes; the largest real one, 21,841 labels, is under 1 MiB
_FILES = 64  # a bundle has eight
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_DIRECTORY_LIMIT = 2**20  # bytes of a zip's directory: zipfile reads all of it before anything else
_DENSE = 64 * 2**20  # bytes from which on a zip's member must not shrink
_RATIO = 100  # times; weights shrink by less than 2, JSON by 30


Parts = Sequence[bytes | memoryview]
"""A file's content, piece by piece."""


@dataclass(frozen=True, kw_only=True)
class FileEntry:
    """What the manifest knows of one file."""

    sha256: str
    bytes: int


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """Everything about a bundle that is not a weight."""

    name: str
    family: str
    """Where the checkpoint came from, such as ``huggingface DINOv2``."""
    model: dict[str, Any]
    """`edgevit.model.vit.VitConfig` as a dict."""
    preprocessing: Preprocessing
    labels: tuple[str, ...]
    precision: str
    """``int8``, ``mixed`` or ``fp32``; ``blocks`` has what each GEMM became."""
    blocks: tuple[dict[str, str], ...]
    """Per block: GEMM name to precision, such as ``{"qkv": "int8", ..., "scores": "int8", "values": "fp32"}``."""
    recipe: dict[str, Any]
    target: dict[str, Any]
    engine: str
    problem_type: str = SINGLE_LABEL
    """What the logits mean, one of `edgevit.problem.PROBLEM_TYPES`: scores are their softmax, or the sigmoid of each."""
    text: TextHead | None = None
    """How the head was made, where its classes were given as text; None with classes that it was trained on."""
    reasons: dict[str, str] = field(default_factory=dict)
    """Why a part such as ``blocks.3.attention`` is in floating point."""
    accuracy: dict[str, Any] | None = None
    """As measured at build time, with its conditions; None without held-out images."""
    latency: dict[str, Any] | None = None
    """As measured at build time, with its conditions."""
    known: dict[str, Any] | None = None
    """What tells unknown objects was fitted to so many ``images`` and ``judged`` by so many; None in a bundle without."""
    compiled: dict[str, Any] | None = None
    """What compiling for the target showed: the plan's figures, estimates per board, and what an engine file is bound to."""
    checks: tuple[dict[str, Any], ...] = ()
    """Every graph on the engine that its figures are from, held against torch: engine, precision, ``frames``, ``sqnr_db`` of
    the worst frame, ``bound_db`` that it had to reach."""
    provenance: dict[str, Any] = field(default_factory=dict)
    """SHA-256 of weights, calibration images and recipe, and the versions that made the bundle."""
    notes: tuple[str, ...] = ()
    """Assumptions made on the way, one sentence each."""
    edgevit: str = ""
    schema: int = SCHEMA
    files: dict[str, FileEntry] = field(default_factory=dict)

    @property
    def input(self) -> str:
        """The model's input size and what gave it, for people; a bundle of an older edgevit does not tell the latter."""
        return described_input(self.model["image_size"], str(self.provenance.get("input", {}).get("from", "")))

    @property
    def features(self) -> int | None:
        """Width of the features that its graphs give beside logits; None if they do not."""
        model = self.model
        if not model.get("gives_features"):
            return None
        width: int = model.get("projected") or model["width"] * len(model["pooling"])
        return width

    def to_json(self) -> str:
        """The text of ``manifest.json``."""
        data = asdict(self)
        for key in ("text", "known"):  # as manifests were before there was one
            if data[key] is None:
                del data[key]
        text = json.dumps(data, indent=2, ensure_ascii=False) + "\n"
        # File names that are no UTF-8 come as halves of surrogate pairs; escaped so, they are JSON.
        return text.encode("utf-8", "backslashreplace").decode()

    @classmethod
    def from_json(cls, text: str | bytes, where: str) -> Manifest:
        """Inverse of `to_json`. Raises BundleError naming ``where`` and the fault."""
        try:
            data = json_value(text)
            schema = data["schema"]
            if schema != SCHEMA:
                msg = f"{where}: bundle schema {schema}, this edgevit reads {SCHEMA}. Build it again, or install another edgevit."
                raise BundleError(msg)
            known = conform(data, ManifestJson, "")
            data |= {"preprocessing": known["preprocessing"], "text": known.get("text")}
            data["files"] = {str(name): FileEntry(**entry) for name, entry in data["files"].items()}
            data.setdefault("checks", [])  # bundles of before have none
            for key in ("labels", "blocks", "notes", "checks"):
                data[key] = tuple(data[key])
            manifest = cls(**data)
            _check_agreement(manifest)
            return manifest
        except (ValueError, KeyError, TypeError, AttributeError, ConfigError) as error:
            reason = f"misses {error}" if isinstance(error, KeyError) else str(error)
            msg = f"{where}: not a valid manifest: {reason}. Copy the bundle again, or build it again."
            raise BundleError(msg) from error


def described_input(size: Sequence[int], sized_by: str) -> str:
    """``224x224 (preprocessor_config.json)``: (height, width) in pixels, and what gave them, "" if that is unknown."""
    text = "x".join(map(str, size))
    return f"{text} ({sized_by})" if sized_by else text


def _check_agreement(manifest: Manifest) -> None:
    """Raise ValueError where parts of a manifest that are right each in itself contradict each other."""
    model, labels = manifest.model, manifest.labels
    if manifest.problem_type not in PROBLEM_TYPES:
        msg = f"problem_type must be one of {', '.join(PROBLEM_TYPES)}"
        raise ValueError(msg)
    if len(labels) != model["classes"]:
        msg = f"labels must be {model['classes']} texts, one per class of the model"
        raise ValueError(msg)
    if tuple(model["image_size"]) != manifest.preprocessing.size:
        msg = "model.image_size must be the preprocessing's size"
        raise ValueError(msg)


class Bundle:
    """A bundle on disk, a folder or a zip. `read` gives checked bytes."""

    def __init__(self, path: Path, manifest: Manifest, sha256: str = "") -> None:
        self.path, self.manifest = path, manifest
        self.sha256 = sha256
        """Of the bytes of ``manifest.json``, and so of the whole: what ``sha256sum`` says. Empty where it was not read."""

    def __repr__(self) -> str:
        return f"Bundle({str(self.path)!r}, {self.manifest.precision}, {len(self.manifest.labels)} labels)"

    def read(self, name: str) -> bytes:
        """The bytes of file ``name``, a graph with all its weights.

        Raises BundleError if it is missing, is not what was written, or no graph that fits.
        """
        content = self.raw(name)
        if name not in GRAPHS:
            return content
        try:
            if name + WEIGHTS in self.manifest.files:
                content = externaldata.joined(content, name + WEIGHTS, self.raw(name + WEIGHTS))
            # Hashes say that a file is the one that was built, not that whoever built it meant well, or that it fits the rest.
            check_model(content, self.manifest.preprocessing.size, len(self.manifest.labels), self.manifest.features)
        except ValueError as error:
            msg = f"{self.path}: {name} is not this bundle's model: {error}. Do not trust this bundle; build it again."
            raise BundleError(msg) from error
        return content

    def manifest_bytes(self) -> bytes:
        """The very bytes of the manifest that was opened, which a signature is over. Raises BundleError if others lie there."""
        content = _read_member(self.path, MANIFEST, _MANIFEST_LIMIT)
        if hashlib.sha256(content).hexdigest() != self.sha256:
            msg = f"{self.path}: {MANIFEST} has changed since it was opened. Run the same command again."
            raise BundleError(msg)
        return content

    def raw(self, name: str) -> bytes:
        """The bytes of file ``name`` as it lies there. Raises BundleError if it is missing or is not what was written."""
        entry = self.manifest.files.get(name)
        if entry is None:
            msg = f"{self.path}: this bundle holds no {name}. {did_you_mean(name, self.manifest.files)}"
            raise BundleError(msg)
        content = _read_member(self.path, name, entry.bytes)
        if len(content) != entry.bytes or hashlib.sha256(content).hexdigest() != entry.sha256:
            msg = (
                f"{self.path}: {name} is not the file that was built ({len(content)} bytes, expected {entry.bytes}, "
                "or other content). It is damaged or was changed: copy the bundle again, or build it again."
            )
            raise BundleError(msg)
        return content

    def known(self) -> Known | None:
        """What known images look like to the model; None if it was built without. Raises BundleError for a damaged one."""
        if KNOWN not in self.manifest.files:
            return None
        try:
            return load_known(self.raw(KNOWN), len(self.manifest.labels), self.manifest.features or 0)
        except ValueError as error:
            msg = f"{self.path}: {KNOWN} is not this bundle's: {error}. Do not trust this bundle; build it again."
            raise BundleError(msg) from error

    def verify(self) -> None:
        """Check every file. Raises BundleError at the first that differs."""
        for name in self.manifest.files:
            self.read(name)
        self.known()

    @property
    def bytes(self) -> int:
        """Size of all files together."""
        return sum(entry.bytes for entry in self.manifest.files.values())


def open_bundle(path: str | Path, keys: Sequence[Path] | None = ()) -> Bundle:
    """Open a bundle folder or zip. Raises BundleError if it is none, saying what is wrong.

    With ``keys``, files of public keys, it must be signed by one of them; without, by one of those that the environment
    variable EDGEVIT_REQUIRE_SIGNATURE names, if it names any. That is checked before the manifest is parsed. None asks for no
    signature at all: for what is compared to a signed bundle.
    """
    return _opened(Path(path), keys)[0]


def _opened(path: Path, keys: Sequence[Path] | None) -> tuple[Bundle, bytes]:
    """The bundle, and the very bytes of its manifest."""
    if not exists(path, BundleError):
        msg = f"{path}: no such bundle. Make one with: edgevit build MODEL --target cpu --data DIR -o {path}"
        raise BundleError(msg)
    if path.is_dir() and not is_file(path / MANIFEST, BundleError):
        msg = f"{path}: this folder is no bundle: it has no {MANIFEST}."
        raise BundleError(_with_advice(path, msg))
    if not path.is_dir() and not (path.is_file() and zipfile.is_zipfile(path)):
        msg = f"{path}: not a bundle: neither a folder nor a complete zip."
        raise BundleError(_with_advice(path, msg))
    if not path.is_dir() and (known := not_a_bundle(path)):  # a torch file is a zip, too
        msg = f"{path}: {known}"
        raise BundleError(msg)
    content = _read_member(path, MANIFEST, _MANIFEST_LIMIT)
    if len(content) > _MANIFEST_LIMIT:
        msg = f"{path}: {MANIFEST} is over {_MANIFEST_LIMIT} bytes; this is no edgevit bundle."
        raise BundleError(msg)
    if keys is not None and (trusted := tuple(keys) or signing.required_keys()):
        signing.check_signature(content, read_signature(path), trusted, path)
    bundle = Bundle(path, Manifest.from_json(content, f"{path}/{MANIFEST}"), hashlib.sha256(content).hexdigest())
    names = bundle.manifest.files
    for name in names:
        if not _NAME.fullmatch(name) or name in (MANIFEST, SIGNATURE):
            msg = f"{path}: the manifest names a file outside the bundle: {name!r}. Do not trust this bundle."
            raise BundleError(msg)
    if len(names) > _FILES or len({name.casefold() for name in names}) < len(names):
        msg = f"{path}: the manifest names more than {_FILES} files, or two that differ in case only. Do not trust this bundle."
        raise BundleError(msg)
    return bundle, content


def _with_advice(path: Path, message: str) -> str:
    """``message``, or what ``path`` is instead of a bundle and what to do with it, where that is known."""
    known = not_a_bundle(path)
    return f"{path}: {known}" if known else message


def read_signature(path: Path) -> bytes | None:
    """The bundle's signature; None if it has none. Raises BundleError if it cannot be read."""
    there = exists(path / SIGNATURE, BundleError) if path.is_dir() else _zip_member(path, SIGNATURE) is not None
    return _read_member(path, SIGNATURE, signing.BYTES) if there else None


def sign_bundle(path: Path, private: Path) -> Bundle:
    """Sign the bundle at ``path`` with the key in the file ``private``; an older signature is replaced.

    Every file is checked first, so that nobody signs what is damaged, and what is signed is what was read then: a manifest that
    changes meanwhile has no valid signature. Raises BundleError, ConfigError or StorageError.
    """
    bundle, content = _opened(path, ())
    bundle.verify()
    signature = signing.sign(content, private)
    if path.is_dir():
        write_whole(path / SIGNATURE, signature)
        return bundle
    # The manifest's very bytes: to write it anew might change them.
    files = {name: (bundle.raw(name),) for name in bundle.manifest.files}
    with storage_errors(path), beside(path) as folder:
        put(_write_zip(folder, {MANIFEST: (content,), SIGNATURE: (signature,), **files}), path)
    return bundle


def is_bundle(path: str | Path) -> bool:
    """Whether ``path`` looks like a bundle rather than a checkpoint: it holds a manifest."""
    path = Path(path)
    try:
        if path.is_dir():
            return (path / MANIFEST).is_file()
        return path.is_file() and zipfile.is_zipfile(path) and _zip_member(path, MANIFEST) is not None
    except (OSError, *_ZIP_ERRORS):
        return False


def check_replaceable(path: Path) -> None:
    """Raise BundleError if ``path`` exists and is not a bundle that edgevit wrote, of whatever schema, and nothing else.

    Raises StorageError if it cannot be looked at.
    """
    if not exists(path, StorageError):
        return
    try:
        data = json_value(_read_member(path, MANIFEST, _MANIFEST_LIMIT)) if is_bundle(path) else {}
    except (ValueError, BundleError):
        data = {}
    if not isinstance(data, dict) or not {"edgevit", "schema", "files"} <= data.keys():
        msg = f"{path}: exists and is no edgevit bundle; it is not overwritten. Choose another place with -o."
        raise BundleError(msg)
    if path.is_dir() and (strange := _not_its_own(path, data["files"])):
        msg = f"{path}: {strange} lies in it, which is not the bundle's, and would be lost. Move it elsewhere."
        raise BundleError(msg)


def _not_its_own(folder: Path, named: object) -> str | None:
    """The first thing in a bundle's folder that its manifest does not name, but what systems hide there."""
    own = {MANIFEST, SIGNATURE, *(named if isinstance(named, dict) else ())}
    strange = (path.name for path in folder.iterdir() if path.name not in own and not path.name.startswith("."))
    return min(strange, default=None)


def write_bundle(path: str | Path, manifest: Manifest, files: Mapping[str, bytes]) -> Bundle:
    """Write a bundle folder, or a zip if ``path`` ends in ``.zip``: beside first, then renamed into place.

    An older bundle at ``path`` is replaced, and stays a folder or a zip, whatever its name; anything else there is left
    alone and BundleError raised.
    Raises StorageError if the disk is full or read-only; nothing half-written stays.
    """
    path = Path(path)
    check_replaceable(path)
    parts = {file: content for name, data in files.items() for file, content in _as_files(name, data).items()}
    manifest = replace(manifest, files={name: _entry(content) for name, content in parts.items()})
    contents = {MANIFEST: (manifest.to_json().encode(),), **parts}
    packed = zipfile.is_zipfile(path) if path.exists() else path.suffix == ".zip"
    with storage_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with beside(path) as folder:
            put(_write_zip(folder, contents) if packed else _write_folder(folder, contents), path)
    return Bundle(path, manifest)


def _as_files(name: str, data: bytes) -> dict[str, Parts]:
    """File ``name``, or of a graph that is larger than any reader of protobuf takes two: itself, and its weights."""
    if name not in GRAPHS or len(data) <= externaldata.MESSAGE_LIMIT:
        return {name: (data,)}
    apart = externaldata.parted(data, name + WEIGHTS)
    return {name: (apart.graph,), name + WEIGHTS: apart.weights}


def _entry(content: Parts) -> FileEntry:
    digest = hashlib.sha256()
    for part in content:
        digest.update(part)
    return FileEntry(sha256=digest.hexdigest(), bytes=sum(map(len, content)))


def _write_folder(staging: Path, contents: Mapping[str, Parts]) -> Path:
    folder = staging / "bundle"
    folder.mkdir()
    for name, content in contents.items():
        with (folder / name).open("wb") as file:
            file.writelines(content)
    return folder


def _write_zip(staging: Path, contents: Mapping[str, Parts]) -> Path:
    path = staging / "bundle.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in contents.items():
            info = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))  # a fixed date: the same content gives the same zip
            info.compress_type, info.file_size = zipfile.ZIP_DEFLATED, sum(map(len, content))
            with archive.open(info, "w") as file:
                for part in content:
                    file.write(part)
    return path


def _read_member(path: Path, name: str, limit: int) -> bytes:
    """Up to ``limit`` + 1 bytes of a file: enough to see that it is too long, never a flood."""
    try:
        if path.is_dir():
            with open_regular(path / name, follow=False) as stream:
                return stream.read(limit + 1)
        member = _zip_member(path, name)
        if member is None:
            raise FileNotFoundError(name)
        with zipfile.ZipFile(path) as archive, archive.open(member) as stream:
            return stream.read(limit + 1)
    except (OSError, *_ZIP_ERRORS) as error:
        reason = "is missing" if isinstance(error, FileNotFoundError) else f"cannot be read: {error}"
        msg = f"{path}: {name} {reason}. Copy the bundle again, or build it again."
        raise BundleError(msg) from error


def _zip_member(path: Path, name: str) -> zipfile.ZipInfo | None:
    """The member called ``name`` at the top of a zip, or in its one folder (``zip -r x.zip x.edgevit``).

    Raises ValueError for a zip that could mean different things to different programs, or that is made to flood.
    """
    _check_directory(path)
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
    folded = [member.filename.casefold() for member in members]
    if len(set(folded)) < len(folded):
        msg = "two of the zip's files have one name"
        raise ValueError(msg)
    for member in members:
        _check_member(member)
    tops = {member.filename.partition("/")[0] for member in members}
    wanted = (name, *(f"{top}/{name}" for top in tops if len(tops) == 1))
    return next((member for candidate in wanted for member in members if member.filename == candidate), None)


def _check_member(member: zipfile.ZipInfo) -> None:
    name, kind = member.orig_filename, stat.S_IFMT(member.external_attr >> 16)
    parts = PurePosixPath(name).parts
    if name.startswith("/") or ".." in parts or "\\" in name or ":" in name or "\0" in name:
        msg = f"the zip names a file outside the bundle: {name!r}"
        raise ValueError(msg)
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR) or member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        msg = f"{name!r} in the zip is a link or a device, or packed in an uncommon way"
        raise ValueError(msg)
    if member.file_size > _DENSE and member.file_size > _RATIO * member.compress_size:
        msg = f"{name!r} in the zip unpacks to {member.file_size} bytes from {member.compress_size}: made to flood"
        raise ValueError(msg)


def _check_directory(path: Path) -> None:
    """Raise ValueError if the zip's directory is larger than any bundle's, or of the form for such: zipfile reads it whole."""
    with open_regular(path) as stream:
        size = stream.seek(0, os.SEEK_END)
        stream.seek(max(0, size - 2**16 - 22 - 20))
        tail = stream.read()
    at = tail.rfind(b"PK\5\6")
    if at < 0 or len(tail) < at + 22:
        msg = "it has no directory"
        raise zipfile.BadZipFile(msg)
    if int.from_bytes(tail[at + 12 : at + 16], "little") > _DIRECTORY_LIMIT or b"PK\6\7" in tail[max(0, at - 20) : at]:
        msg = f"its directory is over {_DIRECTORY_LIMIT} bytes; this is no edgevit bundle"
        raise ValueError(msg)
