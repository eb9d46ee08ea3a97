"""Splitting traffic: which variant of which experiments answers a request."""

from bisect import bisect_right
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from itertools import accumulate

from bespoke.errors import NotFound
from bespoke.events import ANONYMOUS, person_id
from bespoke.experiments.declaration import HOLDOUT, LAYER_SALT, Holdout, Unit, Variant
from bespoke.experiments.hashing import point
from bespoke.experiments.placement import PLAIN, Assignment, Kept, Placement, StoredAssignments
from bespoke.experiments.state import ExperimentState, Phase

Ids = tuple[str | None, str | None]
"""User id and anonymous id of a request; at least one of them."""
NOTHING_STORED: StoredAssignments = {}
NO_OVERRIDES: Mapping[str, str] = {}


def unit_ids(user_id: str | None, anonymous_id: str | None) -> tuple[str, ...]:
    """Return the units of a request, the one that keys the person first.

    >>> unit_ids("u1", "a1")
    ('u1', 'anonymous:a1')
    """
    person = str(person_id(user_id, anonymous_id))
    return (person,) if user_id is None or anonymous_id is None else (person, ANONYMOUS + anonymous_id)


@dataclass(frozen=True, slots=True)
class _Split:
    """One phase, ready for lookups."""

    at_ms: int
    number: int
    end: float
    """End of the experiment's part of its layer's line."""
    names: tuple[str, ...]
    """Variants that somebody gets."""
    ends: tuple[float, ...]
    """Where each of them ends on [0, 1); the last one at 1."""

    @classmethod
    def of(cls, phase: Phase, *, offset: float) -> "_Split":
        shares = {name: share for name, share in phase.shares.items() if share > 0}
        # Rounding may leave the shares a hair short of 1.
        ends = (*list(accumulate(shares.values()))[:-1], 1.0)
        end = offset + phase.traffic
        return cls(phase.at_ms, phase.number, 1.0 if end > 1 - 1e-9 else end, tuple(shares), ends)

    def variant(self, at: float) -> str:
        return self.names[bisect_right(self.ends, at)]


@dataclass(frozen=True, slots=True)
class _Running:
    """One experiment, ready for lookups."""

    state: ExperimentState
    name: str
    key: str
    salt: str
    by_device: bool
    audience: str | None
    offset: float
    splits: tuple[_Split, ...]
    variants: Mapping[str, Variant]
    shadows: tuple[Variant, ...]

    @classmethod
    def of(cls, state: ExperimentState) -> "_Running":
        declared = state.definition
        return cls(
            state,
            declared.name,
            declared.key,
            declared.salt,
            declared.unit is Unit.DEVICE,
            declared.audience,
            state.offset,
            tuple(_Split.of(phase, offset=state.offset) for phase in state.timeline),
            declared.by_name,
            tuple(variant for variant in declared.variants if variant.shadow),
        )

    def split(self, at_ms: int) -> _Split:
        """Return the phase in force; before the first one, that one."""
        for split in reversed(self.splits):
            if split.at_ms <= at_ms:
                return split
        return self.splits[0]

    def assigned(self, unit: str, variant: str, *, phase: int, at_ms: int, replaces: str | None = None) -> Assignment:
        return Assignment(self.name, variant, unit, phase, at_ms, self.key, new=True, replaces=replaces)


@dataclass(frozen=True, slots=True)
class _Request:
    """Who is to be placed."""

    people: tuple[str, ...]
    """The person's ids, the one that keys them first."""
    device: str
    at_ms: int
    segments: Collection[str]
    stored: StoredAssignments

    def units(self, running: _Running) -> tuple[str, ...]:
        """Return the ids that an experiment may know the unit by; new assignments are made under the first."""
        return (self.device,) if running.by_device else self.people

    def invited(self, running: _Running) -> bool:
        return running.audience is None or running.audience in self.segments


@dataclass(frozen=True, slots=True)
class _Layer:
    """Experiments that exclude one another."""

    salt: str
    running: tuple[_Running, ...]

    def assign(self, request: _Request) -> tuple[_Running, Assignment] | None:
        """Return the one experiment of the layer that the unit is in, if any."""
        kept = self._kept(request) if request.stored else None
        if kept is not None:
            running, unit, found = kept
            return (running, _taken_over(running, unit, found, request)) if request.invited(running) else None
        chosen = self._by_hash(request)
        if chosen is None:
            return None
        unit, split = request.units(chosen)[0], chosen.split(request.at_ms)
        variant = split.variant(point(chosen.salt, unit))
        return chosen, chosen.assigned(unit, variant, phase=split.number, at_ms=request.at_ms)

    def _kept(self, request: _Request) -> tuple[_Running, str, Kept] | None:
        """Return the stored assignment that holds: the person's own before the device's, the earliest of several."""
        found: list[tuple[int, int, _Running, str, Kept]] = []
        for running in self.running:
            for rank, unit in enumerate(request.units(running)):
                kept = request.stored.get((running.key, unit))
                if kept is not None:
                    found.append((rank, kept.at_ms, running, unit, kept))
        return min(found, key=lambda one: one[:2])[2:] if found else None

    def _by_hash(self, request: _Request) -> _Running | None:
        at: float | None = None
        for running in self.running:
            split = running.split(request.at_ms)
            if running.offset > 0 or split.end < 1:
                # One unit per layer, so one point.
                at = point(self.salt, request.units(running)[0]) if at is None else at
                if not running.offset <= at < split.end:
                    continue
            return running if request.invited(running) else None
        return None


@dataclass(frozen=True, slots=True)
class Traffic:
    """Everything that splits traffic, immutable; made once per change by :meth:`of`, shared by all requests."""

    layers: tuple[_Layer, ...] = ()
    holdout: Holdout | None = None
    waiting: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Running experiments that split nothing yet, with the pointers of their variants that name nothing.

    Such a variant has nothing to show, so nobody is in it; a version that cannot be loaded is another matter.
    """
    by_name: Mapping[str, _Running] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        states: Mapping[str, ExperimentState],
        *,
        holdout: Holdout | None = None,
        unset: Collection[str] = (),
    ) -> "Traffic":
        """Put together what is in force.

        Args:
            states: experiments by name; those that do not run are passed over.
            holdout: who is in no experiment.
            unset: pointers that name nothing; experiments with such a variant wait.
        """
        running = {name: state for name, state in sorted(states.items()) if state.running}
        missing = {
            name: tuple(dict.fromkeys(v.model for v in state.definition.variants if v.model in unset))
            for name, state in running.items()
        }
        waiting = {name: pointers for name, pointers in missing.items() if pointers}
        ready = {name: _Running.of(state) for name, state in running.items() if name not in waiting}
        layers: dict[str, list[_Running]] = {}
        for one in ready.values():
            layers.setdefault(one.state.definition.layer, []).append(one)
        return cls(
            tuple(_Layer(LAYER_SALT + name, tuple(inside)) for name, inside in sorted(layers.items())),
            holdout,
            waiting,
            ready,
        )

    @property
    def empty(self) -> bool:
        """Whether everybody gets the same: nothing has to be read or stored."""
        return not self.layers and self.holdout is None

    @property
    def audiences(self) -> frozenset[str]:
        """The segments that decide who takes part."""
        return frozenset(one.audience for one in self.by_name.values() if one.audience is not None)

    def check_overrides(self, overrides: Mapping[str, str]) -> None:
        """Check what a tester asks for.

        Raises:
            NotFound: no such experiment splits traffic, or it has no such variant.
        """
        for name, variant in overrides.items():
            running = self.by_name.get(name)
            if running is None:
                known = ", ".join(self.by_name) or "none"
                raise NotFound(f"experiment {name!r} does not split traffic now; these do: {known}")
            if variant not in running.variants:
                raise NotFound(f"experiment {name!r} has no variant {variant!r}; it has: {', '.join(running.variants)}")

    def place(
        self,
        ids: Ids,
        *,
        at_ms: int,
        segments: Collection[str] = (),
        stored: StoredAssignments = NOTHING_STORED,
        overrides: Mapping[str, str] = NO_OVERRIDES,
    ) -> Placement:
        """Return how a request is answered.

        Args:
            ids: user id and anonymous id, either may be None.
            at_ms: the time of the request; it decides about ramp steps.
            segments: the segments that the person is in.
            stored: what the serving state store knows of :func:`unit_ids`.
            overrides: experiment -> variant that a tester asks for; unknown ones are passed over.
        """
        if self.empty:
            return PLAIN
        people = unit_ids(*ids)
        request = _Request(people, people[-1], at_ms, segments, stored)
        if self.holdout is not None and not overrides:
            held = _held_out(self.holdout, request)
            if held is not None:
                return Placement(self.holdout.model, self.holdout.pipeline, HOLDOUT, HOLDOUT, (held,))
        placed = [found for layer in self.layers if (found := _assigned(layer, request, overrides)) is not None]
        return _combined(placed)


def _assigned(layer: _Layer, request: _Request, overrides: Mapping[str, str]) -> tuple[_Running, Assignment] | None:
    for running in layer.running if overrides else ():
        variant = overrides.get(running.name)
        if variant is not None and variant in running.variants:
            unit, phase = request.units(running)[0], running.split(request.at_ms).number
            return running, Assignment(running.name, variant, unit, phase, request.at_ms, running.key, override=True)
    return layer.assign(request)


def _taken_over(running: _Running, unit: str, kept: Kept, request: _Request) -> Assignment:
    """Return a stored assignment as the request's: under the person's id, and out of a variant that nobody gets."""
    own, split = request.units(running)[0], running.split(request.at_ms)
    if kept.variant in split.names:
        new = unit != own
        return Assignment(running.name, kept.variant, own, kept.phase, kept.at_ms, running.key, new=new)
    # Drawn anew: the old point would send all of them to the variants beside the one they leave.
    variant = split.variant(point(f"{running.salt}:{split.number}", own))
    replaces = kept.variant if unit == own else None
    return running.assigned(own, variant, phase=split.number, at_ms=request.at_ms, replaces=replaces)


def _held_out(holdout: Holdout, request: _Request) -> Assignment | None:
    own, key = request.people[0], holdout.key
    for unit in request.people:
        kept = request.stored.get((key, unit))
        if kept is not None:
            return Assignment(HOLDOUT, HOLDOUT, own, kept.phase, kept.at_ms, key, new=unit != own)
    if point(holdout.salt, own) < holdout.share:
        return Assignment(HOLDOUT, HOLDOUT, own, 1, request.at_ms, key, new=True)
    return None


def _combined(placed: Iterable[tuple[_Running, Assignment]]) -> Placement:
    """Return one answer from the assignments of all layers: one layer chooses the model, one the pipeline."""
    placed = tuple(placed)
    if not placed:
        return PLAIN
    chosen = [(running, assignment, running.variants[assignment.variant]) for running, assignment in placed]
    named = max(chosen, key=_weight)
    variants = [variant for _, _, variant in chosen]
    model = next((variant.model for variant in variants if variant.model != PLAIN.model), PLAIN.model)
    pipeline = next((variant.pipeline for variant in variants if variant.pipeline != PLAIN.pipeline), PLAIN.pipeline)
    return Placement(
        model,
        pipeline,
        named[1].experiment,
        named[1].variant,
        tuple(assignment for _, assignment in placed),
        tuple(shadow for running, _ in placed for shadow in running.shadows),
        "process" if any(variant.isolation == "process" for variant in variants) else "thread",
    )


def _weight(one: tuple[_Running, Assignment, Variant]) -> tuple[bool, bool]:
    declared = one[0].state.definition
    return declared.varies_model, declared.varies_pipeline
