"""What config/experiments.toml declares: experiments with their variants and ramps, and the holdout."""

from collections.abc import Mapping
from enum import StrEnum
from functools import cached_property
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from bespoke.clock import duration_ms
from bespoke.errors import shown

CHAMPION = "champion"
"""The pointer that answers where no experiment says otherwise."""
DEFAULT = "default"
"""The pipeline, and the layer, where nothing else is named."""
HOLDOUT = "holdout"
"""What the units of the holdout are logged as being in."""
LAYER_SALT = "layer:"
"""Begins the salt of a layer's own line, so that no experiment may use it."""
SHARE_TOLERANCE = 1e-6
NAME = r"^[a-z][a-z0-9_-]*$"
_MODEL = r"^[A-Za-z0-9_.-]+(@[A-Za-z0-9_.-]+)?$"


class Unit(StrEnum):
    """What is assigned to a variant as a whole."""

    PERSON = "person"
    """The user id where one is known, else the anonymous id."""
    DEVICE = "device"
    """The anonymous id where one is sent, else the person."""


class Start(StrEnum):
    """When an experiment comes into force."""

    WITH_UP = "with up"
    BY_HAND = "by hand"


Isolation = Literal["thread", "process"]


class _Declared(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Variant(_Declared):
    """One arm of an experiment."""

    name: str = Field(pattern=NAME, max_length=64, description="Name in exposures and reports.")
    share: float = Field(ge=0, le=1, description="Share of the experiment's units that get it, 0..1.")
    model: str = Field(
        default=CHAMPION,
        pattern=_MODEL,
        max_length=200,
        description="Pointer to the model it serves, such as champion, or a fixed NAME@VERSION.",
    )
    pipeline: str = Field(
        default=DEFAULT, pattern=NAME, max_length=64, description="Pipeline of config/pipelines.toml."
    )
    shadow: bool = Field(default=False, description="Compute and log its lists beside the answer, and never answer.")
    isolation: Isolation = Field(default="thread", description="process: in a deployment of its own.")

    @model_validator(mode="after")
    def _check_shadow(self) -> "Variant":
        if self.shadow and self.share > 0:
            raise ValueError(f"shadow variant {self.name!r}: got share {self.share:g}, expected 0; it never answers")
        return self


class RampStep(_Declared):
    """From so long after the start on, other shares hold."""

    after: str = Field(description='How long after the start, such as "2 days".')
    shares: dict[str, float] = Field(
        default_factory=dict, description="Shares by variant; those not named keep their proportions in what is left."
    )
    traffic: float | None = Field(default=None, ge=0, le=1, description="Share of the layer's units from then on.")

    @field_validator("after")
    @classmethod
    def _check_after(cls, after: str) -> str:
        duration_ms(after)
        return after

    @model_validator(mode="after")
    def _check_change(self) -> "RampStep":
        if not self.shares and self.traffic is None:
            raise ValueError(f"the ramp step after {self.after} changes nothing; give it shares or traffic")
        return self

    @property
    def after_ms(self) -> int:
        """How long after the start, in milliseconds."""
        return duration_ms(self.after)


class Experiment(_Declared):
    """A split of units over variants. What runs of it, since when and in which shares, is its state."""

    name: str = Field(pattern=NAME, max_length=64, description="Name in exposures and reports.")
    salt: str = Field(min_length=1, max_length=200, description="Makes this split independent of every other.")
    unit: Unit = Field(default=Unit.PERSON, description="What is assigned as a whole.")
    layer: str = Field(
        default=DEFAULT, pattern=NAME, max_length=64, description="A unit is in one experiment of a layer at most."
    )
    traffic: float = Field(default=1.0, gt=0, le=1, description="Share of the layer's units that take part, 0..1.")
    audience: str | None = Field(default=None, description="Only people in this segment take part.")
    start: Start = Field(default=Start.WITH_UP, description="Whether `bespoke up` starts it.")
    variants: tuple[Variant, ...] = Field(min_length=1, description="The arms; their shares sum to 1.")
    ramp: tuple[RampStep, ...] = Field(default=(), description="How shares change with time.")

    @model_validator(mode="after")
    def _check(self) -> "Experiment":
        if self.name == HOLDOUT:
            raise ValueError("'holdout' is no name for an experiment; it is what the holdout is logged as")
        if self.salt.startswith(LAYER_SALT):
            raise ValueError(f"salt: got {shown(self.salt)}, expected one that does not begin with {LAYER_SALT!r}")
        names = [variant.name for variant in self.variants]
        repeated = sorted({name for name in names if names.count(name) > 1})
        if repeated:
            raise ValueError(f"variant names repeat: {', '.join(repeated)}")
        _check_sum(self.shares)
        self._check_ramp()
        return self

    def _check_ramp(self) -> None:
        shares, before = self.shares, -1
        for step in self.ramp:
            if step.after_ms <= before:
                raise ValueError(f"the ramp step after {step.after} is not later than the one before it")
            shares, before = changed_shares(shares, step.shares), step.after_ms

    @property
    def shares(self) -> dict[str, float]:
        """The declared shares of the variants that answer."""
        return {variant.name: variant.share for variant in self.variants if not variant.shadow}

    @property
    def key(self) -> str:
        """What its stored assignments are kept under: a new salt begins anew."""
        return f"{self.name}:{self.salt}"

    @property
    def peak_traffic(self) -> float:
        """The largest share of its layer that its declaration asks for."""
        return max([self.traffic, *(step.traffic for step in self.ramp if step.traffic is not None)])

    @property
    def varies_model(self) -> bool:
        """Whether its variants that answer say which model does."""
        return any(variant.model != CHAMPION for variant in self.variants if not variant.shadow)

    @property
    def varies_pipeline(self) -> bool:
        """Whether its variants that answer say which pipeline does."""
        return any(variant.pipeline != DEFAULT for variant in self.variants if not variant.shadow)

    @cached_property
    def by_name(self) -> Mapping[str, Variant]:
        """Its variants by name."""
        return {variant.name: variant for variant in self.variants}


class Holdout(_Declared):
    """Units that are in no experiment, so that all experiments together can be held against them."""

    share: float = Field(gt=0, lt=1, description="Share of all units that are held out, 0..1.")
    salt: str = Field(min_length=1, max_length=200, description="Decides who; a new one holds out others.")
    model: str = Field(default=CHAMPION, pattern=_MODEL, max_length=200, description="What answers them.")
    pipeline: str = Field(default=DEFAULT, pattern=NAME, max_length=64, description="Pipeline that answers them.")

    @property
    def key(self) -> str:
        """What its stored assignments are kept under."""
        return f"{HOLDOUT}:{self.salt}"


def changed_shares(shares: Mapping[str, float], change: Mapping[str, float]) -> dict[str, float]:
    """Return ``shares`` with those of ``change``; the variants that it does not name keep their proportions.

    Raises:
        ValueError: an unknown variant, a share that is none, or shares that cannot sum to 1.

    >>> changed_shares({"a": 0.5, "b": 0.25, "c": 0.25}, {"a": 0.8})
    {'a': 0.8, 'b': 0.1, 'c': 0.1}
    """
    unknown = sorted(change.keys() - shares.keys())
    if unknown:
        raise ValueError(f"no variant {unknown[0]!r} that answers; there are: {', '.join(shares)}")
    for name, share in change.items():
        if not 0 <= share <= 1:
            raise ValueError(f"variant {name!r}: got share {share:g}, expected 0 to 1")
    left = 1.0 - sum(change.values())
    others = sum(share for name, share in shares.items() if name not in change)
    scale = left / others if others else 0.0
    result = {name: change.get(name, round(share * max(scale, 0.0), 12)) for name, share in shares.items()}
    _check_sum(result)
    return result


def _check_sum(shares: Mapping[str, float]) -> None:
    total = sum(shares.values())
    if abs(total - 1.0) > SHARE_TOLERANCE:
        raise ValueError(f"shares sum to {total:.2f}, expected 1.00")
