"""The guard: takes a new version out of traffic where it does worse than the one before it, and writes down why."""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from bespoke.clock import from_ms, to_ms
from bespoke.experiments import (
    CHAMPION,
    DEFAULT,
    HOLDOUT,
    ExperimentState,
    GuardSettings,
    Health,
    Phase,
    parse_state,
    parse_states,
    total,
    worse,
)
from storage.control import ControlStore
from storage.control_traffic import Served, ServedHealth

logger = logging.getLogger(__name__)

BY = "guard"
WRITTEN = timedelta(seconds=30)
"""By then replicas have written what they counted."""
BUSIER = 1.5
"""Where there is so much more to do than before, versions that follow one another cannot be compared by time taken."""
FEW = 50
"""With fewer requests of the other variants, all of the champion's are what a canary is held against."""


@dataclass(frozen=True, slots=True)
class RolledBack:
    """What the guard did."""

    subject: str
    """``experiment:NAME`` or ``pointer:NAME``, as in the audit trail."""
    said: str


@dataclass(frozen=True, slots=True)
class _Canary:
    """A version that is new in traffic, what it is held against, and how it is taken out."""

    subject: str
    since: datetime
    """When it began to answer, or the beginning of what is looked at."""
    is_canary: Callable[[Served], bool]
    is_baseline: Callable[[Served], bool]
    is_champion: Callable[[Served], bool]
    roll_back: Callable[[str], str]
    """Takes it out, for a reason; returns what was done, in words."""
    before: Sequence[ServedHealth] = ()
    """How its predecessor did, where nothing is beside it."""

    def health(self, rows: Sequence[ServedHealth]) -> Health:
        return total(row.health for row in rows if row.at >= self.since and self.is_canary(row.served))

    def baseline(self, rows: Sequence[ServedHealth]) -> Health:
        """Return the health of those beside it, or of the champion anywhere where too few are beside it."""
        rows = [row for row in rows if row.at >= self.since and not self.is_canary(row.served)] + [*self.before]
        beside = total(row.health for row in rows if self.is_baseline(row.served))
        return beside if beside.count >= FEW else total(row.health for row in rows if self.is_champion(row.served))

    def is_busier(self, rows: Sequence[ServedHealth]) -> bool:
        """Return whether there is much more to do than when its predecessor answered."""
        now = _per_bucket([row for row in rows if row.at >= self.since])
        return bool(self.before) and now > BUSIER * _per_bucket(self.before)


@dataclass(slots=True)
class Guard:
    """Looks at the health of canaries every few seconds.

    A canary is a variant of a running experiment other than its control, and a champion that was promoted lately.
    Errors act at once; latency and missed deadlines only where two looks in a row say so.
    """

    control: ControlStore
    settings: GuardSettings = field(default_factory=GuardSettings)
    _suspected: set[tuple[str, str]] = field(default_factory=set)
    """What the last look found, by canary and measure."""
    _problem: str | None = None
    _before: tuple[datetime, Sequence[ServedHealth]] | None = None

    def look(self, at: datetime) -> list[RolledBack]:
        """Look once, and return what was rolled back; where the control store is away, nothing."""
        if not self.settings.enabled:
            return []
        try:
            done = self._look(at)
        except Exception as error:
            # Whatever it is: the guard must not end what it guards.
            if str(error) != self._problem:
                logger.warning("the guard cannot look: %s: %s", type(error).__name__, error)
            self._problem = str(error)
            return []
        self._problem = None
        return done

    def _look(self, at: datetime) -> list[RolledBack]:
        canaries = list(self._canaries(at))
        if not canaries:
            self._suspected = set()
            return []
        rows = self.control.health(since=min(one.since for one in canaries))
        suspected: set[tuple[str, str]] = set()
        done: list[RolledBack] = []
        for canary in canaries:
            found = worse(canary.health(rows), canary.baseline(rows), self.settings)
            if found is None or (found.measure != "errors" and canary.is_busier(rows)):
                continue
            suspected.add((canary.subject, found.measure))
            if found.measure == "errors" or (canary.subject, found.measure) in self._suspected:
                done.append(RolledBack(canary.subject, f"{canary.roll_back(found.words)}: {found.words}"))
                logger.warning("rolled back %s: %s", canary.subject, done[-1].said)
        self._suspected = suspected
        return done

    def _canaries(self, at: datetime) -> Iterator[_Canary]:
        pointers = self.control.pointers()
        for state in parse_states(self.control.experiments()).experiments.values():
            if state.running:
                yield from self._variants(state, pointers, at)
        promoted = self._promoted(at)
        if promoted is not None:
            yield promoted

    def _variants(self, state: ExperimentState, pointers: Mapping[str, str], at: datetime) -> Iterator[_Canary]:
        phase, control = state.phase_at(to_ms(at)), _control_arms(state)
        oldest = at - timedelta(seconds=self.settings.window_s)
        for variant in state.definition.variants:
            version = variant.model if "@" in variant.model else pointers.get(variant.model)
            if variant.name in control or not phase.shares.get(variant.name) or version is None:
                continue
            since = max(oldest, _shown_since(state, phase, variant.name))
            yield _Canary(
                f"experiment:{state.name}/{variant.name}",
                since,
                # Without a version where another layer chose it.
                _served_by(versions=(version, ""), experiments=(state.name,), variants=(variant.name,)),
                _served_by(experiments=(state.name,), variants=control),
                _served_by(versions=(pointers.get(CHAMPION),), experiments=("", HOLDOUT)),
                partial(self._take_out, state, phase, variant.name, control[0], at=at),
            )

    def _promoted(self, at: datetime) -> _Canary | None:
        history = self.control.pointer_history(CHAMPION)
        if len(history) < 2:
            return None
        last, before = history[-1], history[-2]
        known = {decision.value for decision in history[:-1]}
        if last.value in known or at - last.at > timedelta(seconds=self.settings.promoted_within_s):
            # What was champion before is what one goes back to.
            return None
        return _Canary(
            f"pointer:{CHAMPION}",
            max(last.at, at - timedelta(seconds=self.settings.window_s)),
            _served_by(versions=(last.value,)),
            _served_by(versions=(before.value,)),
            _served_by(versions=(before.value,)),
            partial(self._go_back, last.value, at=at),
            self._rows_before(last.at, at=at),
        )

    def _rows_before(self, promoted: datetime, *, at: datetime) -> Sequence[ServedHealth]:
        """Return what was counted before a promotion; read once, when replicas have written all of it."""
        if self._before is not None and self._before[0] == promoted:
            return self._before[1]
        rows = self.control.health(since=promoted - timedelta(seconds=self.settings.window_s), until=promoted)
        if at - promoted > WRITTEN:
            self._before = (promoted, rows)
        return rows

    def _take_out(
        self, state: ExperimentState, phase: Phase, variant: str, control: str, reason: str, *, at: datetime
    ) -> str:
        def without(states: Mapping[str, dict[str, Any]]) -> dict[str, Any] | None:
            now = parse_state(state.name, states[state.name]) if state.name in states else None
            if now is None or not now.running or now.phase_at(to_ms(at)).number != phase.number:
                # Somebody was faster.
                return states.get(state.name)
            # The control takes it all: another new version should not get more because of this.
            shares = {variant: 0.0, control: phase.shares[control] + phase.shares[variant]}
            return now.ramped(at_ms=to_ms(at), by=BY, reason=reason, shares=shares).model_dump(mode="json")

        self.control.change_experiment(state.name, without, action="experiment.rollback", by=BY, at=at, reason=reason)
        return f"variant {variant} of experiment {state.name} gets nobody any more"

    def _go_back(self, version: str, reason: str, *, at: datetime) -> str:
        target = self.control.rollback_pointer(CHAMPION, by=BY, reason=reason, at=at, expected=version)
        return f"{CHAMPION} is {target} again, not {version}"


def _control_arms(state: ExperimentState) -> tuple[str, ...]:
    """Return the variants that show what everybody gets; the first one where none does."""
    answering = [variant for variant in state.definition.variants if not variant.shadow]
    plain = [v.name for v in answering if (v.model, v.pipeline) == (CHAMPION, DEFAULT)]
    return tuple(plain) or (answering[0].name,)


def _shown_since(state: ExperimentState, phase: Phase, variant: str) -> datetime:
    """Return when the variant began to get anybody, without a break until now."""
    since = phase.at_ms
    for earlier in reversed(state.timeline[: phase.number]):
        if not earlier.shares.get(variant):
            break
        since = min(since, earlier.at_ms)
    return from_ms(since)


def _per_bucket(rows: Sequence[ServedHealth]) -> float:
    return sum(row.health.count for row in rows) / max(len({row.at for row in rows}), 1)


def _served_by(
    *, versions: Sequence[str | None] = (), experiments: Sequence[str] = (), variants: Sequence[str] = ()
) -> Callable[[Served], bool]:
    def matches(served: Served) -> bool:
        return (
            (not versions or served.version in versions)
            and (not experiments or served.experiment in experiments)
            and (not variants or served.variant in variants)
        )

    return matches
