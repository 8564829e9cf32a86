"""Releases and links on a real disk, and a service that edgevit's own supervisor keeps, on this machine."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from edgevit.bundle import open_bundle, write_bundle
from edgevit.errors import ConfigError, EngineError, StateError
from edgevit.runtime.state import RunState
from edgevit.services import choice, putting, supervised
from edgevit.services.place import Place, places
from edgevit.services.supervised import Supervised
from edgevit.services.telling import Told, parse_told, told_json, told_of
from edgevit.services.wanted import Order, Wanted, parse_order, parse_wanted, to_json
from tests.support import ROOT

WANTED = Wanted(source="test://64x48@20", options=("--top-k", "1"))


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(folder=tmp_path, name="cam")


def test_releases(place: Place, bundle_path: Path, fp32_bundle_path: Path) -> None:
    """One bundle and its options are one release, whose files are the bundle's own."""
    bundle = open_bundle(bundle_path)
    one = place.make(bundle, WANTED)
    assert place.make(bundle, WANTED) == one
    assert one.wanted() == WANTED
    assert open_bundle(one.bundle).sha256 == bundle.sha256
    assert (one.bundle / "manifest.json").samefile(bundle_path / "manifest.json")
    assert (one.folder / "wanted.json").stat().st_mode & 0o777 == 0o600
    two, three = place.make(bundle, replace(WANTED, source="0")), place.make(open_bundle(fp32_bundle_path), WANTED)
    assert len({one.id, two.id, three.id}) == 3
    assert (place.current, place.previous) == (None, None)
    assert place.begin(one) is None
    one.mark_healthy()
    place.settle(one, None)
    assert (place.current, place.previous, two.folder.exists()) == (one, None, False)
    assert [each.name for each in places(place.folder)] == ["cam"]


def test_the_way_back_outlives_a_power_cut(place: Place, bundle_path: Path) -> None:
    """What was healthy is gone back to, not what was begun and never settled."""
    bundle = open_bundle(bundle_path)
    one, two, three = (place.make(bundle, replace(WANTED, watchdog_s=seconds)) for seconds in (10, 20, 30))
    place.begin(one)
    one.mark_healthy()
    place.settle(one, None)
    one, two, three = (place.make(bundle, replace(WANTED, watchdog_s=seconds)) for seconds in (10, 20, 30))
    assert place.begin(two) == one  # and then the power goes
    assert Place(folder=place.folder, name="cam").begin(three) == one
    place.settle(one, None)
    assert [path.name for path in (place.root / "releases").iterdir()] == [one.id]


@pytest.mark.parametrize("target", ["releases/../../x", "/etc", "releases/xyz", "current"])
def test_links_that_lead_elsewhere_are_none(target: str, place: Place) -> None:
    place.root.mkdir(parents=True)
    (place.root / "current").symlink_to(target)
    assert place.current is None


@pytest.mark.parametrize("name", ["", "..", "a/b", "a b", "-x", "a" * 65, "a\n"])
def test_names(name: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="a service's name"):
        Place(folder=tmp_path, name=name)


def test_orders(tmp_path: Path) -> None:
    order = Order(folder="/x", name="cam", bundle="b.edgevit", wanted=WANTED, min_fps=3.5, password="secret")
    assert parse_order(to_json(order)) == order
    assert parse_wanted(to_json(WANTED)) == WANTED
    good = json.loads(to_json(order))
    for change in ({"name": "../x"}, {"wanted": {}}, {"min_fps": -1}, {"within": "1"}, {"more": 1}):
        with pytest.raises(ValueError, match=r"."):
            parse_order(json.dumps(good | change))


STATE = RunState(
    version="0.1.0", bundle="a" * 64, model="m", source="0", pid=1, started=1.0, updated=1e9, frames=9, fps=14.0, source_fps=30.0,
    live=True, engine="e",
)  # fmt: skip


@pytest.mark.parametrize(
    ("asked", "possible", "former", "state", "least"),
    [
        (7.0, 100.0, 100.0, STATE, 7.0),
        (0.0, 100.0, 100.0, STATE, 0.0),
        (None, None, None, STATE, 12.0),  # 40 % of the camera's 30
        (None, 20.0, None, STATE, 8.0),  # which this board cannot keep up with
        (None, 100.0, 10.0, STATE, 4.0),  # it was dark before, too
        (None, 100.0, None, replace(STATE, source_fps=None), None),  # a stream that does not say: the board's speed says nothing
        (None, None, None, replace(STATE, live=False), None),
        (None, None, 5.0, replace(STATE, live=False), 2.0),
    ],
)
def test_the_rate_that_must_be_reached(
    asked: float | None, possible: float | None, former: float | None, state: RunState, least: float | None
) -> None:
    order = Order(folder="/x", name="cam", bundle="b", wanted=WANTED, min_fps=asked, possible_fps=possible)
    found = putting._least(order, former)(state)
    assert found == (least if least is None else pytest.approx(least))


def test_what_a_board_tells(place: Place) -> None:
    told = Told(name="cam", condition="running", kept_by="x", now=1e9, state=STATE, restarts=2)
    assert parse_told(told_json([told])) == [told]
    assert told.healthy
    assert not replace(told, now=1e9 + 60).healthy
    assert not replace(told, state=replace(STATE, fps=0.0)).healthy
    newer = json.loads(told_json([told]))
    newer[0]["of a newer edgevit"] = newer[0]["state"]["too"] = 1
    assert parse_told(json.dumps(newer)) == [told]
    for text in ("", "{}", "[1]", '[{"name": "a"}]', "[" + "{}," * 70 + "{}]", told_json([told]).replace('"running"', '"odd"')):
        with pytest.raises(ValueError, match=r"."):
            parse_told(text)
    assert told_of(place).condition == "stopped"


# --- a service of this machine's, kept by the supervisor -------------------------------------------------------------


@pytest.fixture
def served(tmp_path: Path, bundle_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    """A folder as deploy leaves it, with this Python in the place of its environment; no cron is asked."""
    home = tmp_path / "edgevit"
    program = home / "venv/bin/python"
    program.parent.mkdir(parents=True)
    program.write_text(f'#!/bin/sh\nPYTHONPATH={ROOT} exec {sys.executable} "$@"\n')
    program.chmod(0o755)
    shutil.copytree(bundle_path, home / "bundles/cells.edgevit")
    opened = open_bundle(bundle_path)
    files = {name: opened.read(name) for name in opened.manifest.files}
    write_bundle(home / "bundles/newer.edgevit", replace(opened.manifest, name="newer"), files)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    monkeypatch.setattr(choice, "has_user_manager", lambda: False)
    monkeypatch.setattr(supervised, "_crontab", list)
    monkeypatch.setattr(supervised, "_write_crontab", lambda _: [])
    made = Place(folder=home, name="cam")
    yield made
    Supervised(made).stop()


def order(place: Place, bundle: str, **changes: object) -> Order:
    return replace(Order(folder=str(place.folder), name=place.name, bundle=bundle, wanted=WANTED, within=60), **changes)  # type: ignore[arg-type]


@pytest.mark.slow
def test_a_service_from_its_first_bundle_to_the_way_back(served: Place) -> None:
    first = putting.put(order(served, "cells.edgevit"))
    assert (first.outcome, first.kept_by) == ("started", "edgevit's own supervisor")
    assert first.state is not None
    assert putting.put(order(served, "cells.edgevit")).outcome == "already there"
    second = putting.put(order(served, "newer.edgevit"))
    assert second.outcome == "updated"
    bad = putting.put(order(served, "cells.edgevit", wanted=replace(WANTED, source="/none.mp4"), within=30))
    assert (bad.outcome, bad.state and bad.state.bundle) == ("rolled back", second.state and second.state.bundle)
    assert "no such file" in (bad.reason or "")
    assert any("no such file" in line for line in bad.logs)
    assert putting.roll_back(served, within=60).state is not None
    assert told_of(served).bundle == "cells.edgevit"
    assert told_of(served).previous == "newer.edgevit"
    again = putting.restart(served, within=60)
    assert again.state is not None
    os.kill(again.state.pid, 0)
    keeper = Supervised(served)
    keeper.stop()
    assert keeper.status().condition == "stopped"
    with pytest.raises(ProcessLookupError):
        os.kill(again.state.pid, 0)


@pytest.mark.slow
def test_a_first_bundle_that_does_no_good_is_stopped(served: Place) -> None:
    put = putting.put(order(served, "cells.edgevit", min_fps=500.0, within=4))
    assert (put.outcome, put.state, served.current) == ("stopped", None, None)
    assert "at least 500.0 are asked for" in (put.reason or "")
    with pytest.raises(StateError, match="no bundle before"):
        putting.roll_back(served, within=1)
    assert list((served.root / "releases").iterdir()) == []


def test_what_is_damaged_changes_nothing(served: Place) -> None:
    (served.folder / "bundles/cells.edgevit/samples.npz").write_bytes(b"")
    with pytest.raises((StateError, EngineError), match="Nothing was changed"):
        putting.put(order(served, "cells.edgevit"))
    assert served.current is None


def test_the_verbs_answer_in_json_or_a_line(served: Place) -> None:
    def board(*arguments: str, text: str = "") -> subprocess.CompletedProcess[str]:
        command = [str(served.folder / "venv/bin/python"), "-m", "edgevit.cli.board", *arguments]
        return subprocess.run(command, input=text, capture_output=True, text=True, timeout=120, check=False)

    assert json.loads(board("status", str(served.folder)).stdout) == []
    assert parse_told(board("status", str(served.folder), "cam").stdout)[0].condition == "stopped"
    bad = board("put", text="{}")
    assert (bad.returncode, bad.stderr.count("\n")) == (2, 1)
    none = board("logs", str(served.folder), "cam")
    assert (none.returncode, none.stderr) == (12, "edgevit: cam: nothing is in service. Deploy a bundle with --run.\n")
    assert board("run", str(served.folder), "cam").returncode == 2  # which no supervisor starts anew
