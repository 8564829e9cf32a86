"""One Vision Transformer for every supported family: a plain, trainable ``nn.Module``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgevit.errors import ConfigError
from edgevit.model.merging import Tokens, compared, matched
from edgevit.model.rotary import Rotation
from edgevit.vitconfig import BlockConfig, VitConfig

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu": F.gelu,
    "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"),
    "quick_gelu": lambda x: x * torch.sigmoid(1.702 * x),
    "relu": F.relu,
    "silu": F.silu,
}


class RmsNorm(nn.LayerNorm):
    """Division by the root mean square (arXiv 1910.07467), weight and bias [width]; the bias, which sources have not, is zero."""

    def forward(self, x: Tensor) -> Tensor:
        """As `rms_norm`."""
        return rms_norm(x, self.weight, self.bias, self.eps)


def rms_norm(x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
    """``x`` [..., width] over the root of its mean square, times ``weight``, plus ``bias``."""
    return x * (x.square().mean(-1, keepdim=True) + eps).rsqrt() * weight + bias


def norm_of(config: VitConfig, width: int) -> nn.LayerNorm:
    """A norm of the model's kind."""
    return (RmsNorm if config.rms_norm else nn.LayerNorm)(width, config.norm_eps)


class Constant(nn.Module):
    """A bias [width] for all tokens: what is left of a layer that was pruned away."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(width))

    def forward(self, x: Tensor) -> Tensor:
        """The bias, whatever ``x`` is."""
        return self.bias


class Block(nn.Module):
    """Pre-norm attention and MLP, each with a residual; of either only a map or a bias may be left (`BlockConfig`)."""

    def __init__(self, config: VitConfig, widths: BlockConfig) -> None:
        super().__init__()
        width, inner = config.width, widths.heads * config.head_dim
        self.config, self.heads, self.merged, self.prefix = config, widths.heads, widths.merged, config.prefix_tokens
        self.activation = ACTIVATIONS[config.activation]
        reads_tokens = config.block_norm and (widths.heads > 0 or widths.attention_map)
        self.norm1 = norm_of(config, width) if reads_tokens else nn.Identity()
        self.qkv = nn.Linear(width, 3 * inner, bias=config.qkv_bias) if widths.heads else None
        normalised = config.query_norm and widths.heads > 0
        self.query_norm = norm_of(config, config.head_dim) if normalised else nn.Identity()
        self.key_norm = norm_of(config, config.head_dim) if normalised else nn.Identity()
        self.rotary: Tensor | None
        self.register_buffer("rotary", _frequencies(config, widths))
        biased = config.score_bias and widths.heads > 0
        self.score_bias = nn.Parameter(torch.zeros(widths.heads, config.tokens, config.tokens)) if biased else None
        self.attention_norm = norm_of(config, inner) if config.attention_norm and inner else nn.Identity()
        self.proj = _writer(inner or width * widths.attention_map, width)
        reads_tokens = config.block_norm and (widths.hidden > 0 or widths.mlp_map)
        self.norm2 = norm_of(config, width) if reads_tokens else nn.Identity()
        self.fc1 = nn.Linear(width, widths.hidden * (1 + config.gated)) if widths.hidden else None
        self.mlp_norm = norm_of(config, widths.hidden) if config.mlp_norm and widths.hidden else nn.Identity()
        self.fc2 = _writer(widths.hidden or width * widths.mlp_map, width)
        self.scale1 = nn.Parameter(torch.full((width,), 0.1)) if config.layer_scale else None
        self.scale2 = nn.Parameter(torch.full((width,), 0.1)) if config.layer_scale else None

    def attend(self, x: Tensor, bias: Tensor | None = None, places: Tensor | None = None) -> Tensor:
        """Multi-head self-attention of normalised tokens [N, T, width] to the same; ``bias`` [N, 1, 1, T] is added to scores,
        ``places`` are those of `Tokens`.
        """
        if self.qkv is None:
            return self.proj(x)
        n, t, _ = x.shape
        q, k, v = self.qkv(x).view(n, t, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        q, k = self.query_norm(q), self.key_norm(k)
        if self.rotary is not None:
            turn = Rotation.of(self.config, self.rotary.cpu()).to(x.device)
            q, k = turn(q, places), turn(k, places)
        if self.score_bias is not None:
            bias = self.score_bias if bias is None else self.score_bias + bias
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=bias)
        return self.proj(self.attention_norm(mixed.transpose(1, 2).reshape(n, t, -1)))

    def expand(self, x: Tensor) -> Tensor:
        """The MLP on normalised tokens, [N, T, width] to [N, T, width]."""
        if self.fc1 is None:
            return self.fc2(x)
        return self.fc2(self.mlp_norm(activated(self.activation, self.fc1(x), gated=self.config.gated)))

    def forward(self, tokens: Tokens) -> Tokens:
        """Map tokens to as many, or to fewer where the block merges some."""
        x = tokens.x
        attended = self.attend(self.norm1(x), tokens.bias, tokens.places)
        tokens = tokens.with_x(x + (attended if self.scale1 is None else attended * self.scale1))
        if self.merged:
            places = self.config.rotary is not None
            tokens = tokens.merged(matched(compared(x), prefix=self.prefix, merged=self.merged, places=places))
        expanded = self.expand(self.norm2(tokens.x))
        return tokens.with_x(tokens.x + (expanded if self.scale2 is None else expanded * self.scale2))


def activated(activation: Callable[[Tensor], Tensor], x: Tensor, *, gated: bool) -> Tensor:
    """Hidden activations of what fc1 gives [..., hidden], or [..., 2 * hidden] of a gated MLP: first the gates."""
    if not gated:
        return activation(x)
    gate, linear = x.chunk(2, -1)
    return activation(gate) * linear


def _frequencies(config: VitConfig, widths: BlockConfig) -> Tensor | None:
    """Room for a block's, `edgevit.model.rotary.Rotation.frequencies`: what they are is in the weights."""
    if config.rotary is None or not widths.heads:
        return None
    return torch.ones(widths.heads if config.rotary.by_head else 1, 2, config.head_dim // 2)


class AttentionPool(nn.Module):
    """A learnt query that attends to all tokens, and an MLP behind it: SigLIP's head (MAP, arXiv 2106.04560)."""

    def __init__(self, config: VitConfig) -> None:
        super().__init__()
        width = config.width
        self.heads, self.first, self.activation = config.pool_heads, config.attended_from, ACTIVATIONS[config.activation]
        self.probe = nn.Parameter(torch.zeros(width))
        self.query, self.key_value = nn.Linear(width, width), nn.Linear(width, 2 * width)
        self.proj, self.norm = nn.Linear(width, width), norm_of(config, width)
        self.fc1, self.fc2 = nn.Linear(width, config.pool_hidden), nn.Linear(config.pool_hidden, width)

    def forward(self, tokens: Tokens) -> Tensor:
        """Tokens [N, T, width] to [N, width]."""
        x, bias = tokens.x[:, self.first :], tokens.bias
        n, t, width = x.shape
        query = self.query(self.probe).view(1, self.heads, 1, -1).expand(n, -1, -1, -1)
        key, value = self.key_value(x).view(n, t, 2, self.heads, -1).permute(2, 0, 3, 1, 4)
        bias = None if bias is None else bias[..., self.first :]
        mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=bias)
        pooled = self.proj(mixed.reshape(n, width))
        return pooled + self.fc2(self.activation(self.fc1(self.norm(pooled))))


def _writer(inputs: int, width: int) -> nn.Linear | Constant:
    """The layer that writes to the residual stream; without inputs its bias."""
    return nn.Linear(inputs, width) if inputs else Constant(width)


class Vit(nn.Module):
    """A Vision Transformer classifier; train it like any other module.

    ``forward`` takes normalised float images [N, channels, H, W] and returns logits [N, classes].
    A model without position embedding takes any image size that the patch size divides.
    """

    def __init__(self, config: VitConfig) -> None:
        super().__init__()
        self.config = config
        width = config.width
        self.patch_embedding = nn.Conv2d(config.channels, width, config.patch_size, config.patch_size)
        self.patch_norm = norm_of(config, width) if config.patch_norm else nn.Identity()
        self.prefix = nn.Parameter(torch.empty(config.prefix_tokens, width)) if config.prefix_tokens else None
        grid = config.grid[0] * config.grid[1]
        self.positions = nn.Parameter(torch.empty(grid, width)) if config.position_embedding else None
        self.embedding_norm = norm_of(config, width) if config.embedding_norm else nn.Identity()
        self.blocks = nn.ModuleList(Block(config, widths) for widths in config.blocks)
        before, after = config.final_norm == "before_pooling", config.final_norm == "after_pooling"
        self.norm = norm_of(config, width) if before else nn.Identity()
        self.attention_pool = AttentionPool(config) if config.pool_heads else None
        self.pooled_norm = norm_of(config, config.pooled) if after else nn.Identity()
        self.projection = nn.Linear(config.pooled, config.projected) if config.projected else nn.Identity()
        self.head = nn.Linear(config.features, config.classes)
        self._initialise()

    def _initialise(self) -> None:
        """Truncated normal, std 0.02, biases zero: the initialisation of ViT and DeiT (arXiv 2012.12877)."""
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Conv2d):
                nn.init.trunc_normal_(module.weight, std=0.02)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        probe = None if self.attention_pool is None else self.attention_pool.probe
        for tokens in (self.prefix, self.positions, probe):
            if tokens is not None:
                nn.init.trunc_normal_(tokens, std=0.02)

    def embed(self, images: Tensor) -> Tensor:
        """Normalised images [N, channels, H, W] to tokens [N, T, width]."""
        x = self.patch_norm(self.patch_embedding(images).flatten(2).transpose(1, 2))
        if self.positions is not None:
            x = x + self.positions
        if self.prefix is not None:
            x = torch.cat([self.prefix.expand(len(x), -1, -1), x], dim=1)
        return self.embedding_norm(x)

    def pool(self, tokens: Tokens) -> Tensor:
        """Normalised tokens to what is pooled of them [N, len(pooling) * width]."""
        if self.attention_pool is not None:
            return self.attention_pool(tokens)
        features = {"class": lambda: tokens.x[:, 0], "distillation": lambda: tokens.x[:, 1],
                    "mean": lambda: tokens.mean(self.config.prefix_tokens)}  # fmt: skip
        return torch.cat([features[name]() for name in self.config.pooling], dim=-1)

    def through(self, tokens: Tokens, first: int = 0, last: int | None = None) -> Tokens:
        """Tokens in front of block ``first`` to those in front of block ``last``; without it to those behind all blocks."""
        for block in self.blocks[first:last]:
            tokens = block(tokens)
        return tokens

    def tokens(self, images: Tensor) -> Tokens:
        """Normalised images [N, channels, H, W] to what pooling takes: the last block's tokens, normed where that comes first."""
        tokens = self.through(Tokens(self.embed(images)))
        return tokens.with_x(self.norm(tokens.x))

    def features_of(self, tokens: Tokens) -> Tensor:
        """What `tokens` gives to what the head sees, [N, features]."""
        features = self.projection(self.pooled_norm(self.pool(tokens)))
        return F.normalize(features, dim=-1) if self.config.unit_features else features

    def features(self, images: Tensor) -> Tensor:
        """Normalised images [N, channels, H, W] to what the head sees, [N, features]."""
        return self.features_of(self.tokens(images))

    def forward(self, images: Tensor) -> Tensor:
        """Normalised images [N, channels, H, W] to logits [N, classes]."""
        return self.head(self.features(images))


def resample_positions(positions: Tensor, old: tuple[int, int], new: tuple[int, int], method: str) -> Tensor:
    """Interpolate position embeddings [rows * columns, width] from the grid ``old`` to ``new``.

    ``method`` is the source family's own: ``bicubic`` (Hugging Face), ``bicubic_antialias`` (timm,
    DINOv2 with registers), ``bicubic_corners`` (torchvision), ``bicubic_offset`` (DINOv2, whose
    published results rescale by (new + 0.1) / old).
    """
    if old == new:
        return positions
    grid = positions.float().reshape(1, *old, -1).permute(0, 3, 1, 2)
    if method == "bicubic_offset":
        factors = [(n + 0.1) / o for n, o in zip(new, old, strict=True)]
        grid = F.interpolate(grid, scale_factor=factors, mode="bicubic")
    elif method == "bicubic_corners":
        grid = F.interpolate(grid, size=new, mode="bicubic", align_corners=True)
    elif method in ("bicubic", "bicubic_antialias"):
        grid = F.interpolate(grid, size=new, mode="bicubic", antialias=method.endswith("antialias"))
    else:
        msg = f"unknown position resampling {method!r}"
        raise ValueError(msg)
    return grid.permute(0, 2, 3, 1).reshape(new[0] * new[1], -1).to(positions.dtype)


def resize(model: Vit, image_size: tuple[int, int]) -> Vit:
    """The same weights for another image size (height, width); position embeddings are interpolated.

    Raises ConfigError where a bias of scores is made for the patches that there are.
    """
    if model.config.score_bias and image_size != model.config.image_size:
        had, wanted = ("x".join(map(str, size)) for size in (model.config.image_size, image_size))
        msg = f"this model's relative position biases are those of {had} pixels, not of {wanted}: pass --image-size {had}"
        raise ConfigError(msg)
    config = replace(model.config, image_size=image_size)
    state = dict(model.state_dict())
    if model.positions is not None:
        state["positions"] = resample_positions(model.positions.detach(), model.config.grid, config.grid, config.resample)
    resized = Vit(config)
    resized.load_state_dict(state)
    return resized.train(model.training)
