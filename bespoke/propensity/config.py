"""What one score is: what it foretells, how far ahead, and how its trees grow."""

from enum import StrEnum

from pydantic import BaseModel, ConfigDict, Field


class Target(StrEnum):
    """What happens, or does not, within the horizon."""

    PURCHASE = "purchase"
    """The person buys something."""
    CHURN = "churn"
    """Nothing is heard of the person."""


class PropensityConfig(BaseModel):
    """The settings of one score; unknown keys are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    target: Target = Field(description="purchase: buys within the horizon; churn: does nothing within it.")
    horizon_days: int = Field(ge=1, le=365, description="How many days ahead the score looks.")
    active_days: int = Field(
        default=60, ge=1, le=3650, description="Who has been silent for longer is not learned from."
    )
    step_days: int = Field(default=7, ge=1, le=365, description="Days from one look back to the next.")
    held_out_share: float = Field(
        default=0.2,
        gt=0,
        le=0.4,
        description="Share of the looks back, the latest ones, to calibrate on and to test on.",
    )
    max_trees: int = Field(default=1000, ge=1, le=10_000, description="Trees at most; fewer where more do not help.")
    patience: int = Field(default=50, ge=1, le=1000, description="Trees without a gain after which growing stops.")
    learning_rate: float = Field(default=0.04, gt=0, le=1, description="How much of its answer each tree gives.")
    leaves: int = Field(default=15, ge=2, le=1024, description="Leaves of a tree at most.")
    leaf_rows: int = Field(default=100, ge=1, le=1_000_000, description="Examples in a leaf at least.")
    signal_share: float = Field(default=0.6, gt=0, le=1, description="Share of the signals that each tree may use.")
    row_share: float = Field(default=0.7, gt=0, le=1, description="Share of the examples that each tree sees.")
    l2: float = Field(default=5.0, ge=0, le=1e6, description="Strength of the pull of a leaf towards zero.")
