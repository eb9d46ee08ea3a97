"""The gate's verdict on a trained model: what it was compared with, and whether it may serve. Part of its bundle."""

from pydantic import BaseModel, ConfigDict, FiniteFloat


class Comparison(BaseModel):
    """A model against another one on the same cases, paired."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    against: str
    """What the other one is to us: ``champion``, or the kind of a baseline."""
    metric: str
    mean: FiniteFloat
    other_mean: FiniteFloat
    low: float | None
    """Lower end of the 95% interval of the difference; None where there are too few people for one."""
    high: float | None
    cases: int
    people: int

    def __str__(self) -> str:
        interval = "" if self.low is None or self.high is None else f" ({self.low:+.4f} to {self.high:+.4f})"
        return f"{self.against}: {self.metric} {self.mean - self.other_mean:+.4f}{interval} over {self.other_mean:.4f}"


class Verdict(BaseModel):
    """Whether a model may serve, and why not."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    passed: bool
    reasons: tuple[str, ...] = ()
    """Why it did not pass."""
    comparisons: tuple[Comparison, ...] = ()
    forced: bool = False
    """Published although it did not pass or was not measured, since somebody said so."""

    @property
    def may_serve(self) -> bool:
        """Whether pointers may be moved to it without saying so again."""
        return self.passed or self.forced

    @property
    def state(self) -> str:
        """In a word: passed, forced or rejected."""
        return "passed" if self.passed else "forced" if self.forced else "rejected"
