"""Heads as transformers' own pipeline reads them. Run with: make test-parity."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from edgevit.model import load_checkpoint
from edgevit.model.pixels import normalise
from edgevit.preprocess import prepare
from edgevit.problem import MULTI_LABEL, SINGLE_LABEL
from edgevit.runtime.classify import top_k

transformers = pytest.importorskip("transformers")
Image = pytest.importorskip("PIL.Image")


@pytest.mark.parametrize(("problem_type", "classes"), [(MULTI_LABEL, 6), (SINGLE_LABEL, 6), (None, 6), (None, 1)])
def test_scores_are_the_pipelines(problem_type: str | None, classes: int, tmp_path: Path) -> None:
    names = dict(enumerate("abcdef"[:classes]))
    config = transformers.ViTConfig(
        image_size=32, patch_size=8, hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64,
        problem_type=problem_type, id2label=names, label2id={name: i for i, name in names.items()},
    )  # fmt: skip
    torch.manual_seed(0)
    model = transformers.ViTForImageClassification(config).eval()
    with torch.no_grad():
        model.classifier.weight.mul_(20)
    model.save_pretrained(tmp_path)
    processor = transformers.ViTImageProcessor(size={"height": 32, "width": 32})
    processor.save_pretrained(tmp_path)
    pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    pipeline = transformers.pipeline("image-classification", model=model, image_processor=processor, top_k=classes)
    wanted = {each["label"]: each["score"] for each in pipeline(Image.fromarray(pixels))}
    checkpoint = load_checkpoint(tmp_path)
    frames = torch.from_numpy(prepare(pixels[..., ::-1], checkpoint.preprocessing)[None])
    with torch.no_grad():
        logits = checkpoint.model(normalise(frames, checkpoint.preprocessing))[0].numpy()
    found = {each.label: each.confidence for each in top_k(logits, checkpoint.labels, classes, checkpoint.problem_type)}
    assert found == pytest.approx(wanted, abs=1e-5)
