"""A conversation with another program, of which no more is kept than can be an answer: a host may say anything, for ever."""

from __future__ import annotations

import os
import selectors
import subprocess
import time
from contextlib import suppress

MOST_BYTES = 16 * 2**20
"""Of what a program says on either output; the longest answer, a report of doctor, has a few kB."""
_CHUNK = 2**16


class FloodError(Exception):
    """The program said more than `MOST_BYTES`."""


def communicate(process: subprocess.Popen[str], text: str, seconds: float | None) -> tuple[str, str]:
    """As `subprocess.Popen.communicate`, with ``text`` as input, but for the bound; the process has ended then.

    Raises subprocess.TimeoutExpired after ``seconds``, with the process alive; FloodError, with the process killed.
    """
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    end = None if seconds is None else time.monotonic() + seconds
    left, heard = memoryview(text.encode()), {process.stdout: bytearray(), process.stderr: bytearray()}
    with selectors.DefaultSelector() as open_ends:
        for stream in heard:
            open_ends.register(stream, selectors.EVENT_READ)
        os.set_blocking(process.stdin.fileno(), False)
        open_ends.register(process.stdin, selectors.EVENT_WRITE)
        while open_ends.get_map():
            for key, _ in open_ends.select(_remaining(process, end)):
                if key.fileobj is process.stdin:
                    left = _told(process, left)
                    done = not left
                else:
                    said = os.read(key.fd, _CHUNK)
                    found = heard[key.fileobj]  # type: ignore[index]  # one of the two that were registered
                    found += said
                    done = not said
                    if len(found) > MOST_BYTES:
                        process.kill()
                        process.wait()
                        raise FloodError
                if done:
                    open_ends.unregister(key.fileobj)
                    with suppress(BrokenPipeError):
                        key.fileobj.close()  # type: ignore[union-attr]  # a stream of the process
    process.wait(_remaining(process, end))
    out, err = (found.decode(errors="replace").replace("\r\n", "\n") for found in heard.values())
    return out, err


def _told(process: subprocess.Popen[str], text: memoryview) -> memoryview:
    """What is left to tell of ``text``; nothing, if the program does not listen any more."""
    assert process.stdin is not None
    try:
        return text[os.write(process.stdin.fileno(), text[:_CHUNK]) :]
    except BlockingIOError:
        return text
    except BrokenPipeError:
        return text[:0]


def _remaining(process: subprocess.Popen[str], end: float | None) -> float | None:
    if end is None:
        return None
    if (left := end - time.monotonic()) <= 0:
        raise subprocess.TimeoutExpired(process.args, 0)
    return left
