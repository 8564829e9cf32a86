"""Independent references: each family's forward pass, written as its source has it, with its source's key names.

None of this touches `edgevit.model.vit.Vit`. ``forward`` takes normalised images [N, C, H, W] of any size that
the patch divides, interpolates position embeddings as the family does, and returns logits [N, classes].
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def randomise(model: nn.Module, seed: int) -> nn.Module:
    """Fill every parameter with seeded noise, so that no norm, bias, scale or position is trivial."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, value in model.named_parameters():
            noise = torch.randn(value.shape, generator=generator)
            fan_in = value[0].numel() if value.ndim in (2, 4) else 1
            is_norm = "norm" in name.lower() or "ln" in name
            value.copy_(
                1 + 0.2 * noise if is_norm and name.endswith("weight") else noise * (0.5 if fan_in == 1 else fan_in**-0.5)
            )
    return model.eval()


def patches_of(conv: nn.Module, images: Tensor) -> Tensor:
    return conv(images).flatten(2).transpose(1, 2)


# --- timm ------------------------------------------------------------------------------------------------------------


class TimmAttention(nn.Module):
    def __init__(self, width: int, heads: int, qkv_bias: bool) -> None:
        super().__init__()
        self.heads, self.scale = heads, (width // heads) ** -0.5
        self.qkv, self.proj = nn.Linear(width, 3 * width, bias=qkv_bias), nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        b, n, c = x.shape
        q, k, v = self.qkv(x).reshape(b, n, 3, self.heads, c // self.heads).permute(2, 0, 3, 1, 4).unbind(0)
        attention = ((q * self.scale) @ k.transpose(-2, -1)).softmax(dim=-1)
        return self.proj((attention @ v).transpose(1, 2).reshape(b, n, c))


class Mlp(nn.Module):
    def __init__(self, width: int, hidden: int, activation: str) -> None:
        super().__init__()
        self.fc1, self.fc2, self.activation = nn.Linear(width, hidden), nn.Linear(hidden, width), activation

    def forward(self, x: Tensor) -> Tensor:
        x = self.fc1(x)
        return self.fc2(x * torch.sigmoid(1.702 * x) if self.activation == "quick_gelu" else F.gelu(x))


class LayerScale(nn.Module):
    def __init__(self, width: int, name: str = "gamma") -> None:
        super().__init__()
        self.name = name
        self.register_parameter(name, nn.Parameter(torch.ones(width)))

    def forward(self, x: Tensor) -> Tensor:
        return x * getattr(self, self.name)


class TimmBlock(nn.Module):
    def __init__(self, width: int, heads: int, eps: float, scaled: bool, qkv_bias: bool, activation: str) -> None:
        super().__init__()
        self.norm1, self.attn = nn.LayerNorm(width, eps), TimmAttention(width, heads, qkv_bias)
        self.ls1 = LayerScale(width) if scaled else nn.Identity()
        self.norm2, self.mlp = nn.LayerNorm(width, eps), Mlp(width, 2 * width, activation)
        self.ls2 = LayerScale(width) if scaled else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.ls1(self.attn(self.norm1(x)))
        return x + self.ls2(self.mlp(self.norm2(x)))


class PatchEmbed(nn.Module):
    def __init__(self, channels: int, width: int, patch: int, bias: bool = True) -> None:
        super().__init__()
        self.proj = nn.Conv2d(channels, width, patch, patch, bias=bias)

    def forward(self, images: Tensor) -> Tensor:
        return patches_of(self.proj, images)


class TimmVit(nn.Module):
    """timm VisionTransformer and VisionTransformerDistilled."""

    def __init__(
        self, *, width: int = 128, heads: int = 2, depth: int = 2, patch: int = 8, grid: int = 4, classes: int = 5,
        channels: int = 3, class_token: bool = True, distilled: bool = False, registers: int = 0, embed_class: bool = True,
        scaled: bool = False, qkv_bias: bool = True, pool: str = "token", fc_norm: bool | None = None, pre_norm: bool = False,
        activation: str = "gelu",
    ) -> None:  # fmt: skip
        super().__init__()
        eps = 1e-5 if pre_norm else 1e-6
        self.patch, self.grid, self.pool, self.embed_class = patch, grid, pool, embed_class
        self.prefix = class_token + distilled + registers
        self.patch_embed = PatchEmbed(channels, width, patch, bias=not pre_norm)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width)) if class_token else None
        self.dist_token = nn.Parameter(torch.zeros(1, 1, width)) if distilled else None
        self.reg_token = nn.Parameter(torch.zeros(1, registers, width)) if registers else None
        self.pos_embed = nn.Parameter(torch.zeros(1, grid**2 + (self.prefix if embed_class else 0), width))
        self.norm_pre = nn.LayerNorm(width, eps) if pre_norm else nn.Identity()
        self.blocks = nn.Sequential(*[TimmBlock(width, heads, eps, scaled, qkv_bias, activation) for _ in range(depth)])
        use_fc_norm = pool == "avg" if fc_norm is None else fc_norm
        self.norm = nn.Identity() if use_fc_norm else nn.LayerNorm(width, eps)
        self.fc_norm = nn.LayerNorm(width, eps) if use_fc_norm else nn.Identity()
        self.head = nn.Linear(width, classes)
        self.head_dist = nn.Linear(width, classes) if distilled else None

    def forward(self, images: Tensor) -> Tensor:
        x = self.patch_embed(images)
        new = (images.shape[2] // self.patch, images.shape[3] // self.patch)
        prefix = self.prefix if self.embed_class else 0
        own, grid = self.pos_embed[:, :prefix], self.pos_embed[:, prefix:]
        if new != (self.grid, self.grid):
            grid = grid.reshape(1, self.grid, self.grid, -1).permute(0, 3, 1, 2)
            grid = F.interpolate(grid, size=new, mode="bicubic", antialias=True).permute(0, 2, 3, 1).flatten(1, 2)
        tokens = [t.expand(len(x), -1, -1) for t in (self.cls_token, self.dist_token, self.reg_token) if t is not None]
        x = torch.cat([*tokens, x], 1) + torch.cat([own, grid], 1) if self.embed_class else torch.cat([*tokens, x + grid], 1)
        x = self.norm(self.blocks(self.norm_pre(x)))
        if self.head_dist is not None:
            return (self.head(x[:, 0]) + self.head_dist(x[:, 1])) / 2
        x = x[:, 0] if self.pool == "token" else x[:, self.prefix :].mean(dim=1)
        return self.head(self.fc_norm(x))


# --- Hugging Face ------------------------------------------------------------------------------------------------------


class HfSelfAttention(nn.Module):
    def __init__(self, width: int, heads: int, qkv_bias: bool) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value = (nn.Linear(width, width, bias=qkv_bias) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (
            layer(x).view(*x.shape[:2], self.heads, -1).permute(0, 2, 1, 3) for layer in (self.query, self.key, self.value)
        )
        probabilities = (q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])).softmax(-1)
        return (probabilities @ v).permute(0, 2, 1, 3).flatten(2)


class Dense(nn.Module):
    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.dense = nn.Linear(inputs, outputs)

    def forward(self, x: Tensor) -> Tensor:
        return self.dense(x)


class HfAttention(nn.Module):
    def __init__(self, width: int, heads: int, qkv_bias: bool) -> None:
        super().__init__()
        self.attention, self.output = HfSelfAttention(width, heads, qkv_bias), Dense(width, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.output(self.attention(x))


class HfVitLayer(nn.Module):
    def __init__(self, width: int, heads: int, eps: float, qkv_bias: bool) -> None:
        super().__init__()
        self.attention = HfAttention(width, heads, qkv_bias)
        self.intermediate, self.output = Dense(width, 2 * width), Dense(2 * width, width)
        self.layernorm_before, self.layernorm_after = nn.LayerNorm(width, eps), nn.LayerNorm(width, eps)

    def forward(self, x: Tensor) -> Tensor:
        x = self.attention(self.layernorm_before(x)) + x
        return self.output(F.gelu(self.intermediate(self.layernorm_after(x)))) + x


class HfDinov2Layer(nn.Module):
    def __init__(self, width: int, heads: int, eps: float, qkv_bias: bool) -> None:
        super().__init__()
        self.norm1, self.attention = nn.LayerNorm(width, eps), HfAttention(width, heads, qkv_bias)
        self.layer_scale1 = LayerScale(width, "lambda1")
        self.norm2, self.mlp = nn.LayerNorm(width, eps), Mlp(width, 2 * width, "gelu")
        self.layer_scale2 = LayerScale(width, "lambda1")

    def forward(self, x: Tensor) -> Tensor:
        x = self.layer_scale1(self.attention(self.norm1(x))) + x
        return self.layer_scale2(self.mlp(self.norm2(x))) + x


class HfPatchEmbeddings(nn.Module):
    def __init__(self, width: int, patch: int) -> None:
        super().__init__()
        self.projection = nn.Conv2d(3, width, patch, patch)

    def forward(self, images: Tensor) -> Tensor:
        return patches_of(self.projection, images)


class HfEmbeddings(nn.Module):
    def __init__(self, width: int, patch: int, grid: int, distilled: bool, registers: int) -> None:
        super().__init__()
        self.patch, self.grid = patch, grid
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.mask_token = nn.Parameter(torch.zeros(1, width))
        self.distillation_token = nn.Parameter(torch.zeros(1, 1, width)) if distilled else None
        self.register_tokens = nn.Parameter(torch.zeros(1, registers, width)) if registers else None
        self.patch_embeddings = HfPatchEmbeddings(width, patch)
        self.position_embeddings = nn.Parameter(torch.zeros(1, grid**2 + 1 + distilled, width))

    def forward(self, images: Tensor) -> Tensor:
        x = self.patch_embeddings(images)
        tokens = [t.expand(len(x), -1, -1) for t in (self.cls_token, self.distillation_token) if t is not None]
        x = torch.cat([*tokens, x], dim=1) + self.positions(
            len(tokens), images.shape[2] // self.patch, images.shape[3] // self.patch
        )
        if self.register_tokens is None:
            return x
        return torch.cat([x[:, :1], self.register_tokens.expand(len(x), -1, -1), x[:, 1:]], dim=1)

    def positions(self, prefix: int, rows: int, columns: int) -> Tensor:
        if (rows, columns) == (self.grid, self.grid):
            return self.position_embeddings
        own, grid = self.position_embeddings[:, :prefix], self.position_embeddings[:, prefix:]
        grid = grid.reshape(1, self.grid, self.grid, -1).permute(0, 3, 1, 2)
        # modeling_dinov2_with_registers.py alone passes antialias=True.
        antialias = self.register_tokens is not None
        grid = F.interpolate(grid, size=(rows, columns), mode="bicubic", align_corners=False, antialias=antialias)
        return torch.cat([own, grid.permute(0, 2, 3, 1).flatten(1, 2)], dim=1)


class HfEncoder(nn.Module):
    def __init__(self, layers: list[nn.Module]) -> None:
        super().__init__()
        self.layer = nn.Sequential(*layers)


class HfModel(nn.Module):
    def __init__(self, embeddings: nn.Module, layers: list[nn.Module], width: int, eps: float) -> None:
        super().__init__()
        self.embeddings, self.encoder, self.layernorm = embeddings, HfEncoder(layers), nn.LayerNorm(width, eps)

    def forward(self, images: Tensor) -> Tensor:
        return self.layernorm(self.encoder.layer(self.embeddings(images)))


class HfVit(nn.Module):
    """ViTForImageClassification; DeiTForImageClassification (distilled), with its teacher head if ``teacher``."""

    def __init__(self, *, width: int = 128, heads: int = 4, patch: int = 8, grid: int = 4, classes: int = 5,
                 distilled: bool = False, teacher: bool = False, qkv_bias: bool = True, eps: float = 1e-12) -> None:  # fmt: skip
        super().__init__()
        layers = [HfVitLayer(width, heads, eps, qkv_bias) for _ in range(2)]
        model = HfModel(HfEmbeddings(width, patch, grid, distilled, 0), layers, width, eps)
        self.base = "deit" if distilled else "vit"
        self.add_module(self.base, model)
        self.heads = ("cls_classifier", "distillation_classifier") if teacher else ("classifier",)
        for name in self.heads:
            self.add_module(name, nn.Linear(width, classes))

    def forward(self, images: Tensor) -> Tensor:
        x = getattr(self, self.base)(images)
        logits = [getattr(self, name)(x[:, i]) for i, name in enumerate(self.heads)]
        return sum(logits) / len(logits)


class HfDinov2(nn.Module):
    """Dinov2ForImageClassification and Dinov2WithRegistersForImageClassification."""

    def __init__(self, *, width: int = 128, heads: int = 4, patch: int = 8, grid: int = 4, classes: int = 5,
                 registers: int = 0, eps: float = 1e-6) -> None:  # fmt: skip
        super().__init__()
        layers = [HfDinov2Layer(width, heads, eps, True) for _ in range(2)]
        self.base, self.registers = "dinov2_with_registers" if registers else "dinov2", registers
        self.add_module(self.base, HfModel(HfEmbeddings(width, patch, grid, False, registers), layers, width, eps))
        self.classifier = nn.Linear(2 * width, classes)

    def forward(self, images: Tensor) -> Tensor:
        x = getattr(self, self.base)(images)
        return self.classifier(torch.cat([x[:, 0], x[:, 1 + self.registers :].mean(dim=1)], dim=1))


# --- torchvision -------------------------------------------------------------------------------------------------------


class TorchvisionBlock(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.ln_1, self.ln_2 = nn.LayerNorm(width, 1e-6), nn.LayerNorm(width, 1e-6)
        self.self_attention = nn.MultiheadAttention(width, heads, batch_first=True)
        self.mlp = nn.Sequential(
            nn.Linear(width, 2 * width), nn.GELU(), nn.Dropout(0), nn.Linear(2 * width, width), nn.Dropout(0)
        )

    def forward(self, x: Tensor) -> Tensor:
        y = self.ln_1(x)
        x = self.self_attention(y, y, y, need_weights=False)[0] + x
        return x + self.mlp(self.ln_2(x))


class TorchvisionEncoder(nn.Module):
    def __init__(self, width: int, heads: int, tokens: int) -> None:
        super().__init__()
        self.pos_embedding = nn.Parameter(torch.zeros(1, tokens, width))
        self.layers = nn.Sequential()
        for i in range(2):
            self.layers.add_module(f"encoder_layer_{i}", TorchvisionBlock(width, heads))
        self.ln = nn.LayerNorm(width, 1e-6)


class TorchvisionVit(nn.Module):
    """torchvision.models.VisionTransformer; positions as its ``interpolate_embeddings`` resizes them."""

    def __init__(self, *, width: int = 128, heads: int = 2, patch: int = 8, grid: int = 4, classes: int = 5) -> None:
        super().__init__()
        self.patch, self.grid = patch, grid
        self.conv_proj = nn.Conv2d(3, width, patch, patch)
        self.class_token = nn.Parameter(torch.zeros(1, 1, width))
        self.encoder = TorchvisionEncoder(width, heads, grid**2 + 1)
        self.heads = nn.Sequential()
        self.heads.add_module("head", nn.Linear(width, classes))

    def forward(self, images: Tensor) -> Tensor:
        x = patches_of(self.conv_proj, images)
        x = torch.cat([self.class_token.expand(len(x), -1, -1), x], dim=1)
        positions = self.encoder.pos_embedding
        new = (images.shape[2] // self.patch, images.shape[3] // self.patch)
        if new != (self.grid, self.grid):
            grid = positions[:, 1:].permute(0, 2, 1).reshape(1, -1, self.grid, self.grid)
            grid = F.interpolate(grid, size=new, mode="bicubic", align_corners=True)
            positions = torch.cat([positions[:, :1], grid.flatten(2).permute(0, 2, 1)], dim=1)
        return self.heads(self.encoder.ln(self.encoder.layers(x + positions))[:, 0])


# --- DINOv2, original --------------------------------------------------------------------------------------------------


class Dinov2(nn.Module):
    """DinoVisionTransformer with a linear head on the class token, or on it and the mean of the patches."""

    def __init__(self, *, width: int = 128, heads: int = 2, patch: int = 8, grid: int = 4, classes: int = 5,
                 registers: int = 0, head: str = "linear_head", mean: bool = True) -> None:  # fmt: skip
        super().__init__()
        self.patch, self.grid, self.registers, self.head_name, self.mean = patch, grid, registers, head, mean
        self.patch_embed = PatchEmbed(3, width, patch)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.mask_token = nn.Parameter(torch.zeros(1, width))
        self.register_tokens = nn.Parameter(torch.zeros(1, registers, width)) if registers else None
        self.pos_embed = nn.Parameter(torch.zeros(1, grid**2 + 1, width))
        self.blocks = nn.Sequential(*[TimmBlock(width, heads, 1e-6, True, True, "gelu") for _ in range(2)])
        self.norm = nn.LayerNorm(width, 1e-6)
        self.add_module(head, nn.Linear(width * (1 + mean), classes))

    def forward(self, images: Tensor) -> Tensor:
        x = torch.cat([self.cls_token.expand(len(images), -1, -1), self.patch_embed(images)], dim=1)
        x = x + self.positions(images.shape[2] // self.patch, images.shape[3] // self.patch)
        if self.register_tokens is not None:
            x = torch.cat([x[:, :1], self.register_tokens.expand(len(x), -1, -1), x[:, 1:]], dim=1)
        x = self.norm(self.blocks(x))
        features = [x[:, 0]] + ([x[:, self.registers + 1 :].mean(dim=1)] if self.mean else [])
        return getattr(self, self.head_name)(torch.cat(features, dim=1))

    def positions(self, rows: int, columns: int) -> Tensor:
        if (rows, columns) == (self.grid, self.grid):
            return self.pos_embed
        how = {"scale_factor": ((rows + 0.1) / self.grid, (columns + 0.1) / self.grid)}
        if self.register_tokens is not None:  # hub models with registers: offset 0.0, antialias
            how = {"size": (rows, columns), "antialias": True}
        grid = self.pos_embed[:, 1:].reshape(1, self.grid, self.grid, -1).permute(0, 3, 1, 2)
        grid = F.interpolate(grid, mode="bicubic", **how)
        return torch.cat([self.pos_embed[:, :1], grid.permute(0, 2, 3, 1).flatten(1, 2)], dim=1)


# --- tutorial ----------------------------------------------------------------------------------------------------------


class TutorialAttention(nn.Module):
    def __init__(self, width: int, inner: int, heads: int, bias: bool) -> None:
        super().__init__()
        self.heads, self.head_dim = heads, inner // heads
        self.query, self.key, self.value = (nn.Linear(width, inner, bias=bias) for _ in range(3))
        self.fc = nn.Linear(inner, width, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (layer(x).unflatten(-1, (self.heads, self.head_dim)) for layer in (self.query, self.key, self.value))
        weights = torch.einsum("nqhd,nkhd->nhqk", q, k).div(self.head_dim**0.5).softmax(dim=3)
        return self.fc(torch.einsum("nhqk,nkhd->nqhd", weights, v).flatten(2))


class TutorialPatches(nn.Module):
    def __init__(self, channels: int, width: int, patch: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, width, patch, patch)

    def forward(self, images: Tensor) -> Tensor:
        return patches_of(self.conv, images)


class TutorialVit(nn.Module):
    """No class token, no position embedding, no LayerNorm."""

    def __init__(self, *, width: int = 64, inner: int = 128, heads: int = 2, patch: int = 8, classes: int = 5,
                 channels: int = 3, bias: bool = True) -> None:  # fmt: skip
        super().__init__()
        self.patch_embedding = TutorialPatches(channels, width, patch)
        self.attention_layers = nn.ModuleList(TutorialAttention(width, inner, heads, bias) for _ in range(2))
        self.feed_forward_layers = nn.ModuleList(
            nn.Sequential(nn.Linear(width, 2 * width), nn.ReLU(), nn.Dropout(0.1), nn.Linear(2 * width, width)) for _ in range(2)
        )
        self.output_layer = nn.Linear(width, classes)

    def forward(self, images: Tensor) -> Tensor:
        x = self.patch_embedding(images)
        for attention, feed_forward in zip(self.attention_layers, self.feed_forward_layers, strict=True):
            x = x + attention(x)
            x = x + feed_forward(x)
        return self.output_layer(x.mean(dim=1))
