"""The page that a report fills, and what it tells a first-time reader."""

from __future__ import annotations

from string import Template

PAGE = Template("""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="generator" content="edgevit">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<title>$title</title>
<style>
:root { color-scheme: light dark; --back: #fff; --text: #1c2024; --soft: #5d6670; --line: #d9dee3; --card: #f4f6f8;
  --good: #00734f; --goodback: #e5f4ee; --bad: #b34500; --badback: #fbeee6; --bar: #9aa7b3; --best: #0072b2; }
@media (prefers-color-scheme: dark) { :root { --back: #14181c; --text: #e6e9ec; --soft: #9aa4ae; --line: #333b43; --card: #1d2329;
  --good: #5fd1a8; --goodback: #14312a; --bad: #ff9f66; --badback: #38251a; --bar: #5b6670; --best: #4aa8e0; } }
body { margin: 0 auto; max-width: 1080px; padding: 28px 20px 60px; background: var(--back); color: var(--text);
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; overflow-wrap: anywhere; }
h1 { font-size: 15px; font-weight: 600; color: var(--soft); margin: 0 0 10px; }
h2 { font-size: 18px; margin: 36px 0 10px; }
.answer { background: var(--goodback); border-left: 5px solid var(--good); border-radius: 6px; padding: 16px 20px; }
.answer p { font-size: 20px; line-height: 1.4; font-weight: 600; margin: 0; }
.unsure { background: var(--badback); border-left-color: var(--bad); }
.warning { background: var(--badback); border-left: 5px solid var(--bad); border-radius: 6px;
  padding: 10px 20px; margin: 0 0 12px; }
.answer ul { margin: 10px 0 0; padding-left: 20px; color: var(--text); }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(170px, 1fr)); gap: 12px; margin: 16px 0 0; }
.tiles div { background: var(--card); border-radius: 6px; padding: 12px 16px; }
.tiles b { display: block; font-size: 24px; } .tiles span, .small, figcaption span { color: var(--soft); font-size: 13px; }
.small { margin: 6px 0 0; }
.wide { overflow-x: auto; margin-bottom: 18px; }
table { border-collapse: collapse; font-size: 13px; font-variant-numeric: tabular-nums; width: 100%; overflow-wrap: normal; }
th, td { padding: 6px 9px; border-bottom: 1px solid var(--line); text-align: right; white-space: nowrap; }
th { color: var(--soft); font-weight: 600; vertical-align: bottom; white-space: normal; }
th:first-child, td:first-child, section > .wide th:nth-child(2), section > .wide td:nth-child(2) { text-align: left; }
tr.best td { background: var(--goodback); font-weight: 600; } tr.worse td.change { color: var(--bad); font-weight: 600; }
svg { width: 100%; height: auto; max-width: 860px; display: block; font-size: 12px; }
svg text { fill: var(--text); paint-order: stroke; stroke: var(--back); stroke-width: 3px; stroke-linejoin: round; }
svg .cell + text { stroke: none; } svg .strong { font-weight: 700; }
svg .grid { stroke: var(--line); } svg .axis { stroke: var(--soft); } svg .zero { stroke: var(--soft); stroke-dasharray: 5 4; }
svg .leader { stroke: var(--soft); stroke-width: 0.7; } svg .mark { stroke: var(--text); stroke-width: 1.5; }
svg circle.other, svg rect.other { fill: var(--bar); } svg circle.chosen, svg rect.chosen { fill: var(--best); }
svg .whisker { stroke: var(--bar); stroke-width: 1.6; } svg .whisker.chosen { stroke: var(--best); }
svg .front { fill: none; stroke: var(--best); stroke-opacity: 0.5; stroke-width: 1.5; }
svg .cell { stroke: var(--line); stroke-width: 0.6; }
td.meter { width: 180px; min-width: 120px; } td.meter i { display: block; height: 6px; margin: 2px 0; background: var(--bar); }
td.meter i.after { background: var(--best); }
.gallery { display: grid; grid-template-columns: repeat(auto-fill, minmax(150px, 1fr)); gap: 12px; }
figure { margin: 0; background: var(--card); border-radius: 6px; padding: 8px; font-size: 13px; line-height: 1.35; }
figure img { width: 100%; aspect-ratio: 1; object-fit: contain; border-radius: 4px; display: block;
  margin-bottom: 6px; background: #000; }
figure em { font-style: normal; font-weight: 600; } .lost em { color: var(--bad); } .won em { color: var(--good); }
details { margin-top: 36px; } summary { cursor: pointer; font-weight: 600; } dt { font-weight: 600; } dd { margin: 0 0 8px; }
@media print { body { max-width: none; padding: 0; font-size: 12px; } section, figure, .tiles div { break-inside: avoid; }
  .wide { overflow: visible; } table { font-size: 9px; } th, td { padding: 3px 4px; } }
</style></head><body>
<h1>$title</h1>
$warnings<div class="$kind"><p>$headline</p>$reasons</div>
<div class="tiles">$tiles</div>
$sections
$reading
</body></html>
""")

READING = """<details open><summary>How to read this</summary><dl>
<dt>No measurable loss</dt><dd>Both models saw the same images, so only images where exactly one of them is right tell them apart.
McNemar's exact test asks how often a fair coin would split these as unevenly; under 5 % the difference is called measurable.
The interval says how large a loss the images leave possible: read it before trusting a "no".</dd>
<dt>Change and its interval</dt><dd>Percentage points of top-1 against the reference, with Tango's 95 % score interval
for pairs: it keeps its width where no image changed.</dd>
<dt>Balanced</dt><dd>Balanced accuracy: the mean of all classes' shares of right answers, so that a class of ten images counts as
much as one of a thousand.</dd>
<dt>Agreement, SQNR</dt><dd>How often the class is the reference's, and how far the logits are from it:
these show damage long before top-1 does.</dd>
<dt>ECE</dt><dd>Expected calibration error: how far confidence is from accuracy on average. It matters where a
threshold decides.</dd>
<dt>p50, p90, p99</dt><dd>Half, nine of ten and 99 of 100 images take no longer. Variants were timed in turns on the same images,
so that a clock that drifts hits all alike. "~" before a speed-up: its 95 % interval holds 1, which is inside the noise.</dd>
</dl></details>"""

OF_LABELS = """<details open><summary>How to read this</summary><dl>
<dt>mAP, F1</dt><dd>Images may have several labels. Average precision of a label: over its images, how many of those that score
as high or higher have it, too; mAP is its mean over labels and needs no threshold. F1: right labels against those missed and made
up, over all labels of all images, at a threshold of 0.5.</dd>
<dt>Change and its interval</dt><dd>Percentage points of mAP against the reference on the same images. Drawing whole images anew
a thousand times gives the 95 % interval; where it leaves 0 out, the difference is called measurable. The interval says how large
a loss the images leave possible: read it before trusting a "no".</dd>
<dt>Agreement, SQNR</dt><dd>Of all labels that either model gives, the share that both give, and how far the logits are from the
reference's: these show damage long before mAP does.</dd>
<dt>p50, p90, p99</dt><dd>$latency</dd>
</dl></details>"""


def reading(*, multi_label: bool) -> str:
    """What tells a first-time reader how to read a report, as HTML."""
    if not multi_label:
        return READING
    latency = READING.rpartition("<dt>p50, p90, p99</dt><dd>")[2].partition("</dd>")[0]
    return OF_LABELS.replace("$latency", latency)
