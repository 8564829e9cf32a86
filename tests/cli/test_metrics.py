"""``edgevit run --metrics`` with a real Prometheus, the alert rules and the dashboard of ``deploy/``."""

from __future__ import annotations

import importlib.util
import json
import re
import shutil
import signal
import socket
import subprocess
import threading
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.runtime.fakes import eventually
from tests.support import COMMAND, ROOT, built, python

DEPLOY = ROOT / "deploy"
ALERTS = DEPLOY / "prometheus" / "alerts.yml"
DASHBOARD = DEPLOY / "grafana" / "edgevit.json"
TOKEN = "token-of-mine"
UNTOLD = ("edgevit_power_watts", "edgevit_temperature_celsius", "edgevit_throttled", "edgevit_gpu_", "edgevit_cpu_")
"""What this machine may not tell; its names are exported all the same."""

needs_client = pytest.mark.skipif(
    importlib.util.find_spec("prometheus_client") is None, reason="needs the extra: pip install 'edgevit[metrics]'"
)
needs_prometheus = pytest.mark.skipif(
    not (shutil.which("prometheus") and shutil.which("promtool")), reason="needs Prometheus: apt-get install prometheus"
)


def get(url: str, token: str | None = None) -> str:
    """What lies at ``url``, of this machine."""
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {token}"} if token else {})
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=10) as answer:
        return answer.read().decode()


def reached(url: str) -> bool:
    try:
        get(url)
    except OSError:
        return False
    return True


@dataclass
class Scraped:
    """A run, and the Prometheus that scrapes it."""

    url: str
    api: str
    process: subprocess.Popen[str]
    last: list[str]
    """The last line that it printed, once it ended."""

    def ask(self, path: str, **query: str) -> Any:
        """``data`` of Prometheus' answer. Raises HTTPError for a query that is none."""
        answer = json.loads(get(f"{self.api}/{path}?{urllib.parse.urlencode(query)}"))
        assert answer["status"] == "success"
        assert not answer.get("warnings")
        return answer["data"]

    def query(self, expression: str) -> list[dict[str, Any]]:
        """The samples of ``expression`` now."""
        return self.ask("query", query=expression)["result"]

    def value(self, expression: str) -> float:
        """Of the one sample."""
        (sample,) = self.query(expression)
        return float(sample["value"][1])

    @property
    def alerts(self) -> list[dict[str, Any]]:
        """The rules, as Prometheus has them."""
        return self.ask("rules")["groups"][0]["rules"]

    @property
    def names(self) -> set[str]:
        """Of every series that the run's families can have."""
        found = set()
        for name, kind in re.findall(r"^# TYPE (\S+) (\S+)$", get(self.url, TOKEN), re.MULTILINE):
            found |= {f"{name}_{part}" for part in ("bucket", "sum", "count")} if kind == "histogram" else {name}
        return found


@contextmanager
def prometheus(folder: Path, target: str) -> Iterator[str]:
    """A Prometheus on loopback, with the configuration that is shipped but for target, token and pace."""
    text = (DEPLOY / "prometheus" / "prometheus.yml").read_text(encoding="utf-8")
    (folder / "token").write_text(TOKEN)
    for old, new in (
        ("127.0.0.1:9464", target),
        ("_interval: 15s", "_interval: 200ms"),
        ("    # authorization:", "    authorization:"),
        ("    #   credentials_file: /etc/prometheus/edgevit.token", f"      credentials_file: {folder}/token"),
    ):
        assert old in text
        text = text.replace(old, new)
    (folder / "prometheus.yml").write_text(text)
    shutil.copy(ALERTS, folder)
    with socket.create_server(("127.0.0.1", 0)) as free:
        own = f"127.0.0.1:{free.getsockname()[1]}"
    options = {"config.file": "prometheus.yml", "storage.tsdb.path": "data", "web.listen-address": own, "log.level": "error"}
    command = ["prometheus", *(f"--{name}={value}" for name, value in options.items())]
    with subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            eventually(lambda: reached(f"http://{own}/-/ready"), 30)
            yield f"http://{own}/api/v1"
        finally:
            process.terminate()


@pytest.fixture(scope="module")
def scraped(checkpoint_path: Path, image_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scraped]:
    """A run that a Prometheus has scraped a few times."""
    folder = tmp_path_factory.mktemp("metrics")
    bundle = built(checkpoint_path, folder, data=image_folder, features=True, unknown=True)
    options = [
        "--headless",
        "--threads",
        1,
        "--json",
        "--unknown",
        "auto",
        "--jsonl",
        folder / "a.jsonl",
        "--metrics-token",
        TOKEN,
    ]
    with python(COMMAND, "run", bundle, "test://64x48@30", *options, "--metrics", "127.0.0.1:0") as process:
        assert process.stdout is not None
        assert process.stderr is not None
        last: list[str] = []
        reader = threading.Thread(target=lambda: last.extend(list(process.stdout)[-1:]))
        reader.start()
        try:
            url = next(line for line in process.stderr if "metrics: " in line).partition("metrics: ")[2].strip()
            with prometheus(folder, urllib.parse.urlsplit(url).netloc) as api:
                scraped = Scraped(url, api, process, last)
                eventually(lambda: scraped.query("count_over_time(edgevit_frames_total[1m]) > 10"), 30)
                yield scraped
        finally:
            process.send_signal(signal.SIGINT)
            reader.join(20)
            process.kill()


def shown() -> list[str]:
    """Every query of the dashboard, as Grafana would send it."""
    panels = json.loads(DASHBOARD.read_text(encoding="utf-8"))["panels"]
    found = [target["expr"] for panel in panels for target in panel.get("targets", [])]
    return [each.replace("$instance", ".*").replace("$__rate_interval", "1m") for each in found]


def names(queries: list[str]) -> set[str]:
    """The metrics that they ask for."""
    return {name for each in queries for name in re.findall(r"\bedgevit_\w+", each)}


# --- with Prometheus -------------------------------------------------------------------------------------------------


@needs_client
@needs_prometheus
def test_prometheus_sees_the_run(scraped: Scraped) -> None:
    assert scraped.value("up") == 1
    assert scraped.value("rate(edgevit_frames_total[1m])") > 0
    assert scraped.value("edgevit_labels_total{label='unknown'}") >= scraped.value("edgevit_unknown_frames_total offset 1s")
    assert scraped.value("sum(edgevit_labels_total) == edgevit_frames_total".replace("== ", "== on () ")) > 0
    assert 0 < scraped.value("histogram_quantile(0.5, rate(edgevit_latency_seconds_bucket[1m]))") < 2
    assert 0 < scraped.value("rate(edgevit_typicality_sum[1m]) / rate(edgevit_typicality_count[1m])") <= 1
    assert abs(scraped.value("time() - edgevit_last_frame_timestamp_seconds")) < 5
    assert scraped.value("edgevit_output_sent_total") > 0
    (info,) = scraped.query("edgevit_build_info")
    assert info["metric"]["model"] == "tiny"
    assert re.fullmatch(r"[0-9a-f]{64}", info["metric"]["bundle"])


@needs_client
@needs_prometheus
def test_queries_ask_for_what_is_exported(scraped: Scraped) -> None:
    """And for all of it: what nobody looks at need not be there."""
    asked = names([*shown(), *(rule["query"] for rule in scraped.alerts)])
    assert asked <= scraped.names
    family = re.compile("_(bucket|sum|count)$")
    assert {family.sub("", name) for name in asked} == {family.sub("", name) for name in scraped.names}


@needs_client
@needs_prometheus
def test_dashboard_shows_something(scraped: Scraped) -> None:
    """Every query is one, and has an answer, but for what this machine does not tell."""
    empty = [each for each in shown() if not scraped.query(each)]
    assert [each for each in empty if not any(name in each for name in UNTOLD)] == []


@needs_client
@needs_prometheus
def test_alerts_are_loaded_and_a_run_that_is_well_fires_none(scraped: Scraped) -> None:
    eventually(lambda: all(rule["health"] != "unknown" for rule in scraped.alerts))
    assert sorted(rule["name"] for rule in scraped.alerts) == sorted(alerts())
    assert {rule["health"] for rule in scraped.alerts} == {"ok"}
    assert [rule["name"] for rule in scraped.alerts if rule["state"] == "firing"] == []


@needs_client
@needs_prometheus
def test_ended_run_says_the_same_and_is_missed(scraped: Scraped) -> None:
    """The last: it ends the run."""
    seen = scraped.value("edgevit_frames_total")
    scraped.process.send_signal(signal.SIGINT)
    assert scraped.process.wait(20) == 0
    eventually(lambda: scraped.last)
    summary = json.loads(scraped.last[0])["summary"]
    assert seen <= scraped.value("max_over_time(edgevit_frames_total[1m])") <= summary["frames"]
    assert summary["frames"] - seen < 300
    eventually(lambda: scraped.query("up == 0"))
    eventually(lambda: "EdgevitDown" in [rule["name"] for rule in scraped.alerts if rule["state"] == "pending"])


def alerts() -> list[str]:
    """The names of the rules in the file."""
    return re.findall(r"- alert: (\w+)", ALERTS.read_text(encoding="utf-8"))


@needs_prometheus
def test_rules_and_configuration_are_right_by_promtool() -> None:
    folder = DEPLOY / "prometheus"
    for arguments in (
        ["check", "config", "prometheus.yml"],
        ["check", "rules", "alerts.yml"],
        ["test", "rules", "alerts.test.yml"],
    ):
        outcome = subprocess.run(["promtool", *arguments], cwd=folder, capture_output=True, text=True, timeout=60)
        assert outcome.returncode == 0, outcome.stdout + outcome.stderr


def test_every_alert_has_a_test_of_its_own() -> None:
    tested = re.findall(r"- alertname: (\w+)", ALERTS.with_name("alerts.test.yml").read_text(encoding="utf-8"))
    assert sorted(alerts()) == sorted(set(tested))
    assert len(tested) > 10


# --- as typed --------------------------------------------------------------------------------------------------------


@needs_client
@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--metrics", "nowhere"], "--metrics 'nowhere' is no address: write HOST:PORT"),
        (["--metrics", "0.0.0.0:0"], "needs a token: set EDGEVIT_METRICS_TOKEN here"),
        (["--metrics", "0", "--metrics-token", "abc"], "--metrics-token: write at least 8 letters"),
        (["--metrics-token", "abcdefgh"], "--metrics-token goes with --metrics HOST:PORT"),
        (["--metrics", "8099", "--serve", "127.0.0.1:8099"], "the page of --serve is there, and has /metrics"),
    ],
)
def test_wrong_options_are_one_line(edgevit, bundle_path: Path, options: list[str], words: str) -> None:
    outcome = edgevit("run", bundle_path, "test://64x64?frames=3", "--headless", "--threads", 1, *options)
    assert outcome.code == 2
    assert words in outcome.stderr
    assert (outcome.stdout, len(outcome.stderr.splitlines())) == ("", 1)


def test_missing_package_is_one_line_and_the_page_does_without(edgevit_process, bundle_path: Path) -> None:
    outcome = edgevit_process(
        "run", bundle_path, "test://64x64?frames=3", "--headless", "--metrics", "0", without=("prometheus_client",)
    )
    assert outcome.code == 8
    assert "pip install 'edgevit[metrics]'" in outcome.stderr
    pytest.importorskip("uvicorn", reason="needs the extra: pip install 'edgevit[preview]'")
    outcome = edgevit_process(
        "run", bundle_path, "test://64x64?frames=3", "--headless", "--serve", "0", without=("prometheus_client",)
    )
    assert outcome.code == 0, outcome.stderr


@needs_client
def test_page_of_a_run_has_its_metrics(bundle_path: Path) -> None:
    arguments = ["run", bundle_path, "test://64x48@30", "--headless", "--threads", 1, "--serve", "127.0.0.1:0"]
    with python(COMMAND, *arguments) as process:
        assert process.stderr is not None
        url = next(line for line in process.stderr if "preview: " in line).partition("preview: ")[2].strip()
        eventually(lambda: int(float(re.findall(r"^edgevit_frames_total (\S+)", get(f"{url}metrics"), re.MULTILINE)[0])) > 2)
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=30)
    assert process.returncode == 0
