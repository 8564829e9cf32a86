"""What a process may still take, on file systems as kernels write them."""

from __future__ import annotations

import resource
from pathlib import Path

import pytest

from edgevit.device.memory import free_memory
from tests.device.boards import write

GIB = 2**30


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write(tmp_path / "proc/meminfo", f"MemTotal: {16 * GIB // 1024} kB\nMemAvailable: {8 * GIB // 1024} kB\n")
    return tmp_path


def test_nothing_is_told(tmp_path: Path) -> None:
    assert free_memory(tmp_path) is None


def test_here() -> None:
    found = free_memory()
    assert found is not None
    assert found > 0


def test_swap_on_a_disk_counts_and_compressed_memory_does_not(root: Path) -> None:
    assert free_memory(root) == 8 * GIB
    head = "Filename Type Size Used Priority\n"
    write(
        root / "proc/swaps", f"{head}/dev/zram0 partition {GIB // 1024} 0 5\n/swapfile file {2 * GIB // 1024} {GIB // 1024} -2\n"
    )
    assert free_memory(root) == 9 * GIB


@pytest.mark.parametrize(("line", "folder", "limit", "used"), [
    ("0::/user/me", "user/me", "memory.max", "memory.current"),
    ("0::/user/me", "user", "memory.max", "memory.current"),
    ("5:memory:/docker/1", "memory/docker/1", "memory.limit_in_bytes", "memory.usage_in_bytes"),
    ("5:memory:/docker/1", "memory", "memory.limit_in_bytes", "memory.usage_in_bytes"),
])  # fmt: skip
def test_control_groups_bound_it(root: Path, line: str, folder: str, limit: str, used: str) -> None:
    write(root / "proc/self/cgroup", f"4:cpu:/elsewhere\n{line}\n")
    group = root / "sys/fs/cgroup" / folder
    write(group / limit, f"{4 * GIB}\n")
    write(group / used, f"{3 * GIB}\n")
    assert free_memory(root) == GIB
    write(group / "memory.stat", f"anon {GIB}\ninactive_file {2 * GIB}\n")
    assert free_memory(root) == 3 * GIB
    write(group / limit, "max\n")
    assert free_memory(root) == 8 * GIB


def test_a_limit_of_addresses_bounds_it(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(root / "proc/self/status", f"Name: python\nVmSize:\t {GIB // 1024} kB\n")
    monkeypatch.setattr(resource, "getrlimit", lambda _kind: (3 * GIB, resource.RLIM_INFINITY))
    assert free_memory(root) == 2 * GIB
