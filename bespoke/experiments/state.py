"""What is in force of an experiment: its definition, whether it runs, and the phases of its shares."""

from bisect import bisect_right
from collections.abc import Mapping
from functools import cached_property
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from bespoke.errors import ConfigError, shown
from bespoke.experiments.declaration import HOLDOUT, Experiment, Holdout, changed_shares
from bespoke.experiments.files import FILE, parse_experiment

_FIXED = ("salt", "unit", "layer")
"""What a running experiment keeps: another value would assign people anew, in the midst of it."""


class Phase(BaseModel):
    """From ``at_ms`` on these shares hold, until the next phase."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    number: int = Field(ge=1, description="Counts the phases of an experiment.")
    at_ms: int = Field(description="When it began, in ms since 1970.")
    shares: dict[str, float] = Field(description="Shares of the variants that answer, 0..1.")
    traffic: float = Field(ge=0, le=1, description="Share of the layer's units that take part, 0..1.")
    by: str = Field(description="Who or what began it.")
    reason: str = Field(default="", description="Why.")
    schedule_ms: int | None = Field(
        default=None, description="The declared ramp steps that are still to come count from then on; None: none come."
    )


class ExperimentState(BaseModel):
    """An experiment in force, as the control store keeps it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    definition: Experiment = Field(description="What was declared when it started or was last declared anew.")
    status: Literal["running", "stopped"] = Field(description="Whether it splits traffic.")
    started_ms: int = Field(description="When it was started, in ms since 1970.")
    stopped_ms: int | None = Field(default=None, description="When it was stopped, in ms since 1970.")
    offset: float = Field(default=0.0, ge=0, le=1, description="Where its part of the layer's line begins.")
    phases: tuple[Phase, ...] = Field(min_length=1, description="Phases that were decided, oldest first.")

    @classmethod
    def begin(
        cls,
        experiment: Experiment,
        *,
        at_ms: int,
        by: str,
        reason: str = "",
        offset: float = 0.0,
        after: "ExperimentState | None" = None,
    ) -> "ExperimentState":
        """Return an experiment that starts now, at the declared shares.

        Args:
            experiment: what is declared.
            at_ms: now.
            by: who starts it.
            reason: why.
            offset: where its part of the layer's line begins.
            after: its stopped state, where it goes on after a stop: phases and assignments are kept.
        """
        past = () if after is None else after.past(at_ms)
        at_ms = max([at_ms, *(phase.at_ms for phase in past)])
        first = Phase(
            number=len(past) + 1,
            at_ms=at_ms,
            shares=experiment.shares,
            traffic=experiment.traffic,
            by=by,
            reason=reason,
            schedule_ms=at_ms if experiment.ramp else None,
        )
        return cls(definition=experiment, status="running", started_ms=at_ms, offset=offset, phases=(*past, first))

    @property
    def name(self) -> str:
        """The experiment's name."""
        return self.definition.name

    @property
    def running(self) -> bool:
        """Whether it splits traffic, as far as its models are there."""
        return self.status == "running"

    @cached_property
    def timeline(self) -> tuple[Phase, ...]:
        """All phases, with those that the schedule will begin."""
        phases, begun_ms = list(self.phases), self.phases[-1].schedule_ms
        if begun_ms is None:
            return self.phases
        for step in self.definition.ramp:
            before, at_ms = phases[-1], begun_ms + step.after_ms
            if at_ms <= before.at_ms:
                # It had happened when the last phase was written down.
                continue
            phases.append(
                Phase(
                    number=before.number + 1,
                    at_ms=at_ms,
                    shares=changed_shares(before.shares, step.shares),
                    traffic=before.traffic if step.traffic is None else step.traffic,
                    by="schedule",
                    reason=f"{step.after} after the start",
                )
            )
        return tuple(phases)

    def phase_at(self, at_ms: int) -> Phase:
        """Return the phase in force at ``at_ms``; before the first one, that one: replays run at their own time."""
        return self.timeline[max(bisect_right(self.timeline, at_ms, key=lambda phase: phase.at_ms) - 1, 0)]

    def next_phase(self, at_ms: int) -> Phase | None:
        """Return the phase that the schedule begins next; None where nothing is to come."""
        ahead = [phase for phase in self.timeline if phase.at_ms > at_ms]
        return ahead[0] if ahead and self.running else None

    @property
    def pointers(self) -> frozenset[str]:
        """The pointers that it needs: it waits until each of them names a version."""
        return frozenset(variant.model for variant in self.definition.variants if "@" not in variant.model)

    def past(self, at_ms: int) -> tuple[Phase, ...]:
        """Return the phases that have begun, as history: no schedule follows them."""
        # What was decided has begun, whatever the clock of another machine said.
        ended = max(at_ms if self.stopped_ms is None else self.stopped_ms, self.phases[-1].at_ms)
        begun = self.timeline[: max(bisect_right(self.timeline, ended, key=lambda phase: phase.at_ms), 1)]
        return tuple(phase.model_copy(update={"schedule_ms": None}) for phase in begun)

    def reserved(self, at_ms: int) -> float:
        """Return how much of its layer is its own: what it has now and what its schedule will ask for."""
        now = self.phase_at(at_ms)
        return max(phase.traffic for phase in self.timeline if phase.number >= now.number)

    def ramped(
        self,
        *,
        at_ms: int,
        by: str,
        reason: str = "",
        shares: Mapping[str, float] | None = None,
        traffic: float | None = None,
    ) -> "ExperimentState":
        """Return it with a new phase; the schedule ends, since somebody has taken over.

        Raises:
            ConfigError: it does not run, or the shares cannot be.
        """
        if not self.running:
            raise ConfigError(f"experiment {self.name!r} is stopped; `bespoke experiments start {self.name}` first")
        past = self.past(at_ms)
        try:
            changed = changed_shares(past[-1].shares, shares or {})
        except ValueError as error:
            raise ConfigError(f"experiment {self.name!r}: {error}") from None
        phase = Phase(
            number=past[-1].number + 1,
            at_ms=max(at_ms, past[-1].at_ms),
            shares=changed,
            traffic=past[-1].traffic if traffic is None else traffic,
            by=by,
            reason=reason,
        )
        return self.model_copy_with(phases=(*past, phase))

    def awaited(self, *, at_ms: int) -> "ExperimentState":
        """Return it as it begins when the last of its pointers is set: until now it has split nothing."""
        *earlier, last = self.phases
        at_ms = max([at_ms, *(phase.at_ms for phase in earlier)])
        schedule_ms = None if last.schedule_ms is None else at_ms
        begun = last.model_copy(update={"at_ms": at_ms, "schedule_ms": schedule_ms})
        return self.model_copy_with(started_ms=at_ms, phases=(*earlier, begun))

    def stopped(self, *, at_ms: int) -> "ExperimentState":
        """Return it stopped: everybody gets what they would get without it."""
        return self.model_copy_with(status="stopped", stopped_ms=at_ms, phases=self.past(at_ms))

    def redeclared(self, experiment: Experiment, *, at_ms: int, by: str) -> "ExperimentState":
        """Return it as it goes on under a changed declaration, in a new phase; unchanged where nothing changed.

        Raises:
            ConfigError: the salt, the unit or the layer changed, which would assign people anew.
        """
        if experiment == self.definition:
            return self
        for field in _FIXED:
            old, new = getattr(self.definition, field), getattr(experiment, field)
            if old != new:
                raise ConfigError(
                    f"experiment {self.name!r} runs: {field} cannot change from {shown(str(old))} to "
                    f"{shown(str(new))}; put it back in {FILE}, or `bespoke experiments stop {self.name}` and start "
                    "it with a new salt"
                )
        past = self.past(at_ms)
        last = past[-1]
        same_split = (experiment.shares, experiment.traffic, experiment.ramp) == (
            self.definition.shares,
            self.definition.traffic,
            self.definition.ramp,
        )
        # What was ramped, by hand or by the clock, goes on where the file says nothing new about shares.
        phase = Phase(
            number=last.number + 1,
            at_ms=max(at_ms, last.at_ms),
            shares=last.shares if same_split else experiment.shares,
            traffic=last.traffic if same_split else experiment.traffic,
            by=by,
            reason="the declaration changed",
            schedule_ms=self.phases[-1].schedule_ms if same_split else at_ms if experiment.ramp else None,
        )
        return self.model_copy_with(definition=experiment, phases=(*past, phase))

    def model_copy_with(self, **changes: Any) -> "ExperimentState":
        """Return a copy with changes, made anew so that nothing cached is carried along."""
        return type(self)(**{name: getattr(self, name) for name in type(self).model_fields} | changes)


class InForce(BaseModel):
    """Everything of experiments that the control store has in force."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    experiments: dict[str, ExperimentState] = Field(default_factory=dict, description="By name; stopped ones too.")
    holdout: Holdout | None = Field(default=None, description="Who is in no experiment.")


def parse_states(states: Mapping[str, Any]) -> InForce:
    """Read what ``ControlStore.experiments()`` returns.

    Raises:
        ConfigError: a state cannot be read; names the experiment.
    """
    experiments = {name: parse_state(name, state) for name, state in states.items() if name != HOLDOUT}
    if HOLDOUT not in states:
        return InForce(experiments=experiments)
    try:
        return InForce(experiments=experiments, holdout=Holdout.model_validate(states[HOLDOUT]))
    except ValidationError as error:
        raise ConfigError(f"the holdout in the control store cannot be read: {error.errors()[0]['msg']}") from None


def parse_state(name: str, state: Any) -> ExperimentState:
    """Read one state; a bare declaration, as earlier versions stored it, runs in its first phase.

    Raises:
        ConfigError: it cannot be read; names the experiment.
    """
    if isinstance(state, Mapping) and "definition" not in state:
        return ExperimentState.begin(parse_experiment(name, state), at_ms=0, by="an earlier version")
    try:
        return ExperimentState.model_validate(state)
    except ValidationError as error:
        raise ConfigError(
            f"experiment {name!r} in the control store cannot be read: {error.errors()[0]['msg']}; "
            f"`bespoke experiments stop {name}` and start it again"
        ) from None
