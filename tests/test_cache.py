"""Stage results kept by content: found when nothing changed, made again when anything did or an entry is damaged."""

from __future__ import annotations

import errno
import os
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from pathlib import Path

import pytest

from edgevit import cache as cache_module
from edgevit.cache import Cache, Kind, default_cache_dir
from edgevit.files.writing import beside


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(root=tmp_path / "cache")


STAGE = Kind("stage", "edgevit.errors")


def entries(cache: Cache) -> list[Path]:
    return [path for path in cache.root.rglob("*") if path.is_file()]


def test_same_inputs_are_found_in_any_order(cache: Cache) -> None:
    cache.store(STAGE, b"result", weights="w", size=(2, 3))
    assert cache.find(STAGE, weights="w", size=(2, 3)) == b"result"
    assert Cache(root=cache.root).find(STAGE, size=(2, 3), weights="w") == b"result"


@pytest.mark.parametrize("inputs", [{}, {"a": 2}, {"a": "1"}, {"a": 1, "b": None}, {"a": [1]}, {"b": 1}])
def test_any_other_input_is_a_miss(cache: Cache, inputs: dict) -> None:
    cache.store(STAGE, b"result", a=1)
    assert cache.find(STAGE, a=1) == b"result"
    assert cache.find(STAGE, **inputs) is None
    assert cache.find(Kind("other", "edgevit.errors"), a=1) is None


@pytest.mark.parametrize("result", [b"", b"\0" * 100_000])
def test_any_bytes_can_be_kept(cache: Cache, result: bytes) -> None:
    cache.store(STAGE, result, a=1)
    assert cache.find(STAGE, a=1) == result


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data[:-1],
        lambda data: data + b"x",
        lambda data: data[:40] + b"?" + data[41:],
        lambda data: b"",
        lambda data: data[:10],
    ],
    ids=["cut", "longer", "changed", "empty", "no content"],
)
def test_damaged_entry_is_made_again(cache: Cache, damage) -> None:
    """A half-synced disk gives a miss, not a wrong model."""
    cache.store(STAGE, b"r" * 100, a=1)
    (path,) = entries(cache)
    path.write_bytes(damage(path.read_bytes()))
    assert cache.find(STAGE, a=1) is None
    cache.store(STAGE, b"r" * 100, a=1)
    assert cache.find(STAGE, a=1) == b"r" * 100


def test_disabled_cache_neither_finds_nor_keeps(cache: Cache) -> None:
    """--no-cache"""
    cache.store(STAGE, b"old", a=1)
    disabled = Cache(root=cache.root, enabled=False)
    disabled.store(STAGE, b"new", a=1)
    assert disabled.find(STAGE, a=1) is None
    assert cache.find(STAGE, a=1) == b"old"


def test_where_it_lies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """EDGEVIT_CACHE, else XDG_CACHE_HOME, else ~/.cache; an empty variable is none."""
    monkeypatch.setenv("EDGEVIT_CACHE", str(tmp_path / "own"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert default_cache_dir() == Cache().root == tmp_path / "own"
    monkeypatch.setenv("EDGEVIT_CACHE", "")
    assert default_cache_dir() == tmp_path / "xdg" / "edgevit"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert default_cache_dir() == tmp_path / "home" / ".cache" / "edgevit"


def test_least_recently_used_entries_go_first(cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of all stages together; what was found lately stays."""
    monkeypatch.setattr(cache_module, "LIMIT_BYTES", 3200)
    for age, name in enumerate("abc"):
        cache.store(Kind(f"stage-{name}", "edgevit.errors"), name.encode() * 1000, a=1)
        (path,) = (cache.root / f"stage-{name}").iterdir()
        os.utime(path, (1000 + age, 1000 + age))
    assert cache.find(Kind("stage-a", "edgevit.errors"), a=1) is not None
    cache.store(Kind("stage-d", "edgevit.errors"), b"d" * 1000, a=1)
    kept = {name for name in "abcd" if cache.find(Kind(f"stage-{name}", "edgevit.errors"), a=1) is not None}
    assert kept == {"a", "c", "d"}


def test_one_entry_over_the_limit_is_kept(cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else it would be computed for nothing."""
    monkeypatch.setattr(cache_module, "LIMIT_BYTES", 10)
    cache.store(STAGE, b"x" * 100, a=1)
    assert cache.find(STAGE, a=1) == b"x" * 100


def test_root_that_cannot_be_written(tmp_path: Path) -> None:
    """One line, once, that names the way out; nothing fails by it. A file in place of the folder stops even root."""
    (tmp_path / "file").write_text("")
    for root in (tmp_path / "file", tmp_path / "file" / "cache"):
        said: list[str] = []
        cache = Cache(root=root, note=said.append)
        cache.check()
        assert cache.find(STAGE, a=1) is None
        cache.store(STAGE, b"result", a=1)
        assert len(said) == 1
        assert str(root) in said[0]
        assert "EDGEVIT_CACHE" in said[0]
        assert "--no-cache" in said[0]


def test_a_user_without_a_home(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a container that runs under a number: there is no folder to guess, and that is a note, too."""

    def homeless() -> Path:
        msg = "Could not determine home directory."
        raise RuntimeError(msg)

    for name in ("EDGEVIT_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(Path, "home", homeless)
    said: list[str] = []
    Cache(note=said.append).check()
    assert len(said) == 1


def test_entry_in_a_read_only_cache_is_found(cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cache that is shared or mounted read-only can be read, though its entries' dates cannot be set."""

    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    cache.store(STAGE, b"result", a=1)
    monkeypatch.setattr(Path, "touch", refuse)
    monkeypatch.setattr(os, "utime", refuse)
    assert cache.find(STAGE, a=1) == b"result"


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), KeyboardInterrupt()])
def test_interrupted_store_leaves_nothing(cache: Cache, error: BaseException, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither an entry nor a part of one; the older entries stay."""
    cache.store(STAGE, b"older", a=0)

    def fail(*_: object) -> None:
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", fail)
        with nullcontext() if isinstance(error, OSError) else pytest.raises(KeyboardInterrupt):
            cache.store(STAGE, b"new", a=1)
    assert cache.find(STAGE, a=1) is None
    assert cache.find(STAGE, a=0) == b"older"
    assert len(entries(cache)) == 1


def test_what_a_killed_process_left_is_removed(cache: Cache) -> None:
    """An entry that somebody is still writing stays."""
    cache.store(STAGE, b"result", a=1)
    left = cache.root / "stage" / ".key.edgevit-abcdefgh"
    left.mkdir()
    (left / "file").write_bytes(b"half")
    with beside(cache.root / "stage" / "key") as folder:
        cache.store(STAGE, b"result", a=2)
        assert folder.exists()
    assert sorted(path.is_file() for path in (cache.root / "stage").iterdir()) == [True, True]


def test_a_home_in_the_variable(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Where no shell expanded it: a service, a notebook."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("EDGEVIT_CACHE", "~/kept")
    assert default_cache_dir() == tmp_path / "kept"


def test_two_that_trim_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What one has removed meanwhile is nothing to tell the other's user of."""
    monkeypatch.setattr(cache_module, "LIMIT_BYTES", 3000)
    said: list[str] = []

    def fill(first: int) -> None:
        cache = Cache(root=tmp_path, note=said.append)
        for number in range(first, first + 60):
            cache.store(STAGE, b"x" * 500, number=number)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(fill, range(0, 400, 100)))
    assert said == []
    assert sum(path.stat().st_size for path in tmp_path.glob("*/*")) <= 3000 + 4 * 532
