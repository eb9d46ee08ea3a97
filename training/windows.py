"""Windows: which days a model learns from, which its settings and weights are chosen on, which it is measured on."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from bespoke.clock import to_ms
from bespoke.models.bundle import Window

HELD_OUT = timedelta(days=7)
"""How long validation lasts, and how long the test."""


@dataclass(frozen=True, slots=True)
class Windows:
    """Three consecutive stretches of time: train, validate, test. Each begins where the one before it ends.

    Learning sees ``[since, validate_from)``; settings and blend weights are chosen on ``[validate_from, test_from)``;
    metrics and the gate's verdict come from ``[test_from, until)``. What is chosen is then learned anew on all days up
    to ``test_from`` for the test, and up to ``until`` for publication.
    """

    until: datetime
    length: timedelta
    """How far a model looks back from its cut."""

    @property
    def test_from(self) -> datetime:
        """Return the cut before the test days."""
        return self.until - HELD_OUT

    @property
    def validate_from(self) -> datetime:
        """Return the cut before the validation days."""
        return self.test_from - HELD_OUT

    def seen(self, cut: datetime) -> Window:
        """Return the window of a model that is trained up to ``cut``."""
        return Window(since=cut - self.length, until=cut)

    def validation_cuts(self, count: int) -> Iterator[datetime]:
        """Yield the cuts of rolling-origin validation, newest first; none of their days reaches into the test.

        Source: Tashman 2000, "Out-of-sample tests of forecasting accuracy".
        """
        for number in range(count):
            yield self.validate_from - number * HELD_OUT

    @property
    def length_ms(self) -> int:
        """Return how far a model looks back, in milliseconds."""
        return round(self.length.total_seconds() * 1000)

    @property
    def until_ms(self) -> int:
        """Return the end, in milliseconds."""
        return to_ms(self.until)
