"""Write the drawings of the documentation: ``python docs/drawings/make.py [FOLDER]``. Figures come from the pages' own tables."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

from figures import number, rows
from svg import WIDTH, Bar, arrow, bars, box, drawing, text


def way() -> str:
    """From what one has to labels, with the command of each step."""
    steps = (
        ("photos", "edgevit train", "a head on a backbone"),
        ("checkpoint", "edgevit build", "prune, INT8, compile"),
        ("bundle", "edgevit compare", "which one, how sure"),
        ("board", "edgevit deploy", "compile there, check"),
        ("camera", "edgevit run", "labels, events, page"),
    )
    parts = []
    for i, (what, command, does) in enumerate(steps):
        x = 8 + i * 152
        kind = "int8" if i in (1, 4) else "box"
        parts.append(box(x, 20, 118, 46, what, kind))
        parts.append(text(x + 59, 90, command, "small bold", "middle"))
        parts.append(text(x + 59, 108, does, "small soft", "middle"))
        if i + 1 < len(steps):
            parts.append(arrow(x + 120, 43, x + 148, 43))
    return drawing(122, "Photos, checkpoint, bundle, board, camera", parts)


def graph() -> str:
    """A block as it is written, and what TensorRT's builder makes of other forms."""
    names = (
        ("norm", "box", 54), ("qkv", "int8", 54), ("q kᵀ", "gone", 54), ("softmax", "box", 66), ("· v", "gone", 46),
        ("proj", "int8", 54), ("+", "box", 28),
        ("norm", "box", 54), ("fc1", "int8", 54), ("GELU", "box", 54), ("fc2", "int8", 54), ("+", "box", 28),
    )  # fmt: skip
    parts, x = [text(8, 20, "One block: INT8 filled, in violet where it adds little noise; floating point outlined", "bold")], 8.0
    for name, kind, width in names:
        parts.append(box(x, 34, width, 36, name, kind))
        x += width + 13
        parts.append(f'<path d="M{x - 13:g} 52h13" class="ink"/>')
    parts.pop()
    table = rows("tensorrt.md", "DeiT-S, 197 tokens:")
    wanted = (
        ("INT8, as exporters write it", "INT8 linears, FP16 attention", "rank5", "float"),
        ("INT8, ONNX's Attention", "INT8 linears, FP16 attention", "op", "float"),
        ("INT8, as edgevit writes it", "INT8 linears, FP16 attention", "rank4", "int8"),
        ("with INT8 attention", "INT8 linears and attention", "rank4", "int8"),
        ("FP16, as exporters write it", "FP16", "rank5", "float"),
        ("FP16, as edgevit writes it", "FP16", "rank3, q, k and v", "int8"),
    )
    chart = []
    for name, precision, form, kind in wanted:
        (row,) = (row for row in table if row[0] == precision and row[1].startswith(form))
        chart.append(Bar(name=name, value=number(row[3]), text=f"{row[3]} MB, {row[2]} kernels", kind=kind))
    parts.append(text(8, 108, "DeiT-S compiled by TensorRT's builder: megabytes that all kernels read and write", "bold"))
    parts += bars(122, 210, chart)
    return drawing(122 + 26 * len(chart) + 8, "What of a block is INT8, and what forms of one graph compile to", parts)


def folding() -> str:
    """What is multiplied into which weights, and what the steps are worth."""
    moves = (
        ("colour order, 1/255, mean, std", "patch embedding"),
        ("LayerScale", "proj and fc2"),
        ("attention's 1/√d", "rows of q"),
        ("centring and evening of channels", "LayerNorm, rows of v, one ×+ behind GELU"),
        ("mean error of rounding", "biases"),
    )
    parts = [text(8, 20, "What the folded model no longer computes", "bold")]
    for i, (what, into) in enumerate(moves):
        y = 34 + 34 * i
        parts += [box(8, y, 270, 26, what), arrow(284, y + 13, 330, y + 13), box(336, y, 330, 26, into, "int8")]
    table = rows("quantization.md", "## Step by step")
    chart = [Bar(name=row[0].replace(" (default)", ""), value=number(row[1]), text=f"{row[1]} dB") for row in table]
    chart[-1] = replace(chart[-1], kind="int8")
    top = 34 + 34 * len(moves) + 40
    parts.append(text(8, top - 14, "Logit SQNR of DINOv2-S in INT8, steps added one by one", "bold"))
    parts += bars(top, 300, chart)
    return drawing(top + 26 * len(chart) + 8, "What is folded into which weights, and the SQNR of the logits step by step", parts)


MERGES = "65@4, 64@6, 56@8"


def merging() -> str:
    """Tokens by block, and what the choice of places keeps."""
    tokens, left = 257, {int(block): int(gone) for gone, block in (merge.split("@") for merge in MERGES.split(", "))}
    parts = [text(8, 20, f"Tokens by block of DINOv2-S, --merge {MERGES.replace(' ', '')}", "bold")]
    for block in range(12):
        x, height = 8 + 62 * block, tokens * 0.35
        if block in left:
            parts.append(text(x + 25, 129 - height, f"-{left[block]}", "small soft", "middle"))
        parts.append(f'<rect x="{x}" y="{134 - height:.1f}" width="50" height="{height:.1f}" rx="3" class="int8"/>')
        parts.append(text(x + 25, 128, str(tokens), "on small", "middle"))
        parts.append(text(x + 25, 152, f"block {block}", "small soft", "middle"))
        tokens -= left.get(block, 0)
    table = rows("tokens.md", "## What it keeps")
    places, chart = "", []
    for row in table:
        places = row[0] or places
        by = "its input" if "input" in row[1] else "keys"
        chart.append(Bar(
            name=f"{places}; {by}", value=number(row[3]), text=f"{number(row[3])} dB at {row[2]} of the MACs",
            kind="int8" if by == "its input" else "float",
        ))  # fmt: skip
    parts.append(text(8, 190, "Logit SQNR without refit, by where tokens merge and what is compared", "bold"))
    parts += bars(204, 280, chart, room=180)
    return drawing(204 + 26 * len(chart) + 8, "Tokens by block, and the SQNR that different merges keep", parts)


def search() -> str:
    """Speed over INT8 against the share of answers that stay, by what was cut."""
    table = [row for row in rows("tokens.md", "The whole way, INT8 included") if row[0].startswith("int8") and "x" in row[3]]
    left, top, width, height = 70.0, 40.0, WIDTH - 70.0 - 190.0, 250.0
    xs, ys = (1.0, 1.7), (82.0, 100.0)

    def place(row: list[str]) -> tuple[float, float]:
        x, y = number(row[3]), number(row[6])
        return left + (x - xs[0]) / (xs[1] - xs[0]) * width, top + (ys[1] - y) / (ys[1] - ys[0]) * height

    parts = [text(8, 20, "DINOv2-S in INT8, made faster: answers that stay FP32's, %", "bold")]
    for share in (85, 90, 95, 100):
        y = top + (ys[1] - share) / (ys[1] - ys[0]) * height
        parts += [f'<path d="M{left:g} {y:g}h{width:g}" class="line"/>', text(left - 8, y + 4, str(share), "small soft", "end")]
    for i in range(8):
        x = left + i / 7 * width
        parts.append(text(x, top + height + 20, f"{1 + i / 10:.1f}x", "small soft", "middle"))
    parts.append(text(left + width / 2, top + height + 42, "times as fast as INT8 alone", "small", "middle"))
    for row in table:
        x, y = place(row)
        kind = "int8" if "speedup" in row[0] or row[0] == "int8" else "float"
        parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="6" class="{kind}"/>')
        parts.append(text(x + 11, y + 5, row[0].replace(" pixels", " px"), "small bold" if kind == "int8" else "small soft"))
    return drawing(top + height + 52, "Speed against agreement: the search beside cuts by hand", parts)


DRAWINGS = {"way": way, "graph": graph, "folding": folding, "merging": merging, "search": search}


def main(folder: Path) -> None:
    """Write all of them."""
    for name, draw in DRAWINGS.items():
        (folder / f"{name}.svg").write_text(draw(), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent)
