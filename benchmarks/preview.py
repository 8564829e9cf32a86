"""What viewers of the preview cost the loop: ``python benchmarks/preview.py BUNDLE [SECONDS]``.

Runs ``edgevit run`` on a 720p test pattern at 30 fps, with 0, 1, 8 and 32 viewers that read all they get, with 32 that read
nothing, and three times with one page without and with ``--attention rollout``; prints fps and latency as the run's own summary
has them. The viewers are threads of this script: on a small machine they compete for the processor, which real ones on other
machines do not.
"""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from contextlib import suppress
from typing import Any

COMMAND = "from edgevit.cli import main; main(prog_name='edgevit')"
SOURCE = "test://1280x720@30"
ROUNDS = [(0, True), (1, True), (8, True), (32, True), (32, False)]
ATTENTION = ("--attention", "rollout")


def watch(port: int, *, reads: bool, going: threading.Event) -> None:
    with socket.create_connection(("127.0.0.1", port)) as viewer:
        viewer.sendall(b"GET /stream HTTP/1.1\r\nHost: localhost\r\n\r\n")
        viewer.settimeout(0.5)
        while going.is_set():
            if not reads:
                time.sleep(0.1)
                continue
            try:
                if not viewer.recv(1 << 20):
                    return
            except TimeoutError:
                pass


def poll(port: int, *, going: threading.Event) -> None:
    """As the page does."""
    while going.is_set():
        with suppress(OSError):  # the run has ended
            urllib.request.urlopen(f"http://127.0.0.1:{port}/state").read()
        time.sleep(0.5)


def measure(bundle: str, viewers: int, *options: str, reads: bool, seconds: float) -> dict[str, Any]:
    arguments = ["run", bundle, SOURCE, "--headless", "--json", "--threads", "1", "--serve", "0", *options]
    command, pipe = [sys.executable, "-c", COMMAND, *arguments], subprocess.PIPE
    with subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True) as process:
        assert process.stderr is not None
        assert process.stdout is not None
        output = process.stdout
        port = int(process.stderr.readline().rstrip("/\n").rpartition(":")[2])
        lines: list[str] = []
        reader = threading.Thread(target=lambda: lines.extend(list(output)[-1:]))
        reader.start()
        going = threading.Event()
        going.set()
        threads = [threading.Thread(target=watch, args=(port,), kwargs={"reads": reads, "going": going}) for _ in range(viewers)]
        threads += [threading.Thread(target=poll, args=(port,), kwargs={"going": going}) for _ in range(viewers and 1)]
        for thread in threads:
            thread.start()
        time.sleep(seconds)
        process.send_signal(signal.SIGINT)
        reader.join()
        going.clear()
        for thread in threads:
            thread.join()
    return json.loads(lines[0])["summary"]


def main() -> None:
    bundle, seconds = sys.argv[1], float(sys.argv[2]) if len(sys.argv) > 2 else 5.0
    print(f"{'viewers':>16} {'fps':>7} {'dropped':>8} {'infer p50':>10} {'latency p50':>12} {'p99 ms':>8}")
    rounds = [(viewers, reads, ()) for viewers, reads in ROUNDS] + 3 * [(1, True, ()), (1, True, ATTENTION)]
    for viewers, reads, options in rounds:
        got = measure(bundle, viewers, *options, reads=reads, seconds=seconds)
        name = f"{viewers}{'' if reads else ', read nothing'}{', attention' if options else ''}"
        infer, latency = got["infer_ms"], got["latency_ms"]
        figures = f"{got['fps']:7.1f} {got['dropped']:8} {infer['p50']:10.2f} {latency['p50']:12.2f} {latency['p99']:8.2f}"
        print(f"{name:>16} {figures}", flush=True)


if __name__ == "__main__":
    main()
