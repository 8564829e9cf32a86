"""What a path holds, told by its content: so that a bundle, images or an ONNX file given in the wrong place are named as such."""

from __future__ import annotations

import itertools
import mimetypes
import re
import zipfile
from pathlib import Path

from edgevit.files.bounded import open_regular

WEIGHT_SUFFIXES = (".safetensors", ".pt", ".pth", ".bin", ".ckpt", ".tar")
WEIGHT_FILES = "a .safetensors, .pt, .pth, .ckpt, .bin or .onnx file, or a model folder"

# What a file begins with, and what it then is. Formats of other programs that people give for PyTorch weights.
FOREIGN = (
    (b"\x89HDF\r\n", "an HDF5 file (Keras, TensorFlow)"),
    (b"GGUF", "a GGUF file"),
    (b"ptrt", "a TensorRT engine"),
    (b"ftrt", "a TensorRT engine"),
    (b"<?xml", "an XML file (an OpenVINO model?)"),
)
_PICTURES = (b"\xff\xd8\xff", b"\x89PNG", b"GIF8", b"BM", b"II*\0", b"MM\0*")
_LOOKED_AT = 2000  # files of a folder until something is found
_TIMM_NAME = re.compile(r"(test_)?(vit|deit3?|flexivit|eva|eva02|beit|beitv2|swin|cait)_[a-z0-9]\w*(\.\w+)?")
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


def file_kind(path: Path) -> str:
    """``bundle``, ``checkpoint``, ``images``, ``image``, ``onnx``; a phrase for a foreign format; "" for anything else.

    Raises nothing: what cannot be read is "".
    """
    try:
        return _folder(path) if path.is_dir() else _file(path) if path.is_file() else ""
    except (OSError, zipfile.BadZipFile, ValueError, NotImplementedError, RuntimeError):
        return ""


def not_a_model(path: Path) -> str:
    """A sentence that says what ``path`` is and what to do, where a checkpoint was expected; "" if it may be one."""
    kind = file_kind(path)
    sentences = {
        "bundle": f"this is a bundle, built already: 'edgevit run {path} 0' runs it, 'edgevit inspect {path}' looks into it; "
        "or give the checkpoint that it was made of.",
        "images": f"these are images, not a model. Give the trained model as MODEL, and these with --data {path}",
        "image": f"this is an image, neither a safetensors nor a torch file. Give the trained model: {WEIGHT_FILES}.",
        "onnx": "",
        "checkpoint": "",
        "": "",
    }
    return sentences.get(kind, f"this is {kind}; edgevit reads the weights of PyTorch models. Give {WEIGHT_FILES}.")


def not_a_bundle(path: Path) -> str:
    """A sentence that says what ``path`` is and what to do, where a bundle was expected; "" if nothing is known."""
    kind = file_kind(path)
    sentences = {
        "checkpoint": f"this is a checkpoint, not a bundle. Make a bundle of it: edgevit build {path} --data DIR",
        "onnx": f"this is an ONNX model, not a bundle. Make a bundle of it: edgevit build {path} --data DIR",
        "images": f"these are images, not a bundle. The bundle comes first: edgevit run BUNDLE {path}",
        "image": f"this is an image, not a bundle. The bundle comes first: edgevit run BUNDLE {path}",
        "bundle": "",
        "": "",
    }
    return sentences.get(kind, f"this is {kind}, not a bundle. A bundle is made with: edgevit build MODEL --data DIR")


def not_images(path: Path) -> str:
    """A sentence that says what ``path`` is and what to do, where images were expected; "" if nothing is known."""
    kind = file_kind(path)
    sentences = {
        "bundle": f"this is a bundle, not images. Give the images beside it: edgevit run {path} IMAGES",
        "checkpoint": f"this is a checkpoint, not images. Give the images beside it: edgevit build {path} --data IMAGES",
        "onnx": f"this is an ONNX model, not images. Give the images beside it: edgevit build {path} --data IMAGES",
        "image": f"this is one image. Give the folder that it lies in: {path.absolute().parent}",
        "images": "",
        "": "",
    }
    return sentences.get(kind, f"this is {kind}, not images.")


def not_there(name: str) -> str:
    """What to do about a model that is no path here: two commands for the name of a model on a hub, else what may be given."""
    plain = re.sub(r"^(hf-hub|hf_hub|hf|timm):/*", "", name)
    local = plain == name and (
        Path(plain).suffix in (*WEIGHT_SUFFIXES, ".onnx", ".zip", ".edgevit") or Path(plain).parent.is_dir()
    )
    if _HUB_ID.fullmatch(plain) and (plain != name or not local):
        folder = plain.rpartition("/")[2]
        return (
            "no such file. It looks like a name on the Hugging Face hub: pip install 'edgevit[hub]' lets edgevit download it, or "
            f"hf download {plain} --local-dir {folder}  and then  edgevit build {folder}"
        )
    if _TIMM_NAME.fullmatch(plain):
        folder = plain.partition(".")[0]
        return (
            "no such file. It looks like a model of timm, which edgevit does not download: python -c "
            f"\"import timm; timm.models.save_for_hf(timm.create_model('{plain}', pretrained=True), '{folder}')\""
            f"  and then  edgevit build {folder}"
        )
    return f"no such file. Give {WEIGHT_FILES}."


def is_image_name(name: str) -> bool:
    """Whether a file of this name is a picture, by its suffix."""
    return (mimetypes.guess_type(name)[0] or "").startswith("image/")


def _folder(folder: Path) -> str:
    names = {path.name for path in itertools.islice(folder.iterdir(), _LOOKED_AT)}
    if "manifest.json" in names:
        return "bundle"
    if "config.json" in names or any(name.endswith(WEIGHT_SUFFIXES) or name.startswith("checkpoint-") for name in names):
        return "checkpoint"
    below = itertools.islice(folder.rglob("*"), _LOOKED_AT)
    suffixes = {"onnx" if path.suffix == ".onnx" else "images" if is_image_name(path.name) else "" for path in below}
    return "onnx" if "onnx" in suffixes else "images" if "images" in suffixes else ""


def _file(path: Path) -> str:
    with open_regular(path) as stream:
        start = stream.read(16)
    if start.startswith(b"PK"):
        return _zip(path)
    if start.startswith(_PICTURES) or (start.startswith(b"RIFF") and start[8:12] == b"WEBP"):
        return "image"
    if start[4:8] == b"TFL3":
        return "a TensorFlow Lite model"
    foreign = next((kind for magic, kind in FOREIGN if start.startswith(magic)), None)
    if foreign is not None:
        return foreign
    # A serialized ModelProto: its first field is the version of the format, its second a text or the version's domain.
    if path.suffix.lower() == ".onnx" or (
        start[:1] == b"\x08" and 2 < start[1] < 32 and start[2:3] in (b"\x12", b"\x1a", b":", b"B")
    ):
        return "onnx" if start else ""
    return "checkpoint" if start[8:9] == b"{" or start[:1] == b"\x80" else ""


def _zip(path: Path) -> str:
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()[:_LOOKED_AT]
    last = {name.rpartition("/")[2] for name in names}
    if "data.pkl" in last:
        return "checkpoint"
    if "manifest.json" in last:
        return "bundle"
    if names and all(name.endswith(".npy") for name in names):
        return "a NumPy archive"
    return "images" if any(map(is_image_name, names)) else ""
