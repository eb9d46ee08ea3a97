"""Jobs: due once, done in a process of their own, ended when they hang, taken over when a worker dies."""

import os
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psutil
import pytest

from bespoke.clock import HOUR_MS, from_ms, to_ms
from bespoke.errors import ConfigError
from runtime.job_loop import JobLoop
from runtime.jobs import run_job
from runtime.schedule import Entry, enqueue_due, load_schedule
from runtime.worker import LEASE, MAX_ATTEMPTS, Worker
from storage.control import ControlStore, JobState
from storage.settings import Settings

AT = datetime(2026, 3, 2, 5, 30, tzinfo=UTC)
NEVER = threading.Event()


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    (tmp_path / "config").mkdir()
    return Settings(home=tmp_path / "var", config_dir=tmp_path / "config")


@pytest.fixture
def control(settings: Settings) -> Iterator[ControlStore]:
    with ControlStore(settings.control_url) as control:
        yield control


def python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


def test_an_entry_is_due_at_its_times_and_once_each(control: ControlStore) -> None:
    entries = {"nightly": Entry(job="drift", every="1 day", at="04:00")}
    # Seen for the first time: it begins with its next time.
    assert enqueue_due(entries, control, at=AT) == []
    assert enqueue_due(entries, control, at=AT + timedelta(hours=20)) == []
    (job,) = enqueue_due(entries, control, at=AT + timedelta(hours=23))
    assert enqueue_due(entries, control, at=AT + timedelta(hours=23)) == []
    assert (control.job(job).kind, control.job(job).by) == ("drift", "schedule")


def test_times_that_went_by_unattended_are_made_up_for_once(control: ControlStore) -> None:
    entries = {"often": Entry(job="alerts", every="5 minutes")}
    enqueue_due(entries, control, at=AT)
    assert len(enqueue_due(entries, control, at=AT + timedelta(days=3))) == 1
    assert enqueue_due(entries, control, at=AT + timedelta(days=3)) == []


def test_slots_begin_at_the_time_of_day() -> None:
    entry = Entry(job="drift", every="6 hours", at="01:00")
    assert entry.slot_ms(AT) == to_ms(AT.replace(hour=1, minute=0))
    assert entry.slot_ms(from_ms(HOUR_MS - 1)) == HOUR_MS - 6 * HOUR_MS


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('[x]\njob = "drift"\n', "every"),
        ('[x]\njob = "dance"\nevery = "1 day"\n', "job"),
        ('[x]\njob = "drift"\nevery = "daily"\n', "length of time"),
        ('[x]\njob = "drift"\nevery = "1 day"\nat = "25:00"\n', "at"),
    ],
)
def test_mistakes_in_the_schedule_are_named(settings: Settings, text: str, told: str) -> None:
    (settings.config_dir / "schedule.toml").write_text(text)
    with pytest.raises(ConfigError, match=told):
        load_schedule(settings.config_dir)


def test_a_job_that_does_well_leaves_its_result(settings: Settings, control: ControlStore) -> None:
    control.enqueue("drift", {}, by="ada", at=AT)
    worker = Worker(settings, control, command=lambda _: python("print('working'); print('{\"moved\": 3}')"))
    job = worker.step(stopped=NEVER)
    assert job is not None and (job.state, job.result) == (JobState.DONE, {"moved": 3})
    assert worker.step(stopped=NEVER) is None
    assert [entry.action for entry in control.audit_trail(subject=f"job:{job.job_id}")] == ["job.drift"]


def test_a_job_that_fails_leaves_its_last_words(settings: Settings, control: ControlStore) -> None:
    control.enqueue("drift", {}, by="ada", at=AT)
    job = Worker(settings, control, command=lambda _: python("raise SystemExit('no model')")).step(stopped=NEVER)
    assert job is not None and (job.state, job.error) == (JobState.FAILED, "no model")


def test_a_job_that_hangs_is_ended_with_all_that_it_started(
    settings: Settings, control: ControlStore, tmp_path: Path
) -> None:
    pid = tmp_path / "pid"
    code = (
        "import subprocess, sys, time; "
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)']); "
        f"open({str(pid)!r}, 'w').write(str(child.pid)); time.sleep(600)"
    )
    control.enqueue("drift", {"timeout_s": 3.0}, by="ada", at=AT)
    job = Worker(settings, control, command=lambda _: python(code)).step(stopped=NEVER)
    assert job is not None and job.state is JobState.FAILED
    assert "longer than 3 s" in str(job.error)
    child = int(pid.read_text())
    assert not psutil.pid_exists(child) or psutil.Process(child).status() == psutil.STATUS_ZOMBIE


def test_a_job_whose_worker_died_is_done_again_and_then_given_up(settings: Settings, control: ControlStore) -> None:
    control.enqueue("drift", {}, by="ada", at=AT)
    long_ago = datetime.now(UTC) - timedelta(hours=1)
    for attempt in range(MAX_ATTEMPTS):
        assert control.claim(f"dead{attempt}", at=long_ago + attempt * LEASE, lease=LEASE) is not None
    job = Worker(settings, control, command=lambda _: python("print(1)")).step(stopped=NEVER)
    assert job is not None and job.state is JobState.FAILED
    assert "given up" in str(job.error)


def test_a_worker_that_is_stopped_leaves_its_job_to_the_next(settings: Settings, control: ControlStore) -> None:
    number = control.enqueue("drift", {}, by="ada", at=AT)
    stopped = threading.Event()
    stopped.set()
    worker = Worker(settings, control, command=lambda _: python("import time; time.sleep(600)"))
    job = worker.step(stopped=stopped)
    assert job is not None and (job.state, job.attempts) == (JobState.QUEUED, 0)
    again = control.claim("next", at=datetime.now(UTC), lease=LEASE)
    assert again is not None and again.job_id == number


def test_jobs_are_kind_to_the_machine_and_know_the_installation(settings: Settings, control: ControlStore) -> None:
    control.enqueue("drift", {}, by="ada", at=AT)
    code = "import os; print('[%d, \"%s\"]' % (os.nice(0), os.environ['BESPOKE_HOME']))"
    job = Worker(settings, control, command=lambda _: python(code)).step(stopped=NEVER)
    assert job is not None and job.result == [min(os.nice(0) + 10, 19), str(settings.home)]


def test_quick_jobs_do_not_wait_for_slow_ones(settings: Settings, control: ControlStore) -> None:
    slow = control.enqueue("retrain", {}, by="ada", at=AT)
    control.enqueue("alerts", {}, by="ada", at=AT)
    quick = Worker(settings, control, kinds={"alerts"}, command=lambda _: python("print(1)"))
    job = quick.step(stopped=NEVER)
    assert job is not None and job.kind == "alerts"
    assert quick.step(stopped=NEVER) is None
    assert control.job(slow).state is JobState.QUEUED


def test_unknown_jobs_are_named(settings: Settings) -> None:
    with pytest.raises(ConfigError, match="no job is called 'dance'; there are: drift, alerts"):
        run_job(settings, "dance", {}, at=AT)


def test_the_loop_does_what_waits_by_the_real_command(settings: Settings, control: ControlStore) -> None:
    done = threading.Event()
    said: list[str] = []

    def say(line: str) -> None:
        said.append(line)
        done.set()

    # Nothing was ever trained: the job fails, and says why.
    number = control.enqueue("drift", {}, by="ada", at=AT)
    with JobLoop(settings, say=say):
        assert done.wait(120)
    assert control.job(number).state is JobState.FAILED
    assert f"job {number} (drift) failed" in said[0] and "champion" in said[0]
