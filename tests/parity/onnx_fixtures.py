"""Makes tests/model/fixtures/onnx: tiny random ViTs as six true exporters write them, and what torch answers.

    .venv-parity/bin/python -m tests.parity.onnx_fixtures

Each is a folder with ``model.onnx``, what its exporter leaves beside it, and ``logits.json``: what the torch model gives for
`tests.model.test_onnx_in.images_for`, or for its frames where the graph takes frames. The ordinary tests read them, where none of
these libraries is installed.
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path

import onnx
import timm
import torch
import torchvision
import transformers as T
from timm.utils.onnx import onnx_export
from torch import Tensor, nn

from edgevit.unreported import import_onnxruntime, unreported
from tests.model.test_onnx_in import FOLDER, LABELS, frames_for, images_for
from tests.parity.conftest import lively
from tests.parity.test_onnx_in import TOWERS, Logits, Wrapper, export

SMALL = {"img_size": 32, "patch_size": 8, "embed_dim": 16, "depth": 2, "num_heads": 2, "num_classes": 5}
TINY = {"image_size": 32, "patch_size": 8, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2,
        "num_attention_heads": 2, "num_labels": 5}  # fmt: skip
FRAMES = ("ultralytics_style",)


def of_timm(folder: Path) -> nn.Module:
    """timm's own export, of a ViT with registers and LayerScale."""
    model = lively(timm.create_model("vit_small_patch14_reg4_dinov2", **SMALL))
    onnx_export(model, str(folder / "model.onnx"), example_input=images_for((32, 32)))
    return model


def of_optimum(folder: Path) -> nn.Module:
    """A folder as optimum's exporter writes it, with the settings of transformers beside the graph."""
    names = dict(enumerate(LABELS))
    model = lively(T.ViTForImageClassification(T.ViTConfig(**TINY, id2label=names, label2id={v: k for k, v in names.items()})))
    export(Logits(model), images_for((32, 32)), folder / "model.onnx", dynamo=False)
    model.config.save_pretrained(folder)
    T.ViTImageProcessor(size={"height": 32, "width": 32}, image_mean=[0.4, 0.5, 0.6]).save_pretrained(folder)
    return Logits(model)


def of_torchscript(folder: Path) -> nn.Module:
    """torchvision's, by the TorchScript exporter, of an opset that writes norms and GELU out."""
    model = lively(torchvision.models.VisionTransformer(32, 8, 2, 2, 16, 24, num_classes=5))
    export(model, images_for((32, 32)), folder / "model.onnx", dynamo=False, opset_version=14)
    return model


def of_dynamo(folder: Path) -> nn.Module:
    """DINOv2 with SwiGLU of transformers, by the exporter of torch.export, its weights in a file beside it."""
    model = Logits(lively(T.Dinov2ForImageClassification(T.Dinov2Config(**TINY, use_swiglu_ffn=True))))
    export(model, images_for((32, 32)), folder / "model.onnx", dynamo=True, external_data=True)
    return model


def of_ultralytics(folder: Path) -> nn.Module:
    """A wrapper that takes frames, uint8 NHWC BGR, normalises them and ends in a softmax; labels are in the metadata."""
    inner = lively(timm.create_model("vit_tiny_patch16_224", **SMALL))
    frames = torch.from_numpy(frames_for((32, 32)))
    path = export(Wrapper(inner), frames, folder / "model.onnx", dynamo=False)
    model = onnx.load(path)
    onnx.helper.set_model_props(model, {"names": str(dict(enumerate(LABELS))), "task": "classify", "author": "somebody"})
    onnx.save(model, path)
    return Wrapper(inner, ends=False)


def of_optimizer(folder: Path) -> nn.Module:
    """CLIP of transformers, fused by ONNX Runtime's optimizer."""
    import_onnxruntime()
    with unreported():
        from onnxruntime.transformers import optimizer

    model = Logits(lively(T.CLIPForImageClassification(T.CLIPConfig(**TOWERS))))
    with tempfile.TemporaryDirectory() as place:
        plain = export(model, images_for((32, 32)), Path(place) / "plain.onnx", dynamo=False)
        fused = optimizer.optimize_model(str(plain), model_type="clip", num_heads=2, hidden_size=32, opt_level=0)
        fused.save_model_to_file(str(folder / "model.onnx"))
    return model


EXPORTERS: dict[str, Callable[[Path], nn.Module]] = {
    "timm": of_timm,
    "optimum_style": of_optimum,
    "torchscript": of_torchscript,
    "dynamo": of_dynamo,
    "ultralytics_style": of_ultralytics,
    "onnxruntime_fused": of_optimizer,
}


def without_places(path: Path) -> None:
    """Leave out what the exporter says of the machine it ran on: stack traces of every node."""
    model = onnx.load(path, load_external_data=False)
    for item in (*model.graph.node, *model.graph.input, *model.graph.output, *model.graph.value_info, *model.graph.initializer):
        item.ClearField("metadata_props")
        item.ClearField("doc_string")
    model.graph.ClearField("metadata_props")
    path.write_bytes(model.SerializeToString())


@torch.inference_mode()
def answered(model: nn.Module, name: str) -> Tensor:
    return model.eval()(torch.from_numpy(frames_for((32, 32))) if name in FRAMES else images_for((32, 32)))


def main() -> None:
    warnings.simplefilter("ignore")
    for name, make in EXPORTERS.items():
        folder = FOLDER / name
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        rows = answered(make(folder), name)
        without_places(folder / "model.onnx")
        (folder / "logits.json").write_text(json.dumps([[round(float(value), 7) for value in row] for row in rows]) + "\n")
        print(name, sum(path.stat().st_size for path in folder.iterdir()), file=sys.stderr)


if __name__ == "__main__":
    main()
