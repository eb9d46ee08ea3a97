"""What runs by itself: config/schedule.toml, and the times at which its entries are due."""

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, RootModel, field_validator

from bespoke.clock import duration_ms, to_ms
from storage.control import ControlStore
from storage.toml import read_toml, validated

FILE = "schedule.toml"
BY = "schedule"
JobKind = Literal["drift", "alerts", "readouts", "retrain"]


class Entry(BaseModel):
    """One job that comes again and again."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    job: JobKind = Field(description="What is done.")
    every: str = Field(description='How often, such as "1 day".')
    at: str = Field(default="00:00", pattern=r"^([01]\d|2[0-3]):[0-5]\d$", description="Counted from this time, UTC.")
    timeout: str = Field(default="1 hour", description="A job that takes longer is ended, and has failed.")
    arguments: dict[str, Any] = Field(default_factory=dict, description="What the job is told.")

    @field_validator("every", "timeout")
    @classmethod
    def _check_duration(cls, text: str) -> str:
        duration_ms(text)
        return text

    def slot_ms(self, at: datetime) -> int:
        """Return the newest time by ``at`` at which it was due.

        >>> from bespoke.clock import DAY_MS, from_ms
        >>> Entry(job="drift", every="1 day", at="01:00").slot_ms(from_ms(DAY_MS + 1)) == 3_600_000
        True
        """
        hours, minutes = map(int, self.at.split(":"))
        start_ms, every_ms = (hours * 60 + minutes) * 60_000, duration_ms(self.every)
        return (to_ms(at) - start_ms) // every_ms * every_ms + start_ms


class _File(RootModel[dict[str, Entry]]):
    pass


def load_schedule(config_dir: Path) -> Mapping[str, Entry]:
    """Read config/schedule.toml; nothing where there is no such file.

    Raises:
        ConfigError: names the entry, the value and the file.
    """
    path = config_dir / FILE
    return validated(_File, read_toml(path), path).root if path.exists() else {}


def enqueue_due(entries: Mapping[str, Entry], control: ControlStore, *, at: datetime) -> list[int]:
    """Ask for the jobs that are due; return their ids.

    Any number of schedulers may do so: each time of an entry has one job. Times that went by while nothing ran are
    made up for once. An entry that was never seen before begins with its next time.
    """
    asked = []
    for name, entry in entries.items():
        slot_ms, last_ms = entry.slot_ms(at), control.last_slot(name)
        if last_ms is None:
            control.pass_slot(name, slot_ms)
        elif slot_ms > last_ms:
            arguments = {**entry.arguments, "timeout_s": duration_ms(entry.timeout) / 1_000}
            job = control.enqueue_slot(name, slot_ms, entry.job, arguments, by=BY, at=at)
            asked += [] if job is None else [job]
    return asked
