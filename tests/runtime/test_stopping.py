"""The first Ctrl-C ends the run, the second the process, even where Python does not get to run."""

from __future__ import annotations

import signal
import time

import pytest

from tests.support import python

HANGS = """
import sys, time
from edgevit.runtime.stopping import stoppable
with stoppable():
    try:
        print("ready", flush=True)
        time.sleep(60)
    except KeyboardInterrupt:
        print("interrupted", flush=True)
    if sys.argv[1] == "exit":
        while True:
            try:
                time.sleep(60)
            except KeyboardInterrupt:
                pass
print("done", flush=True)
"""
# A lock that is never freed: signals do not end the call, as in a driver, and the GIL is free, as under an engine.
IN_C = """
import ctypes
from edgevit.runtime.stopping import stoppable
libc = ctypes.CDLL(None)
lock = ctypes.create_string_buffer(64)
libc.pthread_mutex_init(lock, None)
libc.pthread_mutex_lock(lock)
with stoppable():
    print("ready", flush=True)
    libc.pthread_mutex_lock(lock)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_first_signal_interrupts(number: signal.Signals) -> None:
    with python(HANGS, "once") as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(number)
        assert process.communicate(timeout=20) == ("interrupted\ndone\n", "")
    assert process.returncode == 0


def test_second_signal_ends_what_hangs_on_the_way_out() -> None:
    with python(HANGS, "exit") as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGINT)
        assert process.stdout.readline() == "interrupted\n"
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=20)
    assert process.returncode == 128 + signal.SIGTERM


def test_second_signal_ends_a_call_that_never_returns() -> None:
    with python(IN_C) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        time.sleep(0.3)  # into the call
        process.send_signal(signal.SIGINT)
        time.sleep(0.3)
        assert process.poll() is None
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=20)
    assert process.returncode == 128 + signal.SIGINT
