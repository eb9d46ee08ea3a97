"""Read-outs from the lake: what is counted of whom, held against what was written there by hand."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bespoke.clock import DAY_MS, HOUR_MS
from bespoke.events import RECOMMENDATION_SERVED, RECOMMENDATION_VIEWED, Event, EventType, MessageId, lines_of
from bespoke.experiments import Experiment, ExperimentState, Unit
from bespoke.statistics.declared import Counted, DeclaredMetric, load_metrics
from monitoring.populations import population
from monitoring.readouts import blocks, experiment_readout
from storage.exposures import Question, exposures
from storage.lake import Lake

START = 1_760_000_000_000 // DAY_MS * DAY_MS
CONVERSION = DeclaredMetric(name="conversion", kind="conversion", event="purchase")
REVENUE = DeclaredMetric(name="revenue", kind="mean", event="purchase", value="revenue")
CLICKS = DeclaredMetric(
    name="click_through",
    kind="ratio",
    event="click",
    joined="recommendation",
    denominator=Counted(event=RECOMMENDATION_SERVED),
)


class Story:
    """Events, told one by one, written to a lake."""

    def __init__(self, lake: Lake) -> None:
        self.lake = lake
        self.events: list[Event] = []

    def tell(
        self, name: str, at_ms: int, *, user: str | None = None, device: str | None = None, **properties: Any
    ) -> None:
        number = len(self.events)
        self.events.append(
            Event(
                MessageId(f"m{number}"),
                EventType.TRACK,
                name,
                user,
                device,
                at_ms,
                at_ms,
                properties=properties,
                lines=lines_of(EventType.TRACK, name, properties),
            )
        )

    def served(
        self, person: str, variant: str, at_ms: int, *, list_id: str | None = None, phase: int = 1, **more: Any
    ) -> None:
        assigned = {"experiment": "hero", "variant": variant, "phase": phase, "override": more.pop("override", False)}
        who = {"device": person[1:]} if person.startswith("~") else {"user": person}
        id = list_id or f"r{len(self.events)}"
        self.tell(RECOMMENDATION_SERVED, at_ms, **who, recommendation_id=id, assignments=[assigned], **more)

    def bought(self, person: str, at_ms: int, *, price: float = 10.0, quantity: float = 1.0) -> None:
        self.tell(
            "Order Completed", at_ms, user=person, products=[{"product_id": "p", "price": price, "quantity": quantity}]
        )

    def write(self) -> Lake:
        self.lake.write_events(0, 0, len(self.events), self.events)
        return self.lake


@pytest.fixture
def story(tmp_path: Path) -> Story:
    return Story(Lake(tmp_path / "lake"))


def question(**changes: Any) -> Question:
    asked = {
        "experiment": "hero",
        "unit": Unit.PERSON,
        "since_ms": START,
        "until_ms": START + 30 * DAY_MS,
        "phases": (1,),
    }
    return Question(**{**asked, **changes})


def units(lake: Lake, **changes: Any) -> dict[str, str]:
    with exposures(lake, question(**changes)) as found:
        return dict(zip(found.units["unit"].to_pylist(), found.units["variant"].to_pylist(), strict=True))


def sums(lake: Lake, counted: Counted, *, from_ms: int = 0, to_ms: int = 7 * DAY_MS) -> dict[str, float]:
    with exposures(lake, question()) as found:
        return dict(
            zip(found.units["unit"].to_pylist(), found.sums(counted, from_ms=from_ms, to_ms=to_ms), strict=True)
        )


def test_units_are_people_once_and_testers_never(story: Story) -> None:
    story.served("ann", "a", START + 1)
    story.served("ann", "a", START + 2)
    story.served("bob", "b", START + 1)
    story.served("tess", "b", START + 1, override=True)
    story.tell(RECOMMENDATION_SERVED, START + 1, user="carl", recommendation_id="x", assignments=[])
    assert units(story.write()) == {"ann": "a", "bob": "b"}


def test_whoever_saw_two_variants_is_left_out_and_counted(story: Story) -> None:
    story.served("ann", "a", START + 1)
    story.served("ann", "b", START + 2)
    story.served("bob", "b", START + 1)
    lake = story.write()
    assert units(lake) == {"bob": "b"}
    with exposures(lake, question()) as found:
        assert found.crossed == 1


def test_sign_in_makes_one_unit_of_device_and_person(story: Story) -> None:
    story.served("~phone", "a", START + 1)
    story.tell("Signed In", START + 2, user="ann", device="phone")
    story.bought("ann", START + 3)
    lake = story.write()
    assert units(lake) == {"ann": "a"}
    assert sums(lake, CONVERSION.counted) == {"ann": 1.0}


def test_device_of_several_people_stays_with_nobody(story: Story) -> None:
    story.served("~kiosk", "a", START + 1)
    for user in ("ann", "bob"):
        story.tell("Signed In", START + 2, user=user, device="kiosk")
    assert units(story.write()) == {"anonymous:kiosk": "a"}


def test_devices_are_units_where_the_experiment_says_so(story: Story) -> None:
    story.tell(
        RECOMMENDATION_SERVED,
        START + 1,
        user="ann",
        device="phone",
        recommendation_id="r",
        assignments=[{"experiment": "hero", "variant": "a", "phase": 1, "override": False}],
    )
    assert units(story.write(), unit=Unit.DEVICE) == {"anonymous:phone": "a"}


def test_what_was_viewed_is_the_exposure_where_clients_say_so(story: Story) -> None:
    story.served("ann", "a", START + 1, list_id="seen")
    story.served("bob", "b", START + 1, list_id="unseen")
    story.tell(RECOMMENDATION_VIEWED, START + HOUR_MS, user="ann", recommendation_id="seen")
    lake = story.write()
    assert units(lake) == {"ann": "a"}
    # The list that was seen is one of those that count.
    assert sums(lake, Counted(event=RECOMMENDATION_SERVED)) == {"ann": 1.0}


def test_outcomes_count_within_the_window_after_the_first_exposure(story: Story) -> None:
    story.served("ann", "a", START + DAY_MS)
    for at_ms in (DAY_MS - 1, DAY_MS, 8 * DAY_MS - 1, 8 * DAY_MS):
        story.bought("ann", START + at_ms, price=3.0, quantity=2.0)
    lake = story.write()
    assert sums(lake, Counted(event="Order Completed")) == {"ann": 2.0}
    assert sums(lake, REVENUE.counted) == {"ann": 12.0}
    assert sums(lake, Counted(event="purchase", value="quantity")) == {"ann": 4.0}
    assert sums(lake, REVENUE.counted, from_ms=-14 * DAY_MS, to_ms=0) == {"ann": 6.0}


def test_what_happened_before_the_experiment_is_before(story: Story) -> None:
    story.bought("ann", START - DAY_MS)
    story.served("ann", "a", START + 1)
    assert sums(story.write(), REVENUE.counted, from_ms=-14 * DAY_MS, to_ms=0) == {"ann": 10.0}


def test_clicks_join_by_recommendation_whoever_sends_them(story: Story) -> None:
    story.served("ann", "a", START + 1, list_id="one")
    story.tell("Product Clicked", START + 2, device="unknown", recommendation_id="one", product_id="p")
    story.tell("Product Clicked", START + 2, user="ann", product_id="p")
    assert sums(story.write(), CLICKS.counted) == {"ann": 1.0}


def test_numbers_in_properties_are_summed_and_others_are_nothing(story: Story) -> None:
    story.served("ann", "a", START + 1)
    for score in (4, "2.5", "many", None):
        story.tell("Rated", START + 2, user="ann", score=score)
    assert sums(story.write(), Counted(event="Rated", value="property:score")) == {"ann": 6.5}


def test_names_of_declarations_are_never_sql(story: Story) -> None:
    story.served("ann", "a", START + 1)
    lake = story.write()
    assert sums(lake, Counted(event="x' OR 1=1 --")) == {"ann": 0.0}
    assert units(lake, experiment="hero' OR 1=1 --") == {}


def test_an_empty_lake_has_nobody(tmp_path: Path) -> None:
    assert units(Lake(tmp_path)) == {}


def state(*, shares: Sequence[float] = (0.5, 0.5)) -> ExperimentState:
    variants = [{"name": name, "share": share} for name, share in zip("ab", shares, strict=True)]
    experiment = Experiment.model_validate({"name": "hero", "salt": "s", "variants": variants})
    return ExperimentState.begin(experiment, at_ms=START, by="test")


def crowd(
    story: Story,
    *,
    n: int,
    rates: Sequence[float],
    phase: int = 1,
    at_ms: int = START,
    shares: Sequence[float] = (0.5, 0.5),
) -> None:
    random = np.random.default_rng(len(story.events))
    for number in range(n):
        variant = int(random.random() < shares[1])
        person, now = f"p{phase}-{number}", at_ms + int(random.integers(DAY_MS))
        story.served(person, "ab"[variant], now, phase=phase, surface="home" if number % 2 else "cart")
        if random.random() < rates[variant]:
            story.bought(person, now + HOUR_MS)


def test_readout_is_what_was_planted(story: Story) -> None:
    crowd(story, n=4_000, rates=(0.2, 0.3))
    found = experiment_readout(story.write(), state(), [CONVERSION, REVENUE], at_ms=START + 10 * DAY_MS)
    conversion, revenue = found.readout.metrics
    assert sum(found.readout.units.values()) == 4_000
    assert conversion.comparisons[0].absolute.low < 0.1 < conversion.comparisons[0].absolute.high
    assert conversion.comparisons[0].verdict.outcome == "better"
    assert revenue.arms["a"].value == pytest.approx(10 * conversion.arms["a"].value)
    assert sorted(found.readout.cuts) == ["surface"]
    assert found.warnings == ()


def test_phases_of_other_shares_are_never_pooled(story: Story) -> None:
    # In the second phase everybody buys more, and most get b: pooled, b would look better than a.
    ramped = state(shares=(0.9, 0.1)).ramped(at_ms=START + 2 * DAY_MS, by="test", shares={"b": 0.9})
    crowd(story, n=500, rates=(0.1, 0.1), shares=(0.9, 0.1))
    crowd(story, n=1_500, rates=(0.5, 0.5), phase=2, at_ms=START + 2 * DAY_MS, shares=(0.1, 0.9))
    found = experiment_readout(story.write(), ramped, [CONVERSION], at_ms=START + 10 * DAY_MS)
    assert found.phases == (2,)
    assert found.readout.units["a"] + found.readout.units["b"] == 1_500
    assert not found.readout.sample_ratio.mismatch
    assert found.readout.metrics[0].comparisons[0].verdict.outcome == "open"


def test_phases_that_change_traffic_alone_are_read_together() -> None:
    wider = state().ramped(at_ms=START + DAY_MS, by="test", traffic=0.5)
    assert [[phase.number for phase in block] for block in blocks(wider, until_ms=START + 5 * DAY_MS)] == [[1, 2]]


def test_broken_split_and_crossing_people_are_warned_of(story: Story) -> None:
    crowd(story, n=1_000, rates=(0.2, 0.2), shares=(0.7, 0.3))
    for number in range(20):
        story.served(f"p1-{number}", "a", START + 2 * DAY_MS)
        story.served(f"p1-{number}", "b", START + 2 * DAY_MS)
    found = experiment_readout(story.write(), state(), [CONVERSION], at_ms=START + 3 * DAY_MS)
    told = " ".join(found.warnings)
    assert "was set" in told and "saw two variants" in told and "weekdays" in told
    assert found.readout.metrics[0].comparisons[0].verdict.outcome == "untrusted"


def test_population_counts_new_people_by_day_and_what_they_do(story: Story) -> None:
    for day in range(10):
        for number in range(4):
            story.tell("Product Viewed", START + day * DAY_MS, user=f"d{day}-{number}", product_id="p")
            story.tell("Product Viewed", START + day * DAY_MS + 1, user="regular", product_id="p")
        story.bought(f"d{day}-0", START + day * DAY_MS + 5)
    short = CONVERSION.model_copy(update={"window": "1 day"})
    found = population(story.write(), [short], since_ms=START, until_ms=START + 10 * DAY_MS)
    assert found.new_D.tolist() == [5, 4, 4, 4, 4, 4, 4, 4, 4, 4]
    assert found.arms(short)[0].value == pytest.approx(10 / 41)
    assert found.people_in(20) == pytest.approx(41 + 40)
    assert found.days_until(81) == pytest.approx(20)


def test_declared_metrics_are_read_and_wrong_ones_named() -> None:
    found = load_metrics('[orders]\nkind = "mean"\nevent = "purchase"\nwindow = "3 days"\n')
    assert found["orders"].window_ms == 3 * DAY_MS
    for text, told in (
        ('[x]\nkind = "mean"\n', "x: event"),
        ('[x]\nkind = "mode"\nevent = "e"\n', "x: kind"),
        ('[x]\nkind = "ratio"\nevent = "e"\n', "denominator"),
        ('[x]\nkind = "mean"\nevent = "e"\nwindow = "soon"\n', "length of time"),
        ('[x]\nkind = "mean"\nevent = "e"\nvalue = "price"\n', "x: value"),
        ("x = 1\n", "expected a table"),
    ):
        with pytest.raises(Exception, match=told):
            load_metrics(text)
