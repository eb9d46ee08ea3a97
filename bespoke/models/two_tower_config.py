"""What two_tower trains with."""

from pydantic import Field

from bespoke.models.base import ModelConfig


class TwoTowerConfig(ModelConfig):
    """Sizes, training and ageing of two_tower."""

    factors: int = Field(default=64, ge=2, le=1024, description="Numbers per person and per item.")
    epochs: int = Field(default=30, ge=1, le=1000, description="Rounds over everybody's lines, at most.")
    batch_people: int = Field(
        default=1024, ge=1, le=65536, description="People per step; fewer where that gives too few steps."
    )
    targets: int = Field(default=8, ge=1, le=1024, description="Lines that are predicted from one history.")
    history_lines: int = Field(default=500, ge=1, le=5000, description="Newest lines of a history that count.")
    full_softmax_items: int = Field(
        default=8192, ge=0, le=10_000_000, description="Up to so many items each choice is held against all of them."
    )
    negatives: int = Field(
        default=4096, ge=0, le=1_000_000, description="With more items: evenly drawn ones beside those of the batch."
    )
    temperature: float = Field(default=0.1, gt=0.01, le=10, description="What cosines are divided by; low is sharp.")
    learning_rate: float = Field(default=0.01, gt=0, le=10, description="Length of the first steps; it falls to zero.")
    weight_decay: float = Field(default=0.01, ge=0, le=100, description="Pull of the ids' rows towards zero.")
    person_id_dropout: float = Field(
        default=0.5, ge=0, le=1, description="Share of examples that know the history alone; at 1 people have no ids."
    )
    item_id_dropout: float = Field(
        default=0.1, ge=0, le=1, description="Share of items per step that their content alone stands for."
    )
    history_dropout: float = Field(
        default=0.1, ge=0, lt=1, description="Share of history lines left out per step, and of people left without any."
    )
    person_balance: float = Field(
        default=0.5, ge=0, le=1, description="0: every line counts the same; 1: every person counts the same."
    )
    content_buckets: int = Field(default=8192, ge=1, le=10_000_000, description="Rows that words share by hashing.")
    validation_people: int = Field(
        default=2000,
        ge=0,
        le=1_000_000,
        description="People whose last lines decide when to stop, at most; 0 for none.",
    )
    patience: int = Field(default=3, ge=1, le=1000, description="Epochs without a better ranking before it stops.")
    bfloat16: bool = Field(default=True, description="Half precision in large products, where the processor has it.")
    half_life_days: float = Field(
        default=30.0, ge=0, le=3650, description="Age at which a line counts half; 0 for no ageing."
    )
    popularity_half_life_days: float = Field(
        default=14.0, gt=0, le=3650, description="Age at which a line counts half for popularity."
    )
