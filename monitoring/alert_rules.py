"""Alerts as config/alerts.toml declares them, and when one goes on, is told again, and goes off."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, HttpUrl, RootModel, field_validator, model_validator

from bespoke.clock import duration_ms
from bespoke.errors import ConfigError
from storage.control import Alert
from storage.toml import read_toml, validated

FILE = "alerts.toml"

MetricName = Literal[
    "drift",
    "monitoring_age_h",
    "data_age_s",
    "model_age_h",
    "error_share",
    "latency_p99_ms",
    "sample_ratio",
    "crossed_share",
    "variant_worse",
    "variant_better",
    "outcome_change",
    "jobs_failed",
]
LOG = "log"


class _Declared(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Channel(_Declared):
    """Where alerts are told: a web address or a mailbox."""

    url: HttpUrl | None = Field(default=None, description="Where each alert is posted as JSON.")
    secret_env: str | None = Field(
        default=None, pattern=r"^[A-Z_][A-Z0-9_]*$", description="Variable with the secret that signs posts."
    )
    smtp_host: str | None = Field(default=None, description="Mail server.")
    smtp_port: int = Field(default=25, ge=1, le=65535, description="Its port.")
    starttls: bool = Field(default=False, description="Whether to speak TLS with it.")
    user: str | None = Field(default=None, description="Who logs in at the mail server.")
    password_env: str | None = Field(
        default=None, pattern=r"^[A-Z_][A-Z0-9_]*$", description="Variable with the password of `user`."
    )
    sender: str | None = Field(default=None, description="The mail's sender.")
    to: tuple[str, ...] = Field(default=(), description="Who gets the mail.")
    timeout_s: float = Field(default=10.0, gt=0, le=60, description="How long telling may take.")

    @model_validator(mode="after")
    def _one_way(self) -> "Channel":
        if (self.url is None) == (self.smtp_host is None):
            raise ValueError("either url or smtp_host")
        if (self.url is None) != (self.secret_env is None):
            raise ValueError("url and secret_env go together: every post is signed")
        if self.smtp_host is not None and (self.sender is None or not self.to):
            raise ValueError("a mail needs sender and to")
        if (self.user is None) != (self.password_env is None):
            raise ValueError("user and password_env go together")
        if self.user is not None and not self.starttls:
            raise ValueError("a password is sent over TLS only: starttls = true")
        return self


class Action(_Declared):
    """What is done about an alert, as a job."""

    job: Literal["roll_back", "stop_variant", "retrain", "ramp_up"] = Field(description="The kind of job.")
    models: tuple[str, ...] = Field(default=("auto",), min_length=1, description="Of retrain: which kinds.")
    window: str = Field(default="30 days", description="Of retrain: what it learns from.")
    promote: str = Field(default="challenger", description="Of retrain: the pointer that a version that passes gets.")

    @field_validator("window")
    @classmethod
    def _check_window(cls, window: str) -> str:
        duration_ms(window)
        return window


class AlertRule(_Declared):
    """When a metric is off, who is told, and what is done."""

    name: str = Field(pattern=r"^[a-z][a-z0-9_-]*$", max_length=64, description="Name in lists and messages.")
    metric: MetricName = Field(description="What is looked at.")
    above: float | None = Field(default=None, description="It is on where the metric is above this.")
    below: float | None = Field(default=None, description="Or below this.")
    subject: str = Field(default="*", max_length=200, description="Only of subjects like this; * stands for anything.")
    notify: tuple[str, ...] = Field(default=(LOG,), description="Who is told: log, or tables under [notify].")
    cool_down: str = Field(default="6 hours", description="Nobody is told again, and nothing done again, before.")
    action: Action | None = Field(default=None, description="What is done about it.")

    @model_validator(mode="after")
    def _check(self) -> "AlertRule":
        if (self.above is None) == (self.below is None):
            raise ValueError("either above or below")
        duration_ms(self.cool_down)
        return self

    def is_off(self, value: float) -> bool:
        """Return whether a value is not as it should be."""
        return (self.above is not None and value > self.above) or (self.below is not None and value < self.below)


class _File(_Declared):
    notify: dict[str, Channel] = Field(default_factory=dict)
    alert: dict[str, dict[str, object]] = Field(default_factory=dict)


class _Rules(RootModel[dict[str, AlertRule]]):
    pass


@dataclass(frozen=True, slots=True)
class Alerting:
    """What a file declares."""

    rules: tuple[AlertRule, ...] = ()
    channels: Mapping[str, Channel] = field(default_factory=dict)


def load_alerts(config_dir: Path) -> Alerting:
    """Read config/alerts.toml; nothing where there is no such file.

    Raises:
        ConfigError: names the entry, the value and the file.
    """
    path = config_dir / FILE
    if not path.exists():
        return Alerting()
    found = validated(_File, read_toml(path), path)
    named = {name: {**table, "name": name} for name, table in found.alert.items()}
    rules = tuple(validated(_Rules, named, path).root.values())
    for rule in rules:
        for name in rule.notify:
            if name != LOG and name not in found.notify:
                known = ", ".join([LOG, *found.notify])
                raise ConfigError(f"{path}: alert {rule.name}: nobody is called {name!r}; there are: {known}")
    return Alerting(rules, found.notify)


@dataclass(frozen=True, slots=True)
class Measured:
    """One figure that rules look at."""

    metric: MetricName
    subject: str
    value: float
    words: str = ""


@dataclass(frozen=True, slots=True)
class Change:
    """What a look does to one alert."""

    alert: Alert
    rule: AlertRule | None
    """None: it goes off."""
    tell: bool
    """Whether those who are to be told are, and the action is taken."""


def changes(
    rules: Sequence[AlertRule],
    measured: Sequence[Measured],
    on: Sequence[Alert],
    *,
    metrics: Collection[MetricName],
    at: datetime,
) -> Iterator[Change]:
    """Yield what a look at these figures changes.

    An alert whose metric is not among ``metrics``, those that could be measured, stays as it is. One that somebody
    acknowledged is told to nobody and acts no more, until it has been off.
    """
    known = {(alert.name, alert.subject): alert for alert in on}
    still = set()
    for rule in rules:
        for one in measured:
            if one.metric != rule.metric or not fnmatchcase(one.subject, rule.subject) or not rule.is_off(one.value):
                continue
            before = known.get((rule.name, one.subject))
            still.add((rule.name, one.subject))
            yield _on(rule, one, before, at=at)
    by_name = {rule.name: rule for rule in rules}
    for key, alert in known.items():
        rule_of = by_name.get(alert.name)
        if key not in still and (rule_of is None or rule_of.metric in metrics):
            yield Change(alert, None, tell=False)


def _on(rule: AlertRule, one: Measured, before: Alert | None, *, at: datetime) -> Change:
    if before is None:
        return Change(Alert(rule.name, one.subject, at, at, one.value, one.words, at), rule, tell=True)
    rested = before.told is None or at - before.told >= timedelta(milliseconds=duration_ms(rule.cool_down))
    tell = rested and before.acknowledged_by is None
    told = at if tell else before.told
    return Change(replace(before, last=at, value=one.value, words=one.words, told=told), rule, tell)
