"""Metrics of experiments: what is counted of each unit, and how it becomes one figure per arm."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

from bespoke.errors import ConfigError
from bespoke.statistics.arm import Arm, Values, adjusted, capped, quantile_contributions, ratio_contributions

Kind = Literal["conversion", "mean", "ratio", "quantile"]


class Metric(BaseModel):
    """How one number per unit becomes one figure per arm."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(pattern=r"^[A-Za-z][\w .-]*$", max_length=64, description="Name in read-outs.")
    kind: Kind = Field(
        description="conversion: share of units with any; mean: per unit; ratio: sum over sum of a denominator; "
        "quantile: over units."
    )
    q: float | None = Field(default=None, gt=0, lt=1, description="Which quantile, for kind quantile.")
    cap: float | None = Field(
        default=None, gt=0.5, lt=1, description="Values beyond this quantile of all units are pulled in to it."
    )
    better: Literal["more", "less"] = Field(default="more", description="Which direction is good.")
    guardrail: bool = Field(default=False, description="It must not get worse; it decides nothing otherwise.")
    tolerated: float = Field(
        default=0.0, ge=0, lt=1, description="Of a guardrail: how much worse, relative, is still acceptable."
    )

    @model_validator(mode="after")
    def _check(self) -> "Metric":
        if (self.q is not None) != (self.kind == "quantile"):
            raise ValueError(f"metric {self.name!r}: q belongs to kind 'quantile', and to it alone")
        if self.cap is not None and self.kind not in ("mean", "ratio"):
            raise ValueError(f"metric {self.name!r}: cap belongs to kinds 'mean' and 'ratio'")
        return self

    @property
    def smaller_is_better(self) -> bool:
        """Whether less of it is good."""
        return self.better == "less"

    def arms(
        self,
        values: Sequence[Values],
        denominators: Sequence[Values] | None = None,
        before: Sequence[Values] | None = None,
    ) -> list[Arm]:
        """Return the metric of each arm.

        Args:
            values: by arm, a number per unit.
            denominators: the same of what a ratio is taken of.
            before: the same of what units did before, to adjust for; not for quantiles.

        Raises:
            ConfigError: a ratio without denominators.
            ValueError: the metric cannot be computed of these units.
        """
        parts = self._contributions(values, denominators)
        if before is None or self.kind == "quantile":
            return [Arm.of(part) for part in parts]
        bases = [float(part.mean()) if len(part) else 0.0 for part in parts]
        return [Arm.of(part, base=base) for part, base in zip(adjusted(parts, before), bases, strict=True)]

    def _contributions(self, values: Sequence[Values], denominators: Sequence[Values] | None) -> list[Values]:
        if self.cap is not None:
            values = capped(values, share=self.cap)
        if self.kind == "conversion":
            return [(part > 0).astype(np.float64) for part in values]
        if self.kind == "quantile":
            assert self.q is not None
            return [quantile_contributions(part, q=self.q) if len(part) else part for part in values]
        if self.kind == "mean":
            return list(values)
        if denominators is None:
            raise ConfigError(f"metric {self.name!r} is a ratio: it needs a denominator")
        # An arm without anybody says nothing, and keeps none of the others from being compared.
        pairs = zip(values, denominators, strict=True)
        return [ratio_contributions(top, bottom) if len(top) else top for top, bottom in pairs]
