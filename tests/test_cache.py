"""Stage results kept by content: found when nothing changed, made again when anything did or an entry is damaged."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from edgevit import cache as cache_module
from edgevit.cache import Cache, default_cache_dir
from edgevit.errors import StorageError
from edgevit.writing import beside


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(root=tmp_path / "cache")


class Work:
    """A stage that counts how often it runs."""

    def __init__(self, result: bytes = b"result") -> None:
        self.result, self.runs = result, 0

    def __call__(self) -> bytes:
        self.runs += 1
        return self.result


def entries(cache: Cache) -> list[Path]:
    return [path for path in cache.root.rglob("*") if path.is_file()]


def test_same_inputs_are_computed_once(cache: Cache) -> None:
    work = Work()
    assert [cache.get("stage", work, weights="w", size=(2, 3)) for _ in range(3)] == [b"result"] * 3
    assert work.runs == 1
    assert Cache(root=cache.root).find("stage", size=(2, 3), weights="w") == b"result"


@pytest.mark.parametrize("inputs", [{}, {"a": 2}, {"a": "1"}, {"a": 1, "b": None}, {"a": [1]}, {"b": 1}])
def test_any_other_input_is_a_miss(cache: Cache, inputs: dict) -> None:
    cache.store("stage", b"result", a=1)
    assert cache.find("stage", a=1) == b"result"
    assert cache.find("stage", **inputs) is None
    assert cache.find("other", a=1) is None


@pytest.mark.parametrize("result", [b"", b"\0" * 100_000])
def test_any_bytes_can_be_kept(cache: Cache, result: bytes) -> None:
    cache.store("stage", result, a=1)
    assert cache.find("stage", a=1) == result


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
    work = Work(b"r" * 100)
    cache.get("stage", work, a=1)
    (path,) = entries(cache)
    path.write_bytes(damage(path.read_bytes()))
    assert cache.find("stage", a=1) is None
    assert cache.get("stage", work, a=1) == b"r" * 100
    assert work.runs == 2
    assert cache.find("stage", a=1) == b"r" * 100


def test_disabled_cache_neither_finds_nor_keeps(cache: Cache) -> None:
    """--no-cache"""
    cache.store("stage", b"old", a=1)
    disabled, work = Cache(root=cache.root, enabled=False), Work(b"new")
    assert [disabled.get("stage", work, a=1) for _ in range(2)] == [b"new"] * 2
    assert work.runs == 2
    assert disabled.find("stage", a=1) is None
    assert cache.find("stage", a=1) == b"old"


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
        cache.store(f"stage-{name}", name.encode() * 1000, a=1)
        (path,) = (cache.root / f"stage-{name}").iterdir()
        os.utime(path, (1000 + age, 1000 + age))
    assert cache.find("stage-a", a=1) is not None
    cache.store("stage-d", b"d" * 1000, a=1)
    kept = {name for name in "abcd" if cache.find(f"stage-{name}", a=1) is not None}
    assert kept == {"a", "c", "d"}


def test_one_entry_over_the_limit_is_kept(cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else it would be computed for nothing."""
    monkeypatch.setattr(cache_module, "LIMIT_BYTES", 10)
    cache.store("stage", b"x" * 100, a=1)
    assert cache.find("stage", a=1) == b"x" * 100


def test_root_that_cannot_be_written(tmp_path: Path) -> None:
    """One line that names the way out. A file in place of the folder stops even root."""
    (tmp_path / "file").write_text("")
    for root in (tmp_path / "file", tmp_path / "file" / "cache"):
        cache = Cache(root=root)
        assert cache.find("stage", a=1) is None
        with pytest.raises(StorageError, match="EDGEVIT_CACHE"):
            cache.store("stage", b"result", a=1)


def test_entry_in_a_read_only_cache_is_found(cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cache that is shared or mounted read-only can be read, though its entries' dates cannot be set."""

    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    cache.store("stage", b"result", a=1)
    monkeypatch.setattr(Path, "touch", refuse)
    monkeypatch.setattr(os, "utime", refuse)
    assert cache.find("stage", a=1) == b"result"


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), KeyboardInterrupt()])
def test_interrupted_store_leaves_nothing(cache: Cache, error: BaseException, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither an entry nor a part of one; the older entries stay."""
    cache.store("stage", b"older", a=0)

    def fail(*_: object) -> None:
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", fail)
        with pytest.raises(StorageError if isinstance(error, OSError) else KeyboardInterrupt):
            cache.store("stage", b"new", a=1)
    assert cache.find("stage", a=1) is None
    assert cache.find("stage", a=0) == b"older"
    assert len(entries(cache)) == 1


def test_interrupted_stage_stores_nothing(cache: Cache) -> None:
    def interrupted() -> bytes:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cache.get("stage", interrupted, a=1)
    assert not cache.root.exists()


def test_what_a_killed_process_left_is_removed(cache: Cache) -> None:
    """An entry that somebody is still writing stays."""
    cache.store("stage", b"result", a=1)
    left = cache.root / "stage" / ".key.edgevit-abcdefgh"
    left.mkdir()
    (left / "file").write_bytes(b"half")
    with beside(cache.root / "stage" / "key") as folder:
        cache.store("stage", b"result", a=2)
        assert folder.exists()
    assert sorted(path.is_file() for path in (cache.root / "stage").iterdir()) == [True, True]


def test_a_home_in_the_variable(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Where no shell expanded it: a service, a notebook."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("EDGEVIT_CACHE", "~/kept")
    assert default_cache_dir() == tmp_path / "kept"
