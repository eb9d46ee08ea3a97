"""What an answer is made with: the model, the pipeline, and the assignments that led there."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from bespoke.experiments.declaration import CHAMPION, DEFAULT, Isolation, Variant


class Kept(NamedTuple):
    """A stored assignment."""

    variant: str
    phase: int
    """The phase in which it was made."""
    at_ms: int


StoredAssignments = Mapping[tuple[str, str], Kept]
"""Stored assignments by (key of the experiment, unit)."""


@dataclass(frozen=True, slots=True)
class Assignment:
    """One unit's variant in one experiment."""

    experiment: str
    variant: str
    unit: str
    """The id that was assigned: a user id, or ``anonymous:`` and an anonymous id."""
    phase: int
    """The phase in which it was assigned."""
    at_ms: int
    key: str
    """What it is stored under, see :attr:`Experiment.key`."""
    override: bool = False
    """A tester asked for it: neither stored nor to be counted in read-outs."""
    new: bool = False
    """Whether it is to be stored."""
    replaces: str | None = None
    """The stored variant that no longer holds, since nobody gets it any more."""


@dataclass(frozen=True, slots=True)
class Placement:
    """How one request is answered."""

    model: str = CHAMPION
    """A pointer, or a fixed NAME@VERSION."""
    pipeline: str = DEFAULT
    experiment: str | None = None
    """The experiment that chose the model, or else the pipeline; ``holdout``; None: in no experiment."""
    variant: str | None = None
    assignments: tuple[Assignment, ...] = ()
    """One per experiment that the unit is in, of different layers."""
    shadows: tuple[Variant, ...] = ()
    """Variants whose lists are computed and logged, and never answer."""
    isolation: Isolation = "thread"

    @property
    def new_assignments(self) -> tuple[Assignment, ...]:
        """Those to be stored."""
        return tuple(one for one in self.assignments if one.new)


PLAIN = Placement()
"""The placement of whoever is in no experiment."""
