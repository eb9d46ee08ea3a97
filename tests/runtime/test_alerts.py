"""From what happened to what is done: a look measures, alerts, and asks for jobs that change traffic."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest

from bespoke.clock import DAY_MS, HOUR_MS, to_ms
from bespoke.errors import NotFound
from bespoke.events import RECOMMENDATION_SERVED, Event, EventType, ItemId, MessageId, lines_of
from bespoke.experiments import parse_state
from bespoke.models.base import Interactions
from bespoke.models.bundle import Window
from bespoke.models.popularity import Popularity
from bespoke.models.verdict import Verdict
from bespoke.profiles import Profile, Recent, to_row
from runtime.alerts import look
from runtime.experiments import put_in_force, stop
from runtime.jobs import run_job
from runtime.reports import observe_drift
from storage.bundles import BundleStore
from storage.control import ControlStore
from storage.lake import Lake
from storage.reference import feature_table
from storage.settings import Settings
from training.publish import About, publish

AT = datetime(2026, 3, 1, 12, tzinfo=UTC)
HERO = """
[hero]
salt = "hero-1"
variants = [{ name = "old", share = 0.5 }, { name = "new", share = 0.5, pipeline = "diverse" }]
"""
METRICS = '[conversion]\nkind = "conversion"\nevent = "purchase"\n'
ALERTS = """
[alert.worse]
metric = "variant_worse"
above = 0
action = { job = "stop_variant" }

[alert.split]
metric = "sample_ratio"
above = 0

[alert.stale]
metric = "monitoring_age_h"
above = 48

[alert.drift]
metric = "drift"
subject = ""
above = 0
action = { job = "retrain", models = ["buy_again"], promote = "challenger" }
"""


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    config = tmp_path / "config"
    config.mkdir()
    for name, text in (("experiments", HERO), ("metrics", METRICS), ("alerts", ALERTS)):
        (config / f"{name}.toml").write_text(text)
    return Settings(home=tmp_path / "var", config_dir=config)


def live(settings: Settings, *, rates: Sequence[float], n: int = 6_000, share: float = 0.5) -> None:
    """Have people be shown the variants for a day, and buy at these rates."""
    put_in_force(settings, at=AT)
    random = np.random.default_rng(0)
    events: list[Event] = []
    for number in range(n):
        variant, at_ms = int(random.random() < share), to_ms(AT) + int(random.integers(DAY_MS))
        shown = {"experiment": "hero", "variant": ("old", "new")[variant], "phase": 1, "override": False}
        told: list[tuple[str, int, dict[str, Any]]] = [
            (RECOMMENDATION_SERVED, at_ms, {"recommendation_id": f"r{number}", "assignments": [shown]})
        ]
        if random.random() < rates[variant]:
            told.append(("Order Completed", at_ms + HOUR_MS, {"products": [{"product_id": "milk", "price": 2.0}]}))
        for name, when, properties in told:
            id, lines = MessageId(f"m{len(events)}"), lines_of(EventType.TRACK, name, properties)
            events.append(Event(id, EventType.TRACK, name, f"u{number}", None, when, when, properties, lines=lines))
    Lake(settings.lake_dir).write_events(0, 0, len(events), events)


def shares(settings: Settings) -> dict[str, float]:
    with ControlStore(settings.control_url) as control:
        return parse_state("hero", control.experiment("hero")).phases[-1].shares


def waiting(settings: Settings) -> list[tuple[str, Any]]:
    with ControlStore(settings.control_url) as control:
        return [(job.kind, job.arguments.get("subject")) for job in control.list_jobs()]


def test_a_worse_variant_is_found_told_and_stopped(settings: Settings) -> None:
    live(settings, rates=(0.30, 0.22))
    later = AT + timedelta(days=2)
    assert look(settings, at=later)["on"] == ["worse/hero/new"]
    assert waiting(settings) == [("stop_variant", "hero/new")]
    # The next look finds it still on, and does not ask again.
    assert look(settings, at=later + timedelta(minutes=5))["on"] == []
    assert len(waiting(settings)) == 1
    run_job(settings, "stop_variant", {"subject": "hero/new", "because": "worse"}, at=later)
    assert shares(settings) == {"old": 1.0, "new": 0.0}


def test_equal_variants_are_left_alone(settings: Settings) -> None:
    live(settings, rates=(0.25, 0.25))
    assert look(settings, at=AT + timedelta(days=2))["on"] == []
    assert waiting(settings) == []


def test_a_broken_split_is_told_and_stops_nothing(settings: Settings) -> None:
    live(settings, rates=(0.30, 0.22), share=0.4)
    assert look(settings, at=AT + timedelta(days=2))["on"] == ["split/hero"]
    assert waiting(settings) == []


def test_traffic_can_be_given_and_taken_by_jobs(settings: Settings) -> None:
    put_in_force(settings, at=AT)
    run_job(settings, "ramp_up", {"subject": "hero/new"}, at=AT + timedelta(days=1))
    assert shares(settings) == {"old": pytest.approx(0.05), "new": pytest.approx(0.95)}
    with pytest.raises(NotFound, match="no variant 'gone' that answers; there are: old, new"):
        run_job(settings, "stop_variant", {"subject": "hero/gone"}, at=AT + timedelta(days=1))
    with pytest.raises(NotFound, match="no experiment 'x' is in force"):
        run_job(settings, "stop_variant", {"subject": "x/y"}, at=AT + timedelta(days=1))


def test_only_what_names_the_failing_version_is_rolled_back_and_once(settings: Settings) -> None:
    with ControlStore(settings.control_url) as control:
        for pointer, versions in (("champion", ("als@1", "als@2", "als@3")), ("challenger", ("blend@1", "blend@2"))):
            for version in versions:
                control.set_pointer(pointer, version, by="ada", reason="", at=AT)
        assert run_job(settings, "roll_back", {"subject": "blend@2"}, at=AT) == {"challenger": "blend@1"}
        assert run_job(settings, "roll_back", {"subject": "als@3"}, at=AT) == {"champion": "als@2"}
        # Asked again, or after the guard was faster, nothing names it any more.
        assert run_job(settings, "roll_back", {"subject": "als@3"}, at=AT) == {}
        assert control.pointers() == {"champion": "als@2", "challenger": "blend@1"}


def test_stopping_twice_is_one_phase_and_ends_the_alert(settings: Settings) -> None:
    live(settings, rates=(0.30, 0.22))
    later = AT + timedelta(days=2)
    assert look(settings, at=later)["on"] == ["worse/hero/new"]
    for _ in range(2):
        run_job(settings, "stop_variant", {"subject": "hero/new"}, at=later)
    with ControlStore(settings.control_url) as control:
        assert len(parse_state("hero", control.experiment("hero")).phases) == 2
    assert look(settings, at=later + timedelta(minutes=5))["off"] == ["worse/hero/new"]


def test_alerts_of_an_ended_experiment_go_off(settings: Settings) -> None:
    live(settings, rates=(0.30, 0.22))
    assert look(settings, at=AT + timedelta(days=2))["on"] == ["worse/hero/new"]
    stop(settings, "hero", by="ada", at=AT + timedelta(days=2))
    assert look(settings, at=AT + timedelta(days=3))["off"] == ["worse/hero/new"]


def test_a_mistake_in_the_metrics_is_said_and_the_rest_is_watched(settings: Settings) -> None:
    (settings.config_dir / "metrics.toml").write_text('[x]\nkind = "mood"\n')
    with ControlStore(settings.control_url) as control:
        control.pass_slot("drift", to_ms(AT))
    found = look(settings, at=AT + timedelta(hours=49))
    assert found["on"] == ["stale"] and "kind" in found["notTold"][0]


def test_rolling_back_is_a_job_with_a_reason(settings: Settings) -> None:
    with ControlStore(settings.control_url) as control:
        for version in ("als@1", "als@2"):
            control.set_pointer("champion", version, by="ada", reason="", at=AT)
        assert run_job(settings, "roll_back", {"because": "errors"}, at=AT) == {"champion": "als@1"}
        entry = control.audit_trail()[0]
    assert (entry.action, entry.by, entry.details["reason"]) == ("pointer.rollback", "job", "errors")


def people(orders: float, *, since: datetime, n: int = 1_500) -> list[dict[str, object]]:
    random, rows = np.random.default_rng(int(orders * 10)), []
    for number, count in enumerate(random.poisson(orders, n).tolist()):
        profile = Profile(
            first_ms=to_ms(since),
            last_ms=to_ms(since),
            received_ms=to_ms(since),
            events=count,
            orders=count,
            revenue_micros=2_000_000 * count,
            recent=(Recent(to_ms(since), ItemId("milk"), "purchase", 1.0),) * min(count, 5),
            day_counts={(to_ms(since) // DAY_MS, "purchase"): count},
        )
        rows.append({"user_id": f"u{number}", "version": number + 1, **to_row(profile)})
    return rows


def champion(settings: Settings) -> None:
    """Publish a model whose reference are people of some three orders."""
    lake, n = Lake(settings.lake_dir), 1_500
    lake.write_states(0, 0, n, people(3.0, since=AT))
    states = lake.latest_states(until_ms=to_ms(AT) + 1)
    model = Popularity.fit(Interactions.from_columns(["u"], ["milk"], [0], [1.0]), at_ms=1)
    about = About(Window(since=AT, until=AT), "", feature_table(states, at_ms=to_ms(AT)), {})
    passed, store = Verdict(passed=True, reasons=()), BundleStore(settings.bundles_dir)
    reference = publish(model, about, store, metrics={}, measured=None, gate=passed, parent=None, seed=0)
    with ControlStore(settings.control_url) as control:
        control.set_pointer("champion", reference, by="ada", reason="", at=AT)


def test_drift_alarms_at_the_second_window_and_asks_for_a_candidate(settings: Settings) -> None:
    champion(settings)
    later = AT + timedelta(hours=1)
    Lake(settings.lake_dir).write_states(
        0, 1_500, 3_000, [{**row, "version": int(str(row["version"])) + 1_500} for row in people(6.0, since=later)]
    )
    one = observe_drift(settings, model="champion", at=later)
    # Looking again at once is no second window.
    assert observe_drift(settings, model="champion", at=later + timedelta(seconds=1))["alarms"] == []
    assert one["drifted"] > 0 and one["alarms"] == []
    assert look(settings, at=later)["on"] == []
    again = observe_drift(settings, model="champion", at=later + timedelta(hours=1))
    assert "orders" in again["alarms"]
    found = look(settings, at=later + timedelta(hours=2))
    assert found["on"] == ["drift"]
    assert waiting(settings) == [("retrain", "")]


def test_monitoring_that_does_not_come_is_told_within_two_periods(settings: Settings) -> None:
    with ControlStore(settings.control_url) as control:
        # The schedule asks every day, and whatever is asked for hangs or dies: nothing is ever observed.
        control.pass_slot("drift", to_ms(AT))
    assert look(settings, at=AT + timedelta(hours=47))["on"] == []
    assert look(settings, at=AT + timedelta(hours=49))["on"] == ["stale"]


def test_results_are_read_by_the_command_line(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    from typer.testing import CliRunner

    from cli.main import app

    live(settings, rates=(0.30, 0.22))
    for name, value in settings.environment().items():
        monkeypatch.setenv(name, value)
    told = CliRunner().invoke(app, ["experiments", "results", "hero", "--json"])
    assert told.exit_code == 0, told.output
    found = orjson.loads(told.stdout)
    assert found["units"] == {"old": found["units"]["old"], "new": 6_000 - found["units"]["old"]}
    assert found["metrics"][0]["comparisons"][0]["verdict"]["outcome"] == "worse"
    assert found["shadows"] == []
    shown = CliRunner().invoke(app, ["experiments", "results", "hero"])
    assert shown.exit_code == 0 and "conversion" in shown.stdout
    planned = CliRunner().invoke(app, ["experiments", "plan", "--days", "14", "--json", "--at", "2026-03-12"])
    assert planned.exit_code == 0, planned.output
    assert orjson.loads(planned.stdout)["metrics"][0]["units"] > 0
    assert CliRunner().invoke(app, ["experiments", "results", "nobody"]).exit_code == 1
