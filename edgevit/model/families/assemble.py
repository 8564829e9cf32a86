"""From a family's keys to the state dict of `edgevit.model.vit.Vit`, the same way for every family."""

from __future__ import annotations

import re
from dataclasses import dataclass

import torch
from torch import Tensor

from edgevit.errors import CheckpointError
from edgevit.model.families.keys import Keys
from edgevit.model.rotary import halves_order
from edgevit.vitconfig import BlockConfig

State = dict[str, Tensor]


@dataclass(frozen=True, kw_only=True)
class BlockKeys:
    """What a family calls the parts of one block, after the block's own prefix."""

    qkv: tuple[str, ...]
    """One fused Linear, or three: query, key, value."""
    proj: str
    fc1: str
    fc2: str
    norm1: str | None = None
    norm2: str | None = None
    scale1: str | None = None
    """LayerScale, where a block has it."""
    scale2: str | None = None
    biases: tuple[str | None, ...] = ()
    """Of query, key and value, where they are parameters of their own; a None is zero."""
    gate: str | None = None
    """The gate of a gated MLP, whose linear half is fc1; None where there is none, or both are one Linear."""
    packed: bool = False
    """Whether fc1 may be both in one Linear, gates first; else a model where it is twice as wide is refused."""
    rms: bool = False
    """Whether norms are RMSNorm."""
    query_norm: str | None = None
    key_norm: str | None = None
    attention_norm: str | None = None
    mlp_norm: str | None = None


@dataclass(frozen=True, kw_only=True)
class PoolKeys:
    """What a family calls the parts of attention pooling."""

    probe: str
    """The learnt query [1, 1, width]."""
    qkv: tuple[str, ...]
    """One fused Linear, or several in the order of query, key, value."""
    proj: str
    norm: str
    fc1: str
    fc2: str


TIMM_POOL = PoolKeys(
    probe="attn_pool.latent", qkv=("attn_pool.q", "attn_pool.kv"), proj="attn_pool.proj", norm="attn_pool.norm",
    fc1="attn_pool.mlp.fc1", fc2="attn_pool.mlp.fc2",
)  # fmt: skip


def linear(keys: Keys, source: str, outputs: int | None, inputs: int | None) -> tuple[Tensor, Tensor | None]:
    """Weight [outputs, inputs] and bias [outputs], if it has one, of the Linear ``source``."""
    # nn.MultiheadAttention calls its fused Linear in_proj_weight, in_proj_bias.
    joint = "_" if source.endswith("in_proj") else "."
    weight = keys.take(f"{source}{joint}weight", outputs, inputs)
    return weight, keys.find(f"{source}{joint}bias", weight.shape[0])


def put(state: State, name: str, weight: Tensor, bias: Tensor | None) -> None:
    """Store a layer that always has a bias in `Vit`; a missing one is zero."""
    state[f"{name}.weight"] = weight
    state[f"{name}.bias"] = weight.new_zeros(weight.shape[0]) if bias is None else bias


def put_norm(state: State, name: str, keys: Keys, source: str, width: int, *, rms: bool = False) -> None:
    """Store the norm ``source``, weight and bias [width], of an RMSNorm (``rms``) a bias of zero.

    Raises CheckpointError for a LayerNorm without bias, which may be an RMSNorm.
    """
    state[f"{name}.weight"] = keys.take(f"{source}.weight", width)
    if rms and f"{source}.bias" not in keys:
        state[f"{name}.bias"] = torch.zeros(width)
        return
    if f"{source}.bias" not in keys:
        msg = (
            f"{keys.origin}: the norm {source!r} has a weight but no bias: an RMSNorm, or a LayerNorm without bias. "
            "edgevit knows LayerNorm with both here."
        )
        raise CheckpointError(msg)
    state[f"{name}.bias"] = keys.take(f"{source}.bias", width)


def put_patches(state: State, keys: Keys, source: str) -> tuple[int, int, int]:
    """Store the patch embedding, a Conv2d whose kernel is its stride; returns (width, channels, patch size)."""
    weight = keys.take(f"{source}.weight", None, None, None, None)
    width, channels, height, side = weight.shape
    if height != side:
        msg = f"{keys.origin}: {source + '.weight'!r} has patches of {height}x{side} pixels; edgevit needs square ones."
        raise CheckpointError(msg)
    if channels not in (1, 3):
        msg = f"{keys.origin}: {source + '.weight'!r} takes {channels} channels; edgevit reads colour (3) and gray (1) frames."
        raise CheckpointError(msg)
    put(state, "patch_embedding", weight, keys.find(f"{source}.bias", width))
    return width, channels, side


def put_tokens(state: State, prefix: list[Tensor], positions: Tensor | None, embedded: int) -> int | None:
    """Store prefix tokens, each [1, n, width], and position embeddings [1, embedded + patches, width].

    The first ``embedded`` prefix tokens have a position of their own, which is added to them.
    Returns the number of patches that have a position, None without position embeddings.
    """
    tokens = torch.cat(prefix, dim=1)[0].clone() if prefix else None
    if tokens is not None:
        if positions is not None:
            tokens[:embedded] += positions[0, :embedded]
        state["prefix"] = tokens
    if positions is None:
        return None
    state["positions"] = positions[0, embedded:].clone()
    return len(state["positions"])


def put_block(state: State, index: int, keys: Keys, prefix: str, names: BlockKeys, width: int) -> tuple[int, int]:
    """Store one block; returns (attention width, hidden width). `finish_blocks` goes last."""
    target = f"blocks.{index}"
    inner = _put_qkv(state, f"{target}.qkv", keys, [prefix + name for name in names.qkv], width)
    if names.biases:
        state[f"{target}.qkv.bias"] = _joined_biases(keys, prefix, names.biases, inner)
    put(state, f"{target}.proj", *linear(keys, prefix + names.proj, width, inner))
    hidden = _put_mlp(state, target, keys, prefix, names, width)
    heads = {name: keys.shape(f"{prefix}{source}.weight")[0] for name, source in
             (("query_norm", names.query_norm), ("key_norm", names.key_norm)) if source is not None}  # fmt: skip
    widths = {"norm1": width, "norm2": width, "attention_norm": inner, "mlp_norm": hidden} | heads
    for name, size in widths.items():
        if (source := getattr(names, name)) is not None:
            put_norm(state, f"{target}.{name}", keys, prefix + source, size, rms=names.rms)
    for name, source in (("scale1", names.scale1), ("scale2", names.scale2)):
        if source is not None:
            state[f"{target}.{name}"] = keys.take(prefix + source, width)
    return inner, hidden


def _put_mlp(state: State, target: str, keys: Keys, prefix: str, names: BlockKeys, width: int) -> int:
    """Store fc1, with the gate in front of it, and fc2; returns the hidden neurons."""
    hidden = keys.shape(f"{prefix}{names.fc2}.weight")[-1]
    parts = [linear(keys, prefix + name, None, width) for name in (names.gate, names.fc1) if name is not None]
    weight = torch.cat([part for part, _ in parts])
    if len(weight) == 2 * hidden and not names.packed and names.gate is None:
        msg = (
            f"{keys.origin}: {prefix + names.fc1!r} is twice as wide as {prefix + names.fc2!r}: a gated MLP (SwiGLU), "
            "unknown to edgevit in this family."
        )
        raise CheckpointError(msg)
    if len(weight) not in (hidden, 2 * hidden):
        msg = f"{keys.origin}: {prefix + names.fc1!r} has {len(weight)} rows, and {prefix + names.fc2!r} reads {hidden}."
        raise CheckpointError(msg)
    put(state, f"{target}.fc1", weight, torch.cat([_bias(*part) for part in parts]))
    put(state, f"{target}.fc2", *linear(keys, prefix + names.fc2, width, hidden))
    return hidden


def is_gated(state: State, origin: object) -> bool:
    """Whether the MLPs of all blocks are gated ones. Raises CheckpointError if some are."""
    found = {
        len(value) == 2 * state[name.replace("fc1", "fc2")].shape[1]
        for name, value in state.items()
        if re.fullmatch(r"blocks\.\d+\.fc1\.weight", name)
    }
    if len(found) > 1:
        msg = f"{origin}: the MLPs of some blocks are gated ones (SwiGLU), and those of others are not."
        raise CheckpointError(msg)
    return found == {True}


def _joined_biases(keys: Keys, prefix: str, names: tuple[str | None, ...], inner: int) -> Tensor:
    """That of qkv [3 * inner], of up to three parameters."""
    parts = [None if name is None else keys.find(prefix + name, inner) for name in names]
    return torch.cat([torch.zeros(inner) if part is None else part for part in parts])


def pair_halves(state: State, heads: int, head_dim: int) -> None:
    """Bring queries and keys of all blocks, whose neighbouring channels are turned together, to the order of `Rotation`."""
    order = halves_order(head_dim)
    rows = torch.cat([head * head_dim + order for head in range(2 * heads)])  # queries and keys
    for name in [name for name in state if re.fullmatch(r"blocks\.\d+\.(qkv|query_norm|key_norm)\.(weight|bias)", name)]:
        if ".qkv." in name:
            state[name] = torch.cat([state[name][rows], state[name][len(rows) :]])
        else:
            state[name] = state[name][order]


def _put_qkv(state: State, target: str, keys: Keys, sources: list[str], width: int) -> int:
    parts = [linear(keys, source, None, width) for source in sources]
    rows = {len(weight) for weight, _ in parts}
    if len(rows) > 1 or (len(parts) == 1 and rows.pop() % 3):
        msg = f"{keys.origin}: query, key and value of {sources[0]!r} differ in width, so this is not plain self-attention."
        raise CheckpointError(msg)
    weight = torch.cat([weight for weight, _ in parts])
    state[f"{target}.weight"] = weight
    if any(bias is not None for _, bias in parts):
        state[f"{target}.bias"] = torch.cat([weight.new_zeros(len(weight)) if bias is None else bias for weight, bias in parts])
    return len(weight) // 3


def finish_blocks(state: State, sizes: list[tuple[int, int]], heads: int, origin: object) -> tuple[tuple[BlockConfig, ...], bool]:
    """Block widths for `VitConfig`, and whether qkv has a bias, from what `put_block` returned.

    Where only some blocks have a qkv bias, the others get zeros. Raises CheckpointError if there is no block.
    """
    if not sizes:
        msg = f"{origin}: holds no transformer block. Is this the whole model?"
        raise CheckpointError(msg)
    head_dim = sizes[0][0] // heads
    if any(inner % head_dim for inner, _ in sizes):
        msg = (
            f"{origin}: attention widths {sorted({inner for inner, _ in sizes})} share no head_dim of {head_dim}. Pass --heads N."
        )
        raise CheckpointError(msg)
    biased = any(f"blocks.{i}.qkv.bias" in state for i in range(len(sizes)))
    if biased:
        for i, (inner, _) in enumerate(sizes):
            state.setdefault(f"blocks.{i}.qkv.bias", torch.zeros(3 * inner))
    return tuple(BlockConfig(heads=inner // head_dim, hidden=hidden) for inner, hidden in sizes), biased


def put_averaged_head(state: State, first: tuple[Tensor, Tensor | None], second: tuple[Tensor, Tensor | None]) -> None:
    """Store the mean of a class head and a distillation head as one Linear over both tokens."""
    put(state, "head", torch.cat([first[0], second[0]], dim=1) / 2, None)
    state["head.bias"] = (_bias(*first) + _bias(*second)) / 2


def _bias(weight: Tensor, bias: Tensor | None) -> Tensor:
    return weight.new_zeros(len(weight)) if bias is None else bias


def put_pool(state: State, keys: Keys, names: PoolKeys, width: int) -> int:
    """Store attention pooling; returns its MLP's hidden neurons."""
    probe = keys.take(names.probe, 1, None, width)
    if probe.shape[1] != 1:
        msg = f"{keys.origin}: {names.probe!r} holds {probe.shape[1]} queries; edgevit knows attention pooling by one."
        raise CheckpointError(msg)
    state["attention_pool.probe"] = probe[0, 0]
    parts = [linear(keys, name, None, width) for name in names.qkv]
    weight, bias = torch.cat([part for part, _ in parts]), torch.cat([_bias(*part) for part in parts])
    if len(weight) != 3 * width:
        msg = f"{keys.origin}: {names.qkv[0]!r} is no query, key and value of {width} channels each."
        raise CheckpointError(msg)
    put(state, "attention_pool.query", weight[:width].clone(), bias[:width].clone())
    put(state, "attention_pool.key_value", weight[width:].clone(), bias[width:].clone())
    put(state, "attention_pool.proj", *linear(keys, names.proj, width, width))
    put_norm(state, "attention_pool.norm", keys, names.norm, width)
    hidden = keys.shape(f"{names.fc1}.weight")[0]
    put(state, "attention_pool.fc1", *linear(keys, names.fc1, hidden, width))
    put(state, "attention_pool.fc2", *linear(keys, names.fc2, width, hidden))
    return hidden


def require_head(keys: Keys, width: int, *names: str) -> str:
    """The head among ``names``; of a model without one, where that may be (`Keys.headless`), one that gives ``width`` features.

    Raises CheckpointError if the model has none.
    """
    name = keys.first(*names)
    if f"{name}.weight" in keys:
        return name
    if not keys.headless:
        msg = (
            f"{keys.origin}: the model has no classification head ({name + '.weight'!r}), so there is nothing to classify with. "
            "Train one on your classes first (examples/solar_cells shows how), or take its features alone: --features"
        )
        raise CheckpointError(msg)
    keys.supply(f"{name}.weight", torch.eye(width))
    return name
