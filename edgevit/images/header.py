"""What an image file says of itself in its first bytes: its kind and its size, before anything is decoded.

A few kilobytes can claim gigapixels, and a decoder believes them. The content decides, not the name: so do the decoders.
"""

from __future__ import annotations

import os
import re
import struct
from dataclasses import dataclass
from typing import BinaryIO

META = 1 << 16
"""Bytes in which a header without a fixed place is looked for."""
TAIL = 1 << 16
"""Bytes at the end of a file in which its end mark is looked for: some writers leave things behind it."""
NEAR = 1 << 9
"""Bytes at the end in which it is looked for first."""
ENTRIES = 1 << 16  # of a TIFF's lists: more than any scanner writes
TIFF_TAGS = (256, 257, 273, 279, 324, 325)  # width, height; offsets and lengths of strips, or of tiles
TIFF_WHOLE = {3: "H", 4: "I", 16: "Q"}
TIFF_BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}


@dataclass(frozen=True, kw_only=True)
class Header:
    """Kind and size, as claimed."""

    kind: str
    """``JPEG``, ``PNG``, ``BMP``, ``TIFF``, ``WebP``, ``PNM``, ``GIF``, ``JPEG 2000``, ``AVIF`` or ``HEIC``."""
    width: int
    height: int
    complete: bool
    """Whether the file reaches to its own end; where False, it may still be whole, and only decoding it tells."""


def read_header(stream: BinaryIO) -> Header | None:
    """The header of an image file that is open at its beginning, or None if it is none of the kinds known here.

    Reads a few hundred bytes at its beginning and at most `TAIL` at its end. Raises OSError if nothing can be read.
    """
    first = stream.read(40)
    size = os.fstat(stream.fileno()).st_size
    for matches, read in READERS:
        if matches(first):
            try:
                return read(stream, first, size)
            except (struct.error, ValueError, IndexError, OverflowError, OSError):  # OSError: a place that no file has
                return None
    return None


def _png(stream: BinaryIO, first: bytes, size: int) -> Header:
    width, height = struct.unpack(">II", first[16:24])
    return Header(kind="PNG", width=width, height=height, complete=_reaches(stream, size, b"IEND"))


def _jpeg(stream: BinaryIO, _first: bytes, size: int) -> Header | None:
    stream.seek(2)
    while True:
        mark = stream.read(1)
        while mark not in (b"\xff", b""):  # decoders skip what lies between segments
            mark = stream.read(1)
        while mark == b"\xff":
            mark = stream.read(1)
        if not mark or mark == b"\xd9":
            return None
        if mark in b"\x00\x01\xd0\xd1\xd2\xd3\xd4\xd5\xd6\xd7\xd8":  # without content
            continue
        (length,) = struct.unpack(">H", stream.read(2))
        if 0xC0 <= mark[0] <= 0xCF and mark not in b"\xc4\xc8\xcc":
            height, width = struct.unpack(">xHH", stream.read(5))
            complete = _reaches(stream, size, b"\xff\xd9", begin=b"\xff\xda")
            return Header(kind="JPEG", width=width, height=height, complete=complete)
        stream.seek(length - 2, os.SEEK_CUR)


def _bmp(_stream: BinaryIO, first: bytes, size: int) -> Header:
    offset, info = struct.unpack("<II", first[10:18])
    if info == 12:
        (width, height, _, bits), packed = struct.unpack("<HHHH", first[18:26]), 0
    else:
        width, height, _, bits, packed = struct.unpack("<iiHHI", first[18:34])
    width, height = abs(width), abs(height)
    needed = offset + (width * bits + 31) // 32 * 4 * height
    return Header(kind="BMP", width=width, height=height, complete=not packed and size >= needed)


def _webp(_stream: BinaryIO, first: bytes, size: int) -> Header | None:
    (length,) = struct.unpack("<I", first[4:8])
    form, complete = first[12:16], size >= length + 8
    if form == b"VP8X":
        width, height = (int.from_bytes(first[at : at + 3], "little") + 1 for at in (24, 27))
    elif form == b"VP8L":
        (bits,) = struct.unpack("<I", first[21:25])
        width, height = (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    elif form == b"VP8 ":
        width, height = (side & 0x3FFF for side in struct.unpack("<HH", first[26:30]))
    else:
        return None
    return Header(kind="WebP", width=width, height=height, complete=complete)


def _pnm(stream: BinaryIO, first: bytes, size: int) -> Header | None:
    stream.seek(0)
    text = stream.read(META)
    numbers = 2 if first[1:2] in b"14" else 3
    found = re.match(rb"P[1-6]" + rb"(?:\s+|#[^\r\n]*[\r\n])+(\d{1,9})" * numbers + rb"\s", text)
    if found is None:
        return None
    width, height = int(found[1]), int(found[2])
    row = {b"4": (width + 7) // 8, b"5": width, b"6": 3 * width}.get(first[1:2])
    if row is None:  # written as text, of any length
        return Header(kind="PNM", width=width, height=height, complete=False)
    deep = 2 if numbers == 3 and int(found[3]) > 255 else 1
    return Header(kind="PNM", width=width, height=height, complete=size >= found.end() + row * height * deep)


def _gif(stream: BinaryIO, first: bytes, size: int) -> Header:
    width, height = struct.unpack("<HH", first[6:10])
    return Header(kind="GIF", width=width, height=height, complete=_reaches(stream, size, b"\x3b"))


def _jpeg2000(stream: BinaryIO, _first: bytes, _size: int) -> Header:
    stream.seek(0)
    data = stream.read(META)
    at = data.index(b"ihdr")
    height, width = struct.unpack(">II", data[at + 4 : at + 12])
    return Header(kind="JPEG 2000", width=width, height=height, complete=False)


def _isobmff(stream: BinaryIO, _first: bytes, _size: int) -> Header | None:
    stream.seek(0)
    data = stream.read(META)
    kind = "AVIF" if b"avif" in data[8:64] or b"avis" in data[8:64] else "HEIC"
    # Tiles and thumbnails have sizes of their own: the largest counts.
    sizes = [struct.unpack(">II", data[found.end() + 4 : found.end() + 12]) for found in re.finditer(b"ispe", data)]
    if not sizes:
        return None
    width, height = max(sizes, key=lambda size: size[0] * size[1])
    return Header(kind=kind, width=width, height=height, complete=False)


def _tiff(stream: BinaryIO, first: bytes, size: int) -> Header | None:
    big = first[2:4] in (b"\x2b\0", b"\0\x2b")
    end, word, head = "<" if first[:2] == b"II" else ">", "Q" if big else "I", 12 if big else 8
    stream.seek(struct.unpack(end + word, first[8:16] if big else first[4:8])[0])
    (count,) = struct.unpack(end + ("Q" if big else "H"), stream.read(8 if big else 2))
    length = head + struct.calcsize(end + word)
    entries = stream.read(min(count, ENTRIES) * length)
    complete = len(entries) == count * length
    found: dict[int, tuple[int, ...]] = {}
    for at in range(0, len(entries) - length + 1, length):
        tag, kind, number = struct.unpack(f"{end}HH{word}", entries[at : at + head])
        value, room = entries[at + head : at + length], number * TIFF_BYTES.get(kind, 0)
        if room > len(value):  # it lies elsewhere
            (offset,) = struct.unpack(end + word, value)
            complete = complete and offset + room <= size
        if tag not in TIFF_TAGS or kind not in TIFF_WHOLE or number > ENTRIES:
            continue
        if room > len(value):
            stream.seek(offset)
            value = stream.read(room)
        found[tag] = struct.unpack(f"{end}{number}{TIFF_WHOLE[kind]}", value[:room])
    if 256 not in found or 257 not in found:
        return None
    parts = list(zip(found.get(273, found.get(324, ())), found.get(279, found.get(325, ())), strict=False))
    complete = complete and bool(parts) and all(offset + number <= size for offset, number in parts)
    return Header(kind="TIFF", width=found[256][0], height=found[257][0], complete=complete)


def _reaches(stream: BinaryIO, size: int, end: bytes, begin: bytes = b"") -> bool:
    """Whether the mark ``end`` is near the end of the file, and behind the last ``begin``."""
    for length in (NEAR, TAIL):  # nearly always at the very end
        stream.seek(max(0, size - length))
        tail = stream.read(length)
        if (at := tail.rfind(end)) >= 0:
            return at > tail.rfind(begin) if begin else True
    return False


# Found out by the first bytes, as every decoder does it.
READERS = (
    (lambda first: first.startswith(b"\xff\xd8\xff"), _jpeg),
    (lambda first: first.startswith(b"\x89PNG\r\n\x1a\n"), _png),
    (lambda first: first.startswith(b"BM"), _bmp),
    (lambda first: first.startswith((b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")), _tiff),
    (lambda first: first[:4] == b"RIFF" and first[8:12] == b"WEBP", _webp),
    (lambda first: re.match(rb"P[1-6]\s", first) is not None, _pnm),
    (lambda first: first.startswith((b"GIF87a", b"GIF89a")), _gif),
    (lambda first: first.startswith(b"\0\0\0\x0cjP  "), _jpeg2000),
    (lambda first: first[4:8] == b"ftyp", _isobmff),
)
