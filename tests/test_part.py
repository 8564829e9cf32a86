"""Names of parts and sublayers: one text each, read back by one function, in network order."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from edgevit.part import LINEARS, WRITERS, Part, Sublayer, named

IN_ORDER = ["blocks.2.qkv", "blocks.2.attention", "blocks.2.proj", "blocks.2.fc1", "blocks.2.fc2", "blocks.10.qkv"]


def test_the_text_is_the_name_in_files() -> None:
    assert str(Part(3, "fc1")) == f"{Part(3, 'fc1')}" == "blocks.3.fc1"
    assert str(Sublayer(11, "mlp")) == "blocks.11.mlp"
    assert Part(3, "fc1").node == "blocks.3/fc1"


@pytest.mark.parametrize("text", IN_ORDER)
def test_parsing_is_the_inverse(text: str) -> None:
    assert str(Part.parse(text)) == text


def test_sorted_is_in_network_order() -> None:
    """By number, where texts would put block 10 before block 2, and qkv before what it feeds."""
    assert [str(part) for part in sorted(map(Part.parse, sorted(IN_ORDER)))] == IN_ORDER
    assert Part(0, "fc2") < Part(1, "qkv") > Part(0, "qkv")
    assert max(Sublayer(0, "mlp"), Sublayer(0, "attention")) == Sublayer(0, "mlp")


@pytest.mark.parametrize(
    "text",
    ["", "fc1", "blocks.fc1", "blocks.1.fc3", "blocks.1.mlp", "blocks.-1.fc1", "blocks.01.fc1", "blocks.1.fc1 ", "blocks.1.fc1\n",
     "blocks.1.fc1.weight", "blocks.١.fc1", "Blocks.1.fc1", f"blocks.{'9' * 5000}.fc1"],
)  # fmt: skip
def test_other_texts_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="part"):
        Part.parse(text)


def test_what_there_is_not_cannot_be_made() -> None:
    with pytest.raises(ValueError, match="kinds: attention, mlp"):
        Sublayer(0, "fc1")
    with pytest.raises(ValueError, match="block -1"):
        Part(-1, "fc1")


def test_a_part_is_no_sublayer() -> None:
    """Attention's two products, and all of the block's attention, share a text and nothing else."""
    assert str(Part(0, "attention")) == str(Sublayer(0, "attention"))
    assert Part(0, "attention") != Sublayer(0, "attention")
    assert len({Part(0, "attention"), Part.parse("blocks.0.attention"), Sublayer(0, "attention")}) == 2
    with pytest.raises(TypeError):
        assert Part(0, "attention") < Sublayer(0, "mlp")


def test_every_part_belongs_to_a_sublayer_with_one_writer() -> None:
    belongs = {kind: Part(4, kind).sublayer for kind in Part.KINDS}
    assert {kind for kind in belongs if belongs[kind] == Sublayer(4, "mlp")} == {"fc1", "fc2"}
    assert {kind for kind in belongs if belongs[kind] == Sublayer(4, "attention")} == {"qkv", "attention", "proj"}
    assert tuple(Sublayer(4, kind).writer.kind for kind in Sublayer.KINDS) == WRITERS
    assert set(LINEARS) == set(Part.KINDS) - {"attention"}


def test_reports_name_what_they_tell_of() -> None:
    @dataclass
    class Report:
        part: Part
        noise: float

    assert named(Report(part=Part(0, "proj"), noise=0.5)) == {"name": "blocks.0.proj", "noise": 0.5}
