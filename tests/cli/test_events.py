"""Commands for events that came in: what failed, another try, the figures."""

from datetime import UTC, datetime
from pathlib import Path

import orjson
import pytest
from typer.testing import CliRunner

from bespoke.clock import to_ms
from bespoke.events import Event
from cli.main import app
from storage.eventlog import open_event_log
from storage.quality import CountKey, FailedEvent, QualityStore, hour_of
from storage.settings import Settings

NOW_MS = to_ms(datetime.now(UTC))


@pytest.fixture(autouse=True)
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Return an installation with one failed event and a few counts."""
    monkeypatch.setenv("BESPOKE_HOME", str(tmp_path / "var"))
    settings = Settings()
    message = {"type": "track", "event": "Signed Up", "messageId": "m1", "userId": "u1"}
    failed = FailedEvent(NOW_MS, "shop", "event", "event: got [x]", None, None, "u1", orjson.dumps(message))
    counts = {
        CountKey(hour_of(NOW_MS), "shop", "track", "Signed Up", what): n
        for what, n in {"accepted": 4, "rejected:event": 1, "delay:100": 4, "duplicate": 2}.items()
    }
    with QualityStore(settings.quality_url) as store:
        store.write(counts, [failed], now_ms=NOW_MS)
    return settings


def run(*arguments: str) -> str:
    result = CliRunner().invoke(app, ["events", *arguments])
    assert result.exit_code == 0, result.output
    return result.output


def test_failed_events_are_shown_by_reason_with_examples() -> None:
    shown = orjson.loads(run("failed", "--json"))
    assert shown["failed"] == 1
    assert shown["reasons"] == [{"reason": "event", "source": "shop", "events": 1}]
    assert (shown["events"][0]["message_id"], shown["events"][0]["message"]["userId"]) == ("m1", "u1")
    assert "event: got [x]" in run("failed", "--since", "24h")
    assert "no failed events" in run("failed", "--source", "app")


def test_a_replay_brings_in_what_is_good_and_says_what_it_did(settings: Settings) -> None:
    assert "1 events would be replayed" in run("replay", "--dry-run")
    assert orjson.loads(run("replay", "--json")) == {"replayed": 1, "left": 0, "reasons": {}, "dry_run": False}
    assert "0 events replayed" in run("replay")
    log = open_event_log(settings.log_url)
    payloads = [record.payload for n in range(log.partitions) for record in log.read(n, offset=0, limit=9)]
    log.close()
    assert [(event.message_id, event.source) for event in map(Event.from_payload, payloads)] == [("m1", "shop")]


def test_the_quality_is_a_table_and_json() -> None:
    (row,) = orjson.loads(run("quality", "--json"))
    assert (row["source"], row["name"], row["accepted"], row["rejected"]) == ("shop", "Signed Up", 4, {"event": 1})
    assert (row["duplicates"], row["delay_median_ms"], row["volume"]["ratio"]) == (2, 50.0, None)
    assert "Signed Up" in run("quality", "--since", "7d")
