"""What viewers of the preview cost the loop: ``python benchmarks/preview.py BUNDLE [SECONDS]``.

Runs ``edgevit run`` on a 720p test pattern at 30 fps, with 0, 1, 8 and 32 viewers that read all they get, and with 32 that read
nothing; prints fps and latency as the run's own summary has them. The viewers are threads of this script: on a small machine
they compete for the processor, which real ones on other machines do not.
"""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import threading
import time

COMMAND = "from edgevit.cli import main; main(prog_name='edgevit')"
SOURCE = "test://1280x720@30"
ROUNDS = [(0, True), (1, True), (8, True), (32, True), (32, False)]


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


def measure(bundle: str, viewers: int, *, reads: bool, seconds: float) -> dict:
    arguments = ["run", bundle, SOURCE, "--headless", "--json", "--threads", "1", "--serve", "0"]
    command, pipe = [sys.executable, "-c", COMMAND, *arguments], subprocess.PIPE
    with subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True) as process:
        port = int(process.stderr.readline().rstrip("/\n").rpartition(":")[2])
        lines: list[str] = []
        reader = threading.Thread(target=lambda: lines.extend(list(process.stdout)[-1:]))
        reader.start()
        going = threading.Event()
        going.set()
        threads = [threading.Thread(target=watch, args=(port,), kwargs={"reads": reads, "going": going}) for _ in range(viewers)]
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
    for viewers, reads in ROUNDS:
        got = measure(bundle, viewers, reads=reads, seconds=seconds)
        name = f"{viewers}{'' if reads else ', read nothing'}"
        infer, latency = got["infer_ms"], got["latency_ms"]
        figures = f"{got['fps']:7.1f} {got['dropped']:8} {infer['p50']:10.2f} {latency['p50']:12.2f} {latency['p99']:8.2f}"
        print(f"{name:>16} {figures}", flush=True)


if __name__ == "__main__":
    main()
