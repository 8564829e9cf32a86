"""Multiply-accumulates of one image, as the written graph computes it."""

from __future__ import annotations

from edgevit.vitconfig import BlockConfig, VitConfig


def macs(config: VitConfig) -> int:
    """Of the whole model, from patches to head."""
    ends = config.grid[0] * config.grid[1] * config.width * 3 * config.patch_size**2
    ends += config.pooled * config.projected + config.features * config.classes
    if config.pool_heads:
        attended = config.output_tokens - config.attended_from
        ends += config.width * (2 * config.pool_heads * attended + 2 * config.width + 2 * config.pool_hidden)
    sublayers = sum(
        sublayer_macs(config, index, kind, block) for index, block in enumerate(config.blocks) for kind in ("attention", "mlp")
    )
    return ends + sublayers + merging_macs(config)


def sublayer_macs(config: VitConfig, index: int, kind: str, block: BlockConfig) -> int:
    """Of one sublayer, ``attention`` or ``mlp`` of block ``index``, had it the widths of ``block``.

    Behind the last attention only the tokens that the head depends on are left.
    """
    width, tokens, rows = config.width, config.tokens_into(index), config.tokens_attended(index)
    if kind == "mlp":
        return config.tokens_after(index) * width * ((2 + config.gated) * block.hidden + width * block.mlp_map)
    inner = block.heads * config.head_dim
    return tokens * width * 3 * inner + 2 * rows * tokens * inner + rows * width * (inner + width * block.attention_map)


def merging_macs(config: VitConfig) -> int:
    """Of finding which tokens become one, of averaging them, and of a mean over patches that weighs them."""
    total = 0
    for index, block in enumerate(config.blocks):
        if block.merged:
            tokens = config.tokens_into(index)
            total += tokens * config.width * (tokens + config.tokens_after(index))
    if config.rotary is not None:
        total += _turning_macs(config)
    weighted = total and "mean" in config.pooling
    return total + (config.output_tokens * config.width if weighted else 0)


def _turning_macs(config: VitConfig) -> int:
    """Of where merged tokens come from, and of the mean rotations that this makes of tables, behind each merge."""
    assert config.rotary is not None
    total = 0
    for index, block in enumerate(config.blocks):
        if block.merged and config.merges_before(index):
            total += config.tokens_after(index) * config.tokens_into(index) * config.tokens
        if not block.merged or index == len(config.blocks) - 1:
            continue
        last = next((i for i in range(index + 1, len(config.blocks)) if config.blocks[i].merged), len(config.blocks) - 1)
        heads = [each.heads for each in config.blocks[index + 1 : last + 1] if each.heads]
        tables = sum(heads) if config.rotary.by_head else min(1, len(heads))
        total += 2 * tables * config.tokens_into(index + 1) * config.tokens * config.head_dim
    return total
