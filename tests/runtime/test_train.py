"""A training as the command runs it: chosen, reported, promoted only through the gate."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from runtime.train import NOT_PROMOTED, train_with_report
from storage.lake import Lake
from storage.settings import Settings
from tests.support.messages import DAY_0, event
from training.registry import pointers, resolve
from training.train import TrainRequest

UNTIL = DAY_0 + timedelta(days=30)


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory, ray_session: None) -> Settings:
    """Forty people who buy an item of their own every other day."""
    made = Settings(home=tmp_path_factory.mktemp("train"))
    days = range(1, 30, 2)
    events = [event(f"u{n}", 24 * day + n % 20, "Order Completed", f"own-{n}") for day in days for n in range(40)]
    Lake(made.lake_dir).write_events(0, 0, len(events), sorted(events, key=lambda one: one.at_ms))
    return made


def trained(settings: Settings, *kinds: str, **other: Any) -> Any:
    request = TrainRequest(kinds, UNTIL, timedelta(days=30))
    return train_with_report(request, settings, **{"promote": None, "report": True, "quiet": True, **other})


def test_auto_takes_what_does_best_and_writes_a_report(settings: Settings) -> None:
    done = trained(settings, "auto", promote="champion")
    assert done.exit_status == 0 and done.promoted == "champion"
    assert resolve(settings, "champion").split("@")[0] in ("buy_again", "blend")
    assert "Verdicts" in Path(done.as_json()["report"]).read_text()


def test_what_the_gate_rejects_moves_no_pointer(settings: Settings) -> None:
    before = pointers(settings)
    done = trained(settings, "als", promote="champion", report=False)
    assert done.exit_status == NOT_PROMOTED and done.promoted is None
    assert done.as_json()["outcomes"]["als"]["state"] == "rejected"
    assert pointers(settings) == before
