"""Shares as people write them."""

from __future__ import annotations

import click
import pytest

from edgevit.cli.shares import Points, Share
from edgevit.deploy.destination import Destination
from edgevit.errors import ConfigError
from edgevit.runtime.threshold import parse_thresholds
from edgevit.share import meant_by, share_of
from edgevit.tokens.settings import merge_settings


@pytest.mark.parametrize(
    ("text", "share"),
    [
        ("0.6", 0.6),
        ("60%", 0.6),
        (" 60 % ", 0.6),
        (".5", 0.5),
        ("1.", 1.0),
        ("0", 0.0),
        ("100%", 1.0),
        ("0.5%", 0.005),
        ("60", 60.0),
    ],
)
def test_share(text: str, share: float) -> None:
    assert share_of(text) == pytest.approx(share)


@pytest.mark.parametrize("text", ["", "%", "-0.1", "nan", "inf", "1e-1", "0,5", "٣", "60%%", "a", "0x1"])
def test_what_is_no_share(text: str) -> None:
    assert share_of(text) is None
    assert meant_by(text) == ""


@pytest.mark.parametrize(
    ("text", "question"),
    [("60", " Did you mean 60%?"), ("1.5", " Did you mean 1.5%?"), ("1", ""), ("0.6", ""), ("200", ""), ("160%", "")],
)
def test_a_forgotten_sign_is_asked_for(text: str, question: str) -> None:
    assert meant_by(text) == question


@pytest.mark.parametrize("text", ["60", "crack=60"])
def test_thresholds_do_not_guess(text: str) -> None:
    with pytest.raises(
        ConfigError, match=r"60 is no confidence; write a confidence from 0 to 1 such as 0\.6 or 60%.*Did you mean 60%\?"
    ):
        parse_thresholds([text], ["crack"], "single_label")


def test_thresholds_in_both_forms() -> None:
    found = parse_thresholds(["60%", "crack=0.7"], ["crack"], "single_label")
    assert (found.all, found.own) == (pytest.approx(0.6), {"crack": 0.7})


def test_merging_in_both_forms() -> None:
    assert merge_settings("35%").share == merge_settings("0.35").share == pytest.approx(0.35)
    with pytest.raises(ConfigError, match=r"Did you mean 35%\?"):
        merge_settings("35")


def test_types_of_options() -> None:
    assert Share().convert("5%", None, None) == Share().convert("0.05", None, None) == Share().convert(0.05, None, None)
    assert Share(others=("auto",)).convert("auto", None, None) == "auto"
    assert Points().convert("0.5%", None, None) == Points().convert("0.5", None, None) == 0.5
    for wrong in ("auto", "60", "-1", ""):
        with pytest.raises(click.BadParameter, match="is no share"):
            Share().convert(wrong, None, None)
    for wrong in ("%", "101%", "-1%", "half"):
        with pytest.raises(click.BadParameter):
            Points().convert(wrong, None, None)


@pytest.mark.parametrize(
    ("address", "advice"),
    [
        ("u@127.0.0.1:2222", "u@127.0.0.1 --port 2222"),
        ("board:22", "board --port 22"),
        ("u@[fe80::1]:22", "u@[fe80::1] --port 22"),
    ],
)
def test_a_port_is_no_part_of_a_host(address: str, advice: str) -> None:
    with pytest.raises(ConfigError, match="the port is an option") as caught:
        Destination(address=address)
    assert str(caught.value).endswith(f"Write {advice}")


@pytest.mark.parametrize("address", ["::1", "u@fe80::1", "[::1]", "u@127.0.0.1", "board"])
def test_hosts_that_are(address: str) -> None:
    assert Destination(address=address).address == address
