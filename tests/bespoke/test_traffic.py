"""Placing requests: shares, stickiness, sign-in, layers, holdout, shadows and testers."""

from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bespoke.clock import DAY_MS
from bespoke.errors import NotFound
from bespoke.experiments import (
    PLAIN,
    Assignment,
    ExperimentState,
    Holdout,
    Kept,
    Placement,
    Traffic,
    parse_experiment,
    unit_ids,
)

PEOPLE = 200_000
HALVES = {"control": 0.5, "treatment": 0.5}


def state(
    name: str = "hero", *, shares: dict[str, float] = HALVES, offset: float = 0.0, **fields: Any
) -> ExperimentState:
    """Return an experiment that started at 0; ``treatment`` is served by the challenger."""
    arms = [
        {"name": arm, "share": share, "model": "challenger" if arm == "treatment" else "champion"}
        for arm, share in shares.items()
    ]
    table = {"salt": f"{name}-1", "variants": arms} | fields
    return ExperimentState.begin(parse_experiment(name, table), at_ms=0, by="ada", offset=offset)


def traffic(*states: ExperimentState, **others: Any) -> Traffic:
    return Traffic.of({one.name: one for one in states}, **others)


def stored(*assignments: Assignment) -> dict[tuple[str, str], Kept]:
    return {(one.key, one.unit): Kept(one.variant, one.phase, one.at_ms) for one in assignments}


def variants(of: Traffic, people: int, *, at_ms: int = 0, **given: Any) -> Counter[str | None]:
    return Counter(of.place((f"p{n}", None), at_ms=at_ms, **given).variant for n in range(people))


def in_variant(of: Traffic, variant: str | None, *, start: str = "p") -> str:
    """Return somebody whom the hash puts there."""
    return next(f"{start}{n}" for n in range(10_000) if of.place((f"{start}{n}", None), at_ms=0).variant == variant)


@pytest.mark.parametrize("shares", [(0.5, 0.5), (0.01, 0.0, 0.99)])
def test_shares_are_exact_within_three_tenths_of_a_point(shares: tuple[float, ...]) -> None:
    split = traffic(state(shares={f"v{n}": share for n, share in enumerate(shares)}))
    counts = variants(split, PEOPLE)
    for n, share in enumerate(shares):
        assert abs(counts[f"v{n}"] / PEOPLE - share) <= 0.003


def test_without_experiments_everybody_gets_the_champion_and_nothing_is_stored() -> None:
    assert traffic().empty
    assert traffic().place(("u1", None), at_ms=0) is PLAIN
    assert traffic(state().stopped(at_ms=1)).empty


def test_the_variant_says_what_answers_and_the_first_exposure_is_to_be_stored() -> None:
    split = traffic(state())
    placed = split.place((in_variant(split, "treatment"), None), at_ms=7)
    assert (placed.model, placed.pipeline, placed.experiment, placed.variant) == (
        "challenger",
        "default",
        "hero",
        "treatment",
    )
    (new,) = placed.new_assignments
    assert (new.key, new.phase, new.at_ms, new.replaces) == ("hero:hero-1", 1, 7, None)


def test_a_stored_assignment_wins_over_the_hash_and_is_not_stored_again() -> None:
    split = traffic(state())
    person = in_variant(split, "treatment")
    kept = {("hero:hero-1", person): Kept("control", 1, 3)}
    placed = split.place((person, None), at_ms=9, stored=kept)
    assert (placed.variant, placed.model, placed.new_assignments) == ("control", "champion", ())
    assert placed.assignments[0].at_ms == 3


def test_an_assignment_stays_through_a_ramp_and_new_people_come_in_the_new_shares() -> None:
    before = state(shares={"control": 0.9, "treatment": 0.1})
    ramped = before.ramped(at_ms=DAY_MS, by="ada", shares={"treatment": 0.5})
    person = next(
        f"p{n}"
        for n in range(1_000)
        if traffic(before).place((f"p{n}", None), at_ms=0).variant == "control"
        and traffic(ramped).place((f"p{n}", None), at_ms=DAY_MS).variant == "treatment"
    )
    kept = stored(*traffic(before).place((person, None), at_ms=0).assignments)
    assert traffic(ramped).place((person, None), at_ms=DAY_MS, stored=kept).variant == "control"
    assert abs(variants(traffic(ramped), 20_000, at_ms=DAY_MS)["treatment"] / 20_000 - 0.5) < 0.02


def test_people_leave_a_variant_that_nobody_gets_any_more_in_the_proportions_of_the_others() -> None:
    three = state(shares={"a": 0.2, "b": 0.4, "bad": 0.4})
    without = traffic(three.ramped(at_ms=DAY_MS, by="guard", shares={"bad": 0.0}))
    counts: Counter[str | None] = Counter()
    for n in range(10_000):
        kept = {("hero:hero-1", f"p{n}"): Kept("bad", 1, 3)}
        placed = without.place((f"p{n}", None), at_ms=DAY_MS, stored=kept)
        assert placed.new_assignments[0].replaces == "bad"
        counts[placed.variant] += 1
    assert counts["bad"] == 0
    assert abs(counts["a"] / 10_000 - 1 / 3) < 0.02


def test_a_declared_ramp_takes_effect_by_the_time_of_the_request_alone() -> None:
    steps = [{"after": "2 days", "shares": {"treatment": 0.5}}, {"after": "3 days", "shares": {"treatment": 1.0}}]
    split = traffic(state(shares={"control": 1.0, "treatment": 0.0}, ramp=steps))
    shares = [
        variants(split, 4_000, at_ms=at)["treatment"] / 4_000 for at in (-5, 0, 2 * DAY_MS - 1, 2 * DAY_MS, 3 * DAY_MS)
    ]
    assert shares == [0, 0, 0, pytest.approx(0.5, abs=0.03), 1]


def test_an_assignment_is_kept_across_sign_in_and_taken_over_by_the_person() -> None:
    split = traffic(state())
    user, device = in_variant(split, "control"), "a1"
    anonymous = split.place((None, device), at_ms=0)
    kept = {("hero:hero-1", "anonymous:a1"): Kept("treatment", 1, 5)}
    placed = split.place((user, device), at_ms=9, stored=kept)
    assert anonymous.assignments[0].unit == "anonymous:a1"
    assert placed.variant == "treatment"
    assert [(one.unit, one.at_ms) for one in placed.new_assignments] == [(user, 5)]
    own = kept | {("hero:hero-1", user): Kept("control", 1, 8)}
    assert split.place((user, device), at_ms=9, stored=own).variant == "control"


def test_a_device_keeps_its_variant_whoever_signs_in() -> None:
    split = traffic(state(unit="device"))
    placed = {split.place((user, "a1"), at_ms=0).variant for user in (None, *(f"u{n}" for n in range(50)))}
    assert len(placed) == 1
    assert split.place(("u1", None), at_ms=0).assignments[0].unit == "u1"


def test_experiments_of_one_layer_never_meet_and_fill_it_as_declared() -> None:
    one, other = state("one", traffic=0.3), state("other", traffic=0.5, offset=0.3)
    split = traffic(one, other)
    placed = [split.place((f"p{n}", None), at_ms=0) for n in range(20_000)]
    assert all(len(one.assignments) <= 1 for one in placed)
    counts = Counter(one.experiment for one in placed)
    assert [counts[name] / 20_000 for name in ("one", "other", None)] == pytest.approx([0.3, 0.5, 0.2], abs=0.02)


def test_layers_are_independent_and_one_chooses_the_model_the_other_the_pipeline() -> None:
    arms = [{"name": "plain", "share": 0.5}, {"name": "diverse", "share": 0.5, "pipeline": "diverse"}]
    lists = ExperimentState.begin(
        parse_experiment("lists", {"salt": "l", "layer": "lists", "variants": arms}), at_ms=0, by="ada"
    )
    split = traffic(state(), lists)
    placed = [split.place((f"p{n}", None), at_ms=0) for n in range(8_000)]
    shares = Counter((one.model, one.pipeline) for one in placed)
    assert len(shares) == 4 and all(abs(n / 8_000 - 0.25) < 0.03 for n in shares.values())
    assert {(one.experiment, len(one.assignments)) for one in placed} == {("hero", 2)}


def test_who_was_in_one_experiment_of_a_layer_is_in_no_other_one_after_signing_in() -> None:
    split = traffic(state("one", traffic=0.5), state("other", traffic=0.5, offset=0.5))
    user = next(f"u{n}" for n in range(99) if split.place((f"u{n}", None), at_ms=0).experiment == "other")
    kept = {("one:one-1", "anonymous:a1"): Kept("control", 1, 5)}
    placed = split.place((user, "a1"), at_ms=9, stored=kept)
    assert [one.experiment for one in placed.assignments] == ["one"]


def test_only_the_audience_takes_part() -> None:
    split = traffic(state(audience="loyal"))
    assert split.audiences == {"loyal"}
    assert split.place(("u1", None), at_ms=0) is PLAIN
    inside = split.place(("u1", None), at_ms=0, segments=("new", "loyal"))
    assert inside.experiment == "hero"
    assert split.place(("u1", None), at_ms=0, stored=stored(*inside.assignments)) is PLAIN


def test_who_is_held_out_is_in_no_experiment_and_stays_out_after_signing_in() -> None:
    held = Holdout(share=0.1, salt="h", pipeline="plain")
    split = traffic(state(), holdout=held)
    assert variants(split, 20_000)["holdout"] / 20_000 == pytest.approx(0.1, abs=0.01)
    user = in_variant(split, "control")
    placed = split.place((user, "a1"), at_ms=9, stored={("holdout:h", "anonymous:a1"): Kept("holdout", 1, 2)})
    assert (placed.experiment, placed.pipeline) == ("holdout", "plain")
    assert [one.unit for one in placed.new_assignments] == [user]


def test_a_shadow_never_answers_and_is_named_to_be_computed_for_those_in_its_experiment() -> None:
    arms = [{"name": "all", "share": 1.0}, {"name": "ghost", "share": 0, "shadow": True, "model": "challenger"}]
    split = traffic(state("hero", traffic=0.5, variants=arms))
    placed = [split.place((f"p{n}", None), at_ms=0) for n in range(1_000)]
    assert {(one.variant, one.model, tuple(v.name for v in one.shadows)) for one in placed} == {
        ("all", "champion", ("ghost",)),
        (None, "champion", ()),
    }


def test_a_tester_gets_the_variant_asked_for_marked_and_never_stored() -> None:
    split = traffic(state(audience="loyal"), holdout=Holdout(share=0.999, salt="h"))
    placed = split.place(("u1", None), at_ms=0, overrides={"hero": "treatment"})
    assert (placed.model, placed.new_assignments) == ("challenger", ())
    assert placed.assignments[0].override
    split.check_overrides({"hero": "treatment"})
    for wrong, message in (({"hera": "treatment"}, "these do: hero"), ({"hero": "x"}, "it has: control, treatment")):
        with pytest.raises(NotFound, match=message):
            split.check_overrides(wrong)


def test_an_experiment_waits_for_its_pointers_and_the_rest_of_its_layer_goes_on() -> None:
    split = traffic(state(), unset={"challenger"})
    assert split.waiting == {"hero": ("challenger",)}
    assert split.place(("u1", None), at_ms=0) is PLAIN


def test_a_variant_may_ask_for_a_process_of_its_own() -> None:
    arms = [{"name": "all", "share": 1.0, "model": "als@1", "isolation": "process"}]
    assert traffic(state(variants=arms)).place(("u1", None), at_ms=0) == Placement(
        "als@1",
        "default",
        "hero",
        "all",
        (Assignment("hero", "all", "u1", 1, 0, "hero:hero-1", new=True),),
        isolation="process",
    )


def test_units_of_a_request_begin_with_the_one_that_keys_the_person() -> None:
    assert unit_ids("u", None) == ("u",)
    assert unit_ids(None, "a") == ("anonymous:a",)


@given(st.text(min_size=1, max_size=20), st.integers(0, 10 * DAY_MS))
def test_placing_what_was_stored_changes_nothing(person: str, at_ms: int) -> None:
    split = traffic(
        state("one", traffic=0.4), state("two", traffic=0.4, offset=0.4), holdout=Holdout(share=0.1, salt="h")
    )
    first = split.place((person, None), at_ms=at_ms)
    again = split.place((person, None), at_ms=at_ms + DAY_MS, stored=stored(*first.assignments))
    assert (again.experiment, again.variant, again.new_assignments) == (first.experiment, first.variant, ())
