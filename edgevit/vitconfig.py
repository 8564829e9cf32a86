"""Everything about a Vision Transformer that is not a weight; what a bundle's manifest and a checkpoint's metadata keep of it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Annotated, Any

from msgspec import Meta

from edgevit.files.fromjson import conform

ACTIVATION_NAMES = ("gelu", "gelu_tanh", "quick_gelu", "relu", "silu")
POOLINGS = ("class", "distillation", "mean", "attention", "patch_attention")
ATTENDING = frozenset({"attention", "patch_attention"})
"""Poolings by a learnt query, over all tokens or over patches; a head has one of them alone."""
COORDINATES = ("index", "centred")
FINAL_NORMS = ("before_pooling", "after_pooling", "none")

# Far beyond any ViT; what a damaged or hostile file claims is refused before memory is taken for it.
Side = Annotated[int, Meta(ge=1, le=2**14)]
Width = Annotated[int, Meta(ge=1, le=2**16)]
Count = Annotated[int, Meta(ge=0, le=2**18)]
Classes = Annotated[int, Meta(ge=1, le=2**20)]
Epsilon = Annotated[float, Meta(ge=0, le=1)]
MOST_BLOCKS = 1024
UNLESS_THERE = frozenset({"rotary", "gated", "query_norm", "attention_norm", "mlp_norm", "pool_heads", "pool_hidden",
                          "score_bias", "projected", "unit_features", "gives_features",
                          "rms_norm", "patch_norm"})  # fmt: skip
"""Fields that files do not have where the model has no such thing."""


@dataclass(frozen=True, kw_only=True)
class BlockConfig:
    """Widths of one block. They may differ between blocks (pruned models).

    Without heads, what is left of attention is a bias; without hidden neurons, of the MLP the same. With a map it is an
    affine map of the normalised tokens, whose weight is that of proj, or of fc2.
    """

    heads: Count
    hidden: Count
    attention_map: bool = False
    mlp_map: bool = False
    merged: Count = 0
    """Tokens that are merged away behind attention, in front of the MLP; see `edgevit.model.merging`."""


@dataclass(frozen=True, kw_only=True)
class Rotary:
    """In what coordinates rotary position embedding measures the place of a patch; see `edgevit.model.rotary`."""

    coordinates: str = "index"
    """``index``: rows and columns counted from ``offset``; ``centred``: middles of patches, -1..1 over the image (DINOv3)."""
    offset: float = 0.0
    """In patches."""
    reference: tuple[Side, Side] | None = None
    """(rows, columns) of the grid that indices are stretched to, whatever the image's own (EVA-02); None: as they are."""
    by_head: bool = False
    """Whether every head has frequencies of its own."""

    def __post_init__(self) -> None:
        if self.coordinates not in COORDINATES:
            msg = f"unknown coordinates {self.coordinates!r}; known: {', '.join(COORDINATES)}"
            raise ValueError(msg)


@dataclass(frozen=True, kw_only=True)
class VitConfig:
    """Everything about a ViT that is not a weight.

    Prefix tokens (class, distillation, registers, in this order) carry their position embedding in
    themselves, so ``position_embedding`` concerns patches only and survives a change of image size.
    ``pooling`` names the features that the head sees, concatenated: ``("class",)``, ``("mean",)``
    (over patches), ``("class", "mean")`` (DINOv2), ``("class", "distillation")`` (distilled DeiT,
    whose two averaged heads are one Linear over both tokens), ``("attention",)`` or ``("patch_attention",)`` (SigLIP: a learnt
    query attends to all tokens, or to patches).
    """

    image_size: tuple[Side, Side]
    """(height, width) in pixels."""
    patch_size: Side
    width: Width
    head_dim: Width
    blocks: Annotated[tuple[BlockConfig, ...], Meta(max_length=MOST_BLOCKS)]
    classes: Classes
    channels: Annotated[int, Meta(ge=1, le=3)] = 3
    class_token: bool = True
    distillation_token: bool = False
    registers: Count = 0
    position_embedding: bool = True
    qkv_bias: bool = True
    layer_scale: bool = False
    activation: str = "gelu"
    block_norm: bool = True
    """LayerNorm in front of attention and MLP; the plain tutorial ViT has none."""
    embedding_norm: bool = False
    """LayerNorm on the embedded tokens, before the first block (CLIP)."""
    rms_norm: bool = False
    """Whether norms divide by the root mean square without centring before (RMSNorm, arXiv 1910.07467), all of them."""
    patch_norm: bool = False
    """A norm on the embedded patches, before they get positions (AIMv2)."""
    rotary: Rotary | None = None
    """Rotary position embedding of queries and keys, in every block; None: there is none."""
    score_bias: bool = False
    """Whether scores have a bias for each head and pair of tokens: relative position bias (arXiv 2106.08254), written out."""
    gated: bool = False
    """Whether the MLP is a gated one, act(gate x) * (linear x) (SwiGLU, arXiv 2002.05202): fc1 has a row for each of both."""
    query_norm: bool = False
    """LayerNorm on the queries and on the keys of each head."""
    attention_norm: bool = False
    """LayerNorm on what attention gives, all heads together, before proj (sub-LN, arXiv 2210.06423)."""
    mlp_norm: bool = False
    """LayerNorm on the hidden activations, before fc2 (sub-LN)."""
    pool_heads: Count = 0
    """Heads of attention pooling, 0 without."""
    pool_hidden: Count = 0
    """Hidden neurons of the MLP behind it."""
    projected: Count = 0
    """Width that a Linear brings the features to, behind pooling and its norm; 0 without (CLIP's joint space with text)."""
    unit_features: bool = False
    """Whether features are scaled to length 1 in front of the head: its logits are cosines then, times the length of its rows."""
    gives_features: bool = False
    """Whether graphs give the features beside the logits, for search, clustering and what is unlike all that was seen."""
    final_norm: str = "before_pooling"
    norm_eps: Epsilon = 1e-6
    pooling: tuple[str, ...] = ("class",)
    resample: str = "bicubic_antialias"
    """How position embeddings are interpolated to another image size; see `edgevit.model.vit.resample_positions`."""

    def __post_init__(self) -> None:
        if any(side % self.patch_size for side in self.image_size):
            msg = f"image size {self.image_size} is not a multiple of the patch size {self.patch_size}"
            raise ValueError(msg)
        if self.activation not in ACTIVATION_NAMES:
            msg = f"unknown activation {self.activation!r}; known: {', '.join(ACTIVATION_NAMES)}"
            raise ValueError(msg)
        if self.final_norm not in FINAL_NORMS:
            msg = f"unknown final_norm {self.final_norm!r}; known: {', '.join(FINAL_NORMS)}"
            raise ValueError(msg)
        tokens = {"class": self.class_token, "distillation": self.distillation_token, "mean": True}
        if ATTENDING & set(self.pooling):
            tokens = dict.fromkeys(self.pooling, self.pool_heads > 0 and len(self.pooling) == 1)
        elif self.pool_heads:
            tokens = {}
        if not self.pooling or not all(tokens.get(name, False) for name in self.pooling):
            msg = f"pooling {self.pooling} needs tokens that this model lacks, or is unknown; known: {', '.join(POOLINGS)}"
            raise ValueError(msg)
        if self.rotary is not None and self.head_dim % 2:
            msg = f"rotary position embedding turns pairs of channels, and head_dim {self.head_dim} is odd"
            raise ValueError(msg)
        if any((block.heads and block.attention_map) or (block.hidden and block.mlp_map) for block in self.blocks):
            msg = "an affine map takes the place of attention or of an MLP that is there, too"
            raise ValueError(msg)
        for index, block in enumerate(self.blocks):
            if block.merged and (problem := self._why_unmerged(index)):
                msg = f"block {index} cannot merge {block.merged} tokens away: {problem}"
                raise ValueError(msg)

    def _why_unmerged(self, index: int) -> str:
        """What keeps block ``index`` from merging as many tokens as it says; empty if nothing does."""
        if self.score_bias:
            return "a token that stands for several patches has no relative position"
        if index == len(self.blocks) - 1:
            return "behind the last block's attention they save nothing"
        patches = self.tokens_into(index) - self.prefix_tokens
        if self.blocks[index].merged > patches // 2:
            return f"{patches} patches come in, and at most half of them can go"
        return ""

    @property
    def merges_tokens(self) -> bool:
        """Whether tokens of such a model can be merged: those with a bias for each pair of tokens cannot."""
        return not self.score_bias

    @property
    def structure(self) -> tuple[str, ...]:
        """What a plain ViT has not, for people."""
        there = {
            "RMSNorm": self.rms_norm, "a norm of patches": self.patch_norm,
            "rotary positions": self.rotary is not None, "relative position bias": self.score_bias,
            "gated MLPs": self.gated, "norms of queries and keys": self.query_norm,
            "norms before proj": self.attention_norm, "norms before fc2": self.mlp_norm, "attention pooling": self.pool_heads > 0,
            "a projection": self.projected > 0, "features of length 1": self.unit_features,
        }  # fmt: skip
        return tuple(what for what, has in there.items() if has)

    @property
    def pooled(self) -> int:
        """Width of what pooling gives."""
        return self.width * len(self.pooling)

    @property
    def features(self) -> int:
        """Width of what the head sees."""
        return self.projected or self.pooled

    @property
    def grid(self) -> tuple[int, int]:
        """(rows, columns) of patches."""
        return self.image_size[0] // self.patch_size, self.image_size[1] // self.patch_size

    @property
    def prefix_tokens(self) -> int:
        """Tokens in front of the patches."""
        return self.class_token + self.distillation_token + self.registers

    @property
    def tokens(self) -> int:
        """Sequence length."""
        return self.prefix_tokens + self.grid[0] * self.grid[1]

    @property
    def attended_from(self) -> int:
        """The first token that attention pooling attends to."""
        return self.prefix_tokens if "patch_attention" in self.pooling else 0

    @property
    def output_tokens(self) -> int:
        """How many leading tokens the head depends on; all that are left when they are averaged or attended to."""
        if ({"mean"} | ATTENDING) & set(self.pooling):
            return self.tokens_into(len(self.blocks) - 1) if self.blocks else self.tokens
        return 1 + max(POOLINGS.index(name) for name in self.pooling)

    def tokens_into(self, block: int) -> int:
        """Tokens that block ``block`` (0 .. blocks - 1) takes, and that its keys and values are made of."""
        return self.tokens - sum(before.merged for before in self.blocks[:block])

    def tokens_attended(self, block: int) -> int:
        """Tokens that attention of block ``block`` gives: of the last block only those that the head depends on."""
        return self.output_tokens if block == len(self.blocks) - 1 else self.tokens_into(block)

    def tokens_after(self, block: int) -> int:
        """Tokens that leave block ``block``, and that its MLP works on: those of its attention, less those merged away."""
        return self.tokens_attended(block) - self.blocks[block].merged

    def merges_before(self, block: int) -> bool:
        """Whether tokens that block ``block`` takes may stand for several patches each, since blocks before it merge."""
        return any(before.merged for before in self.blocks[:block])

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready form; `from_dict` is the inverse. A model without a later feature is as it was before there was one."""
        data = asdict(self)
        for block in data["blocks"]:
            if not block["merged"]:
                del block["merged"]
        return {key: value for key, value in data.items() if value or key not in UNLESS_THERE}

    @classmethod
    def from_dict(cls, data: Any) -> VitConfig:
        """Inverse of `to_dict`, for what a file holds. Raises ValueError naming the key that does not fit."""
        return conform(data, cls, "model")
