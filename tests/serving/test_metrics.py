"""What Prometheus reads: usual names, bounded labels, every process of a machine; and a dashboard that asks for it."""

import logging
import re
import subprocess
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest
from fastapi import FastAPI
from prometheus_client.parser import text_string_to_metric_families

from bespoke.clock import FixedClock
from serving.applications import create_collector
from serving.buffered import WriterCounts
from serving.logs import JsonLines
from serving.metrics import MAX_CHILDREN, OTHER, Metrics, clear
from storage.settings import Settings

DASHBOARD = Path(__file__).resolve().parents[2] / "monitoring" / "grafana" / "bespoke.json"
ClientOf = Callable[[FastAPI], AbstractContextManager[httpx.Client]]
Samples = dict[tuple[str, tuple[str, ...]], float]


def samples(scrape: bytes) -> Samples:
    """Return the values of a scrape by name and label values, labels in the order of their names."""
    families = text_string_to_metric_families(scrape.decode())
    return {
        (sample.name, tuple(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in families
        for sample in family.samples
    }


def counted(metrics: Metrics) -> None:
    """Count one of everything."""
    metrics.requests("/api/v1/recommendations", "POST", 200, 0.012)
    metrics.in_flight(3, 17)
    metrics.refused("overloaded")
    metrics.recommendation("treatment", "als@1", None, experiment="hero")
    metrics.stage("rank", 0.002)
    metrics.skipped("diversify")
    metrics.rule("pin tea", 2, 0.25)
    metrics.model("champion", "als@2", "als@1", ok=False)
    metrics.exposures(WriterCounts(written=7, dropped=1, waiting=2))
    metrics.events_accepted("track", 5)
    metrics.events_rejected("timestamp")
    metrics.profile_age(1.5)


def test_dashboard_asks_only_for_what_a_scrape_has() -> None:
    metrics = Metrics("recommender")
    counted(metrics)
    there = {name for name, _ in samples(metrics.scrape())}
    panels = [panel for panel in orjson.loads(DASHBOARD.read_bytes())["panels"] if panel["type"] != "row"]
    asked = [target["expr"] for panel in panels for target in panel["targets"]]
    names = {name for expression in asked for name in re.findall(r"\b(?:http|bespoke)_\w+", expression)}
    assert names <= there
    # And the other way round: nothing is counted that nobody sees.
    beside = re.compile("_(bucket|sum|count)$")
    assert {beside.sub("", name) for name in there if not name.endswith("_created")} == {
        beside.sub("", name) for name in names
    }


def test_dashboard_has_the_form_that_grafana_imports() -> None:
    dashboard = orjson.loads(DASHBOARD.read_bytes())
    assert [variable["type"] for variable in dashboard["templating"]["list"]] == ["datasource"]
    panels = dashboard["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    for panel in panels:
        place = panel["gridPos"]
        assert place["x"] >= 0 and place["x"] + place["w"] <= 24
        if panel["type"] != "row":
            assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
            assert panel["title"] and panel["description"]
            assert all(target["expr"].count("(") == target["expr"].count(")") for target in panel["targets"])


def test_labels_are_bounded_whatever_comes() -> None:
    metrics = Metrics("recommender")
    for n in range(3 * MAX_CHILDREN):
        metrics.rule(f"rule {n}", 1, 0.0)
        metrics.requests("none", f"M{n}", 405, 0.0)
    found = samples(metrics.scrape())
    assert sum(name == "bespoke_rule_applied_total" for name, _ in found) == MAX_CHILDREN + 1
    assert found["bespoke_rule_applied_total", (OTHER,)] == 2 * MAX_CHILDREN
    assert found["http_requests_total", ("recommender", OTHER, "none", "405")] == 3 * MAX_CHILDREN


def test_pointer_that_moves_leaves_nothing_of_where_it_was() -> None:
    metrics = Metrics("recommender")
    metrics.model("champion", "als@1", "als@1", ok=True)
    metrics.model("champion", "als@2", "als@1", ok=False)
    metrics.model("champion", "als@2", "als@2", ok=True)
    found = samples(metrics.scrape())
    assert {labels: value for (name, labels), value in found.items() if name == "bespoke_model_info" and value} == {
        ("als@2", "champion", "als@2"): 1
    }
    assert found["bespoke_model_ok", ("champion",)] == 1


def test_exposures_are_counted_once_however_often_they_are_looked_at() -> None:
    metrics = Metrics("recommender")
    for written in (3, 3, 10):
        metrics.exposures(WriterCounts(written=written, dropped=0, waiting=written))
    found = samples(metrics.scrape())
    assert (found["bespoke_exposures_written_total", ()], found["bespoke_exposures_waiting", ()]) == (10, 10)


PROCESS = """
import sys
from pathlib import Path
from serving.metrics import Metrics
metrics = Metrics("recommender", folder=Path(sys.argv[1]))
metrics.requests("/", "GET", 200, 0.01)
metrics.in_flight(1, 10)
metrics.model("champion", "als@1", "als@1", ok=True)
print(metrics.scrape().decode() if len(sys.argv) == 3 else "", flush=True)
sys.stdin.read()
"""


def process(folder: Path, *arguments: str) -> "subprocess.Popen[str]":
    command = [sys.executable, "-c", PROCESS, str(folder), *arguments]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def test_any_process_answers_for_all_and_remembers_what_dead_ones_counted(tmp_path: Path) -> None:
    with process(tmp_path) as one, process(tmp_path) as killed:
        for started in (one, killed):
            assert started.stdout is not None and started.stdout.readline() == "\n"
        killed.kill()
        killed.wait()
        with process(tmp_path, "scrape") as other:
            found = samples(other.communicate()[0].encode())
    assert found["http_requests_total", ("recommender", "GET", "/", "200")] == 3
    assert found["http_requests_in_flight", ("recommender",)] == 2
    assert found["bespoke_model_info", ("als@1", "champion", "als@1")] == 2
    clear(tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.fixture
def counting(settings: Settings, now: datetime) -> FastAPI:
    """Return a collector's application."""
    return create_collector(settings, clock=FixedClock(now))


def test_scrape_names_routes_as_they_are_declared(
    counting: FastAPI, client_of: ClientOf, new_key: Callable[[str], str]
) -> None:
    key = new_key("metrics")
    event = {"userId": "alice", "event": "Product Viewed", "messageId": "1", "properties": {"product_id": "tea"}}
    with client_of(counting) as client:
        assert client.post("/v1/track", json=event, auth=(new_key("ingest"), "")).is_success
        client.get("/alice/secret")
        found = samples(client.get("/metrics", auth=(key, "")).content)
        assert client.get("/metrics").status_code == 401
    assert found["http_requests_total", ("collector", "POST", "/v1/track", "200")] == 1
    assert found["http_requests_total", ("collector", "GET", "none", "404")] == 1
    assert found["bespoke_events_accepted_total", ("track",)] == 1
    assert not any("alice" in label for _, labels in found for label in labels)


class Lines(logging.Handler):
    """Keeps what would be written."""

    def __init__(self) -> None:
        super().__init__()
        self.setFormatter(JsonLines())
        self.lines: list[dict[str, Any]] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(orjson.loads(self.format(record)))


def test_log_lines_tell_of_requests_and_of_nobody(
    counting: FastAPI, client_of: ClientOf, new_key: Callable[[str], str], caplog: pytest.LogCaptureFixture
) -> None:
    lines = Lines()
    event = {"userId": "alice", "event": "Bought For alice@example.org", "messageId": "m-alice"}
    with caplog.at_level(logging.DEBUG, "serving"), client_of(counting) as client:
        logging.getLogger("serving").addHandler(lines)
        try:
            client.post("/v1/track?email=alice@example.org", json=event, auth=(new_key("ingest"), ""))
            client.post("/v1/batch", json={"alice": 1}, headers={"X-Request-Id": "mine"}, auth=(new_key("ingest"), ""))
            client.get("/alice")
        finally:
            logging.getLogger("serving").removeHandler(lines)
    told = [line for line in lines.lines if line["message"] == "request"]
    assert [(line["route"], line["status"]) for line in told] == [("/v1/track", 200), ("/v1/batch", 400), ("none", 404)]
    assert told[1]["request_id"] == "mine"
    assert all({"time", "level", "logger", "method", "duration_ms", "request_id"} <= line.keys() for line in told)
    assert "alice" not in repr(lines.lines)


def test_log_line_of_an_error_says_where_and_not_what() -> None:
    try:
        raise ValueError("alice" + "@example.org")
    except ValueError:
        record = logging.LogRecord("serving", logging.ERROR, "file", 1, "failed", (), sys.exc_info())
    line = orjson.loads(JsonLines().format(record))
    assert (line["error"], line["level"], line["message"]) == ("ValueError", "error", "failed")
    assert "test_metrics.py" in line["at"] and "alice@" not in repr(line)
