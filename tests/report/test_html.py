"""The report as a reader and a browser get it: complete, self-contained, bounded, and no name can break it."""

from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from jinja2 import UndefinedError

import edgevit
from edgevit.cache import Cache
from edgevit.engine.profiling import LayerTime
from edgevit.export.graph import write_graph
from edgevit.files.own_kinds import MARKDOWN
from edgevit.images.dataset import ImageSet
from edgevit.measure.compare import Candidate, compare
from edgevit.measure.comparison import Comparison
from edgevit.measure.details import Layer
from edgevit.measure.parts import part_times
from edgevit.model.quantplan import QuantPlan
from edgevit.part import Part
from edgevit.plan.device_plan import device_plan
from edgevit.printable import printable
from edgevit.report.changed import SIDE, THUMBNAILS, thumbnail
from edgevit.report.classes import by_class
from edgevit.report.fragment import fragment, lines, picture, strong, table
from edgevit.report.html import Background, to_html
from edgevit.report.plots import WIDTHS
from edgevit.report.sheet import Sheet
from edgevit.report.table import escape, explained, to_markdown
from edgevit.report.templating import rendered
from edgevit.workbench import Workbench
from tests.zoo import contract, folded, frames, int8

EVIL = ("<script>alert(1)</script>", "a&b \"quoted\" 'too' onload='x'", "猫 | ü", "{{ report.title }} {% raw %} {# #}", "x" * 300)
MODEL = folded()
VOID = {"meta", "img", "br"}


PLAN = {
    "plan": {"kernels": 112, "int8_share": 0.9, "megabytes": 84.3},
    "estimates": [{"target": "<board>", "mode": "15W", "milliseconds": 2.5}, {"milliseconds": "broken"}],
}


def sheet(text: str) -> Sheet:
    return Sheet(title=text, columns=(text, "b"), rows=[(text, text)])


class Page(HTMLParser):
    """Collects tags and attributes, and fails on a tag that is closed wrongly."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.tags: list[str] = []
        self.texts: list[str] = []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag not in VOID and tag not in ("p", "li", "td", "th", "tr", "dd", "dt"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        if tag not in ("p", "li", "td", "th", "tr", "dd", "dt"):
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def compared(labels: tuple[str, ...] | None = EVIL, *, runs: int = 5, count: int = 40) -> Comparison:
    """FP32, another FP32 under an evil name and a model of other weights, whose classes differ often."""
    array = frames(MODEL.config, count, seed=5)
    other = folded(seed=7)
    candidates = [
        Candidate(precision="fp32", engine="onnxruntime", model=write_graph(QuantPlan(model=MODEL)), subject="<b>one</b>"),
        Candidate(
            precision="int8", engine="onnxruntime", model=write_graph(int8(MODEL)), subject="<b>one</b>", device=device_plan(PLAN)
        ),
        Candidate(precision="fp32", engine="onnxruntime", model=write_graph(QuantPlan(model=other)), subject="other & more"),
    ]
    images = ImageSet(
        source="<i>frames</i>",
        names=tuple(f"<img src=x onerror=alert({i})>" for i in range(count)),
        class_names=labels or (),
        targets=tuple(i % 5 for i in range(count)) if labels else None,
        array=array,
    )
    cache = Cache(enabled=False)
    names = labels or tuple("abcde")
    return compare(candidates, images, contract(MODEL.config), names, runs=runs, bench=Workbench(cache=cache, threads=1))


@pytest.fixture(scope="module")
def comparison() -> Comparison:
    return compared()


def background(comparison: Comparison) -> Background:
    times = [LayerTime(name="blocks.0/<qkv>", kind="MatMul", milliseconds=0.5)]
    return Background(
        title="<title> & co",
        notes=("a <note>",),
        layers={comparison.rows[1].name: tuple(Layer(part=Part(i, "qkv"), sqnr_db=20.0 + i) for i in range(2))},
        parts={row.name: tuple(part_times(times)) for row in comparison.rows},
    )


def test_the_answer_comes_first(comparison: Comparison) -> None:
    text = to_html(comparison, background(comparison))
    body = text[text.index("<body>") :]
    page = Page(text)
    assert body.index('class="warning"') < body.index('class="answer unsure"') < body.index("<section>")
    assert f"Check first: {comparison.warnings[0]}" in page.texts
    assert comparison.recommendation.headline in page.texts
    sections = re.findall(r"<h2>(.*?)</h2>", text)
    assert sections[0] == "All variants"
    assert len(sections) == 9
    assert text.count("<svg") == 4 * len(WIDTHS)


def test_nothing_is_fetched_and_nothing_runs(comparison: Comparison) -> None:
    """No address but data URIs, no script, no handler, and a policy that forbids the rest."""
    text = to_html(comparison, background(comparison))
    page = Page(text)
    assert not set(page.tags) & {"script", "link", "iframe", "object", "embed", "b1", "i1", "form", "base"}
    for tag, name, value in page.attributes:
        assert not name.startswith("on"), (tag, name)
        if name in ("src", "href", "action"):
            assert value.startswith("data:image/jpeg;base64,")
    assert "url(" not in text
    assert "http://" not in text
    assert "https://" not in text
    assert ("meta", "content", "default-src 'none'; img-src data:; style-src 'unsafe-inline'") in page.attributes


def test_names_are_text(comparison: Comparison) -> None:
    """Markup in names of classes, models, images and folders is shown, not obeyed; braces mean nothing."""
    # The model of other weights, so that there are changed images whatever was fastest just now.
    comparison = replace(comparison, recommendation=replace(comparison.recommendation, row=2))
    text = to_html(comparison, background(comparison))
    page = Page(text)
    shown = "".join(page.texts)
    assert "<script>alert(1)</script>" in shown
    assert "<b>one</b> int8" in shown
    assert "<i>frames</i>" in shown
    assert "{{ report.title }} {% raw %} {# #}" in shown
    assert "猫 | ü" in shown
    assert any(name == "alt" and value.startswith("<img src=x onerror") for _, name, value in page.attributes)


def test_its_size_is_bounded() -> None:
    """Hundreds of changed images leave a page of `THUMBNAILS`."""
    comparison = compared(count=300)
    comparison = replace(comparison, recommendation=replace(comparison.recommendation, row=2))
    text = to_html(comparison, Background(title="x"))
    assert text.count("<img") == THUMBNAILS
    assert len(text) < 200_000
    assert f"{THUMBNAILS} of them here" in text


def test_without_labels() -> None:
    comparison = compared(labels=None)
    text = to_html(comparison, Background(title="x"))
    Page(text)
    assert "By class" not in text
    assert "agreement with" in text


def test_a_plot_of_nothing_is_a_sentence(comparison: Comparison) -> None:
    """Where no variant differs from the first in accuracy, the bars of latency say all that the plane would."""
    alike = tuple(
        replace(row, change=None if row.change is None else replace(row.change, difference=0.0)) for row in comparison.rows
    )
    assert "No plot" not in to_html(comparison, Background(title="x"))
    text = to_html(replace(comparison, rows=alike), Background(title="x"))
    assert "No plot: top-1 is the same for all variants here" in text
    assert text.count("<svg") == len(WIDTHS)  # latency


def test_columns_and_their_legend_are_those_shown() -> None:
    """Forty images are too few for a calibration error; without labels there is no top-1 to balance."""
    text = to_html(compared(), Background(title="x"))
    assert "ECE" not in text[: text.index("How to read this")]
    assert "balanced: mean of the classes" in text
    text = to_html(compared(labels=None), Background(title="x"))
    assert "balanced: mean" not in text
    assert "<th>balanced\u00a0%</th>" not in text


def test_conditions_say_when_what_and_of_which_models(comparison: Comparison) -> None:
    files = {"kind": "bundle", "name": "<cells>", "sha256": "ab" * 32}
    told = comparison.conditions | {"command": "edgevit compare <cells>", "models": [files]}
    text = to_html(replace(comparison, conditions=told), Background(title="x"))
    found = dict(re.findall(r"<dt>(.*?)</dt><dd>(.*?)</dd>", text[text.index("<h2>Conditions</h2>") :]))
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00", found["date"])
    assert found["edgevit"] == edgevit.__version__
    assert found["command"] == "edgevit compare &lt;cells&gt;"
    assert found["bundle &lt;cells&gt;"] == f"SHA-256 {'ab' * 32}"
    assert found["images"] == "40 images of &lt;i&gt;frames&lt;/i&gt;; with labels"
    for row in comparison.rows:
        assert row.sha256 in text


def test_text_of_plots_is_legible_at_every_width() -> None:
    """At least 11 pixels high, from the narrowest phone on: what the style sheet shows of `WIDTHS`, and at what scale."""
    css = (Path(edgevit.__file__).parent / "report" / "templates" / "report.css").read_text(encoding="utf-8")
    medium, narrow = (int(found) for found in re.findall(r"@media \(max-width: (\d+)px\)", css))
    paddings = [int(found) for found in re.findall(r"body \{[^}]*?padding: \d+px (\d+)px", css)]
    (high,) = re.findall(r"\.plot svg \{[^}]*font-size: (\d+)px", css)
    assert re.search(
        rf"max-width: {medium}px\) {{ \.plot\.wide {{ display: none; }} \.plot\.medium {{ display: block; }} }}", css
    )
    for window, padding, name in (
        (medium + 1, paddings[0], "wide"),
        (narrow + 1, paddings[0], "medium"),
        (360, paddings[1], "narrow"),
    ):
        assert int(high) * (window - 2 * padding) / WIDTHS[name] >= 11, name


def test_one_comparison_is_one_page(comparison: Comparison) -> None:
    """Date, command and digests are the comparison's: rendered again, every byte is the same."""
    assert to_html(comparison, background(comparison)) == to_html(comparison, background(comparison))


def test_no_template_trusts_what_it_is_given() -> None:
    """Escaping is the templates' own; only our SVG is put in as it is."""
    for path in (Path(edgevit.__file__).parent / "report" / "templates").iterdir():
        assert not re.search(r"\|\s*safe|autoescape|Markup", path.read_text(encoding="utf-8")), path.name
    for path in (Path(edgevit.__file__).parent / "report").glob("*.py"):
        text = path.read_text(encoding="utf-8")
        assert not re.search(r"Markup\((?![\"'])", text), f"{path.name}: of a literal only; what is put in, by format"


def test_a_value_that_is_missing_is_no_silence() -> None:
    with pytest.raises(UndefinedError, match="report"):
        rendered("report.html.j2")


@pytest.mark.parametrize(
    "part", [strong, lambda text: lines([text]), lambda text: table(sheet(text)), lambda text: picture(b"x", text)]
)
def test_a_notebooks_parts_are_text(part: Any) -> None:
    """Browsers read it as the same text, and as no tag more than without it."""
    for evil in (*EVIL, "\u202eevil", '"><img src=x onerror=alert(1)>'):
        page, plain = Page(fragment(part(evil))), Page(fragment(part("x")))
        assert page.tags == plain.tags
        shown = "".join([*page.texts, *(value for _, _, value in page.attributes)])
        assert printable(evil) in shown


def test_without_timing_there_is_no_latency() -> None:
    text = to_html(compared(runs=0), Background(title="x"))
    Page(text)
    assert "Speed was not measured here" in text
    assert "Latency of one image" not in text
    assert "Accuracy against latency" not in text


def test_one_row() -> None:
    comparison = compared()
    one = replace(comparison, rows=comparison.rows[:1], recommendation=replace(comparison.recommendation, row=0, baseline=0))
    Page(to_html(one, Background(title="x")))
    assert explained(one) is None


def test_classes_without_a_change_are_a_sentence(comparison: Comparison) -> None:
    change = comparison.rows[1].change
    assert change is not None
    same = tuple(replace(item, lost=0, won=0) for item in change.classes)
    rows = (comparison.rows[0], replace(comparison.rows[1], change=replace(change, classes=same)), comparison.rows[2])
    found = by_class(replace(comparison, rows=rows), rows[1])
    assert found is not None
    assert (found.rows, found.summary) == ((), f"The same images are right as before, in each of {len(same)} classes.")


def test_a_class_that_is_never_right_has_a_bar_to_be_seen(comparison: Comparison) -> None:
    """Its frame is drawn, and the bar in it has 2 pixels."""
    change = comparison.rows[2].change
    assert change is not None
    none = tuple(replace(item, lost=1, before=1, after=0, images=10) for item in change.classes)
    rows = (*comparison.rows[:2], replace(comparison.rows[2], change=replace(change, classes=none)))
    text = to_html(
        replace(comparison, rows=rows, recommendation=replace(comparison.recommendation, row=2)), Background(title="x")
    )
    assert text.count('<i><b class="after" style="width: 0.0%"></b></i>') == len(none)
    assert re.search(r"td\.meter b \{[^}]*min-width: 2px", text)


def test_many_classes_are_cut() -> None:
    comparison = compared()
    change = comparison.rows[1].change
    assert change is not None
    many = tuple(replace(change.classes[0], label=f"class {i}", lost=i, images=10, before=5, after=4) for i in range(1000))
    rows = (comparison.rows[0], replace(comparison.rows[1], change=replace(change, classes=many)), comparison.rows[2])
    text = to_html(
        replace(comparison, rows=rows, recommendation=replace(comparison.recommendation, row=1)), Background(title="x")
    )
    assert "class 999<" in text
    assert "class 1<" not in text
    assert "960 classes with fewer changes are not shown" in text


def test_thumbnail_is_a_small_jpeg() -> None:
    wide = np.random.default_rng(0).integers(0, 255, (1, 300, 900, 3), dtype=np.uint8)
    images = ImageSet(source="x", names=("0",), class_names=(), targets=None, array=wide)
    decoded = cv2.imdecode(np.frombuffer(thumbnail(images, 0), np.uint8), cv2.IMREAD_COLOR)
    assert decoded.shape == (43, SIDE, 3)


def test_a_tiny_image_is_not_enlarged() -> None:
    images = ImageSet(source="x", names=("0",), class_names=(), targets=None, array=np.zeros((1, 3, 5, 3), np.uint8))
    assert cv2.imdecode(np.frombuffer(thumbnail(images, 0), np.uint8), cv2.IMREAD_COLOR).shape == (3, 5, 3)


# --- Markdown ------------------------------------------------------------------------------------------------------------------


def test_markdown_tables_are_whole(comparison: Comparison) -> None:
    """Every line of a table has as many cells as its header, whatever names hold."""
    text = to_markdown(comparison, ["a *note*"])
    lines = text.splitlines()
    assert MARKDOWN.begins(".md", text.encode())
    assert [line.startswith("> Check first: ") for line in lines[: 2 * len(comparison.warnings) : 2]] == [True]
    assert lines[2].startswith("**Too few images to tell: 40 images cannot rule out that ")
    tables = 0
    for i, line in enumerate(lines):
        if not line.startswith("| ---"):
            continue
        tables += 1
        cells = cells_of(line)
        for row in [lines[i - 1], *_until_blank(lines[i + 1 :])]:
            assert cells_of(row) == cells
    assert tables == 4
    assert "a \\*note\\*" in text


def cells_of(line: str) -> int:
    return len(re.findall(r"(?<!\\)\|", line))


def _until_blank(lines: list[str]) -> list[Any]:
    return lines[: lines.index("")] if "" in lines else lines


def test_markdown_escape() -> None:
    assert escape("a|b\n<c> *d*") == "a\\|b \\<c\\> \\*d\\*"
