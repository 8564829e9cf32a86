"""Peak memory and seconds of files that are small and claim much, each given to the command that reads it.

    python benchmarks/bombs.py BUNDLE MODEL

A command that is refused should take no more memory than one that is asked for its help: the first row.
"""

from __future__ import annotations

import argparse
import os
import struct
import subprocess
import sys
import tempfile
import time
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

MIB = 2**20
CHILD = "from edgevit.cli import main; main(prog_name='edgevit')"


def png(path: Path) -> None:
    """32,000 x 32,000 gray pixels in one valid file."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    side, packer = 32_000, zlib.compressobj(9)
    rows = b"".join(packer.compress(bytes(side + 1)) for _ in range(side)) + packer.flush()
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0))
                     + chunk(b"IDAT", rows) + chunk(b"IEND", b""))  # fmt: skip


def npz(path: Path) -> None:
    """133 million images of one pixel, which are zeros."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive, archive.open("images.npy", "w") as member:
        header = f"{{'descr': '|u1', 'fortran_order': False, 'shape': ({133_000_000}, 1, 1, 3), }}".ljust(117) + "\n"
        member.write(b"\x93NUMPY\1\0v\0" + header.encode())
        for _ in range(399):
            member.write(bytes(10**6))


def pt(path: Path) -> None:
    """One number that claims to be three thousand million."""
    import torch

    torch.save({"head.weight": torch.zeros(1).expand(3_000_000_000)}, path)


def toml(path: Path) -> None:
    """A key of fifty thousand parts."""
    path.write_text(".".join("a" * 50_000) + " = 1")


def nested(path: Path) -> None:
    """A list in a list in a list, two hundred thousand deep."""
    path.write_text("[" * 200_000)


def endless(path: Path) -> None:
    """A link to a device that never ends."""
    path.symlink_to("/dev/zero")


def resized(bundle: Path, out: Path) -> None:
    """A bundle that resizes frames to 60,000 x 60,000 before it crops them."""
    import json
    import shutil

    shutil.copytree(bundle, out)
    manifest = json.loads((out / "manifest.json").read_text())
    manifest["preprocessing"]["resize"] = [60_000, 60_000]
    (out / "manifest.json").write_text(json.dumps(manifest))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("model", type=Path, help="a checkpoint that edgevit reads")
    arguments = parser.parse_args()
    bundle, model = arguments.bundle.absolute(), arguments.model.absolute()
    built = ["build", model, "--dry-run", "--precision", "fp32"]
    makers: dict[str, tuple[Callable[[Path], None], str, Callable[[Path], list[object]]]] = {
        "image of 1,024 megapixels": (png, "x.png", lambda path: ["run", bundle, path, "--headless"]),
        "bundle that resizes to 60,000": (lambda path: resized(bundle, path), "x.edgevit",
                                          lambda path: ["run", path, "test://32x32?frames=1", "--headless"]),
        ".npz of 133 million images": (npz, "x.npz", lambda path: [*built, "--data", path]),
        ".pt of 12 GB in 4 bytes": (pt, "x.pt", lambda path: ["build", path, "--dry-run", "--precision", "fp32"]),
        "TOML key of 50,000 parts": (toml, "x.toml", lambda path: [*built, "--recipe", path]),
        "labels nested 200,000 deep": (nested, "x.json", lambda path: [*built, "--labels", path]),
        "labels from /dev/zero": (endless, "x.txt", lambda path: [*built, "--labels", path]),
    }  # fmt: skip
    print(f"{'file':<32}{'kB':>8}{'code':>6}{'seconds':>9}{'peak MiB':>10}")
    with tempfile.TemporaryDirectory() as folder:
        show("none: build of a good model", 0, built)
        show("none: run of a good bundle", 0, ["run", bundle, "test://32x32?frames=1", "--headless"])
        for name, (make, file, command) in makers.items():
            path = Path(folder) / file
            make(path)
            size = path.lstat().st_size if path.is_file() else 0
            show(name, size, command(path))


def show(name: str, size: int, command: list[object]) -> None:
    """Run ``command`` in a process of its own and print a row."""
    start = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-c", CHILD, *map(str, command)], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    assert process.stderr is not None
    said = process.stderr.read().decode().strip()
    _, status, usage = os.wait4(process.pid, 0)
    code = os.waitstatus_to_exitcode(status)
    print(
        f"{name:<32}{size / 1e3:>8.0f}{code:>6}{time.perf_counter() - start:>9.1f}{usage.ru_maxrss / 1024:>10.0f}  {said[-150:]}"
    )


if __name__ == "__main__":
    main()
