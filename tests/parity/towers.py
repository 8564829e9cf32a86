"""Tiny CLIPs and SigLIPs by the true transformers and open_clip, with tokenizers of their own, and what they make of texts."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import open_clip
import timm
import torch
import torch.nn.functional as F
import transformers as T
from safetensors.torch import save_file
from tokenizers import Tokenizer, models, pre_tokenizers
from tokenizers.processors import TemplateProcessing
from torch import Tensor

from tests.parity.conftest import lively

WORDS = [*["<s>", "</s>", "<pad>", "<unk>"], *["a", "photo", "of", "the", "there", "crack", "scratch", "fine", "wall"]]
TOWER = {"image_size": 32, "patch_size": 8, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2,
         "num_attention_heads": 2}  # fmt: skip
TEXT = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16, "vocab_size": len(WORDS),
        "max_position_embeddings": 12, "bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 2}  # fmt: skip
OPEN = {"layers": 2, "width": 16, "head_width": 8, "patch_size": 8, "image_size": 32}
OPEN_TEXT = {"context_length": 12, "vocab_size": 49408, "width": 8, "heads": 2, "layers": 1}
TIMM = {"img_size": 32, "patch_size": 8, "embed_dim": 64, "depth": 1, "num_heads": 1, "mlp_ratio": 0.5}


@dataclass(frozen=True)
class Real:
    """A model with both towers, and how its own library uses it."""

    model: Any
    save: Callable[[Path], object]
    embed: Callable[[list[str]], Tensor]
    features: Callable[[Tensor], Tensor]

    @property
    def bias(self) -> Tensor | None:
        return getattr(self.model, "logit_bias", None)

    @torch.inference_mode()
    def texts(self, names: Sequence[str], prompts: Sequence[str]) -> Tensor:
        """The mean of the embeddings in all prompts, [names, features] of length 1."""
        each = [F.normalize(self.embed([prompt.replace("{}", name) for name in names]), dim=-1) for prompt in prompts]
        return F.normalize(torch.stack(each).mean(0), dim=-1)

    @torch.inference_mode()
    def logits(self, images: Tensor, texts: Tensor) -> Tensor:
        """What the library itself makes of both."""
        found = self.model.logit_scale.exp() * F.normalize(self.features(images), dim=-1) @ texts.T
        return found if self.bias is None else found + self.bias


def tokenizer() -> T.PreTrainedTokenizerFast:
    """By words, so that nothing is downloaded."""
    made = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.post_processor = TemplateProcessing(single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 1)])
    return T.PreTrainedTokenizerFast(
        tokenizer_object=made, bos_token="<s>", eos_token="</s>", pad_token="<pad>", unk_token="<unk>", model_max_length=12
    )


def _of_transformers(model: Any, *, sigmoid: bool) -> Real:
    words = tokenizer()

    def embed(texts: list[str]) -> Tensor:
        how = {"padding": "max_length"} if sigmoid else {"padding": True}  # as SigLIP was trained
        tokens = words(texts, return_tensors="pt", truncation=True, max_length=12, **how)
        taken = {"input_ids": tokens["input_ids"]} if sigmoid else {**tokens}
        taken.pop("token_type_ids", None)
        return _tensor(model.get_text_features(**taken))

    def save(folder: Path) -> None:
        model.save_pretrained(folder)
        words.save_pretrained(folder)

    return Real(_scaled(model), save, embed, lambda images: _tensor(model.get_image_features(pixel_values=images)))


def _tensor(found: Any) -> Tensor:
    return found if isinstance(found, Tensor) else found.pooler_output


def _scaled(model: Any) -> Any:
    lively(model)
    with torch.no_grad():
        model.logit_scale.fill_(3.0)
    return model


def of_open_clip(config: dict[str, Any], *, small: dict[str, Any] | None = None) -> Real:
    """With timm's tower where ``small`` makes one of its models tiny."""
    create = timm.create_model
    with patch.object(timm, "create_model", lambda name, **how: create(name, **(how | (small or {})))):
        kind = open_clip.model.CustomTextCLIP if small else open_clip.model.CLIP
        model = _scaled(kind(**json.loads(json.dumps(config))))
    with torch.no_grad():
        for value in model.parameters():
            value.copy_(value.half())  # what a file of half the size holds
    words = open_clip.get_tokenizer("ViT-B-32", context_length=12)

    def save(folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        state = {name: value.contiguous().clone() for name, value in model.state_dict().items() if name != "attn_mask"}
        # 49,408 words would be a megabyte; who computes texts gives the library's own tokenizer all of them.
        visual = {name: value.half() for name, value in state.items() if name.startswith(("visual.", "logit_"))}
        save_file(visual if folder.name.startswith("open_clip") else state, folder / "open_clip_model.safetensors")
        settings = {"mean": [0.5] * 3, "std": [0.5] * 3, "interpolation": "bicubic", "resize_mode": "squash"}
        (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": config, "preprocess_cfg": settings}))

    return Real(model, save, lambda texts: model.encode_text(words(texts)), model.encode_image)


def towers() -> dict[str, Real]:
    """By the name of their fixture."""
    both = {"vision_config": TOWER, "text_config": TEXT}
    siglip = {"vision_config": TOWER, "text_config": {**TEXT, "projection_size": 16}}
    return {
        "huggingface_clip_tower": _of_transformers(T.CLIPModel(T.CLIPConfig(**both, projection_dim=12)), sigmoid=False),
        "huggingface_siglip_tower": _of_transformers(T.SiglipModel(T.SiglipConfig(**siglip)), sigmoid=True),
        "open_clip_tower": of_open_clip({"embed_dim": 12, "vision_cfg": OPEN, "text_cfg": OPEN_TEXT, "quick_gelu": True}),
        "open_clip_siglip_tower": of_open_clip(
            {"embed_dim": 64, "init_logit_bias": -3.0, "text_cfg": {**OPEN_TEXT, "width": 64},
             "vision_cfg": {"image_size": 32, "timm_model_name": "vit_base_patch16_siglip_224", "timm_pool": "map",
                            "timm_proj": "none"}},
            small=TIMM | {"mlp_ratio": 0.25, "patch_size": 4},
        ),
        "open_clip_eva_tower": of_open_clip(
            {"embed_dim": 12, "text_cfg": {**OPEN_TEXT, "width": 16},
             "vision_cfg": {"image_size": 32, "timm_model_name": "eva02_base_patch16_clip_224", "timm_pool": "token",
                            "timm_proj": None}},
            small=TIMM,
        ),
    }  # fmt: skip
