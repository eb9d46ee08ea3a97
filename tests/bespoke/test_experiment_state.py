"""What is in force of an experiment: phases that follow one another, and changes that are refused."""

from typing import Any

import pytest

from bespoke.clock import DAY_MS
from bespoke.errors import ConfigError
from bespoke.experiments import (
    Experiment,
    ExperimentState,
    check_compatible,
    check_room,
    free_offset,
    parse_experiment,
    parse_state,
    parse_states,
)

RAMP = [{"after": "1 day", "shares": {"new": 0.2}}, {"after": "3 days", "shares": {"new": 0.5}, "traffic": 1.0}]


def declared(name: str = "hero", **fields: Any) -> Experiment:
    arms = [{"name": "old", "share": 0.9}, {"name": "new", "share": 0.1, "model": "challenger"}]
    return parse_experiment(name, {"salt": f"{name}-1", "variants": arms} | fields)


def begun(name: str = "hero", *, offset: float = 0.0, **fields: Any) -> ExperimentState:
    return ExperimentState.begin(declared(name, **fields), at_ms=0, by="ada", offset=offset)


def new_shares(state: ExperimentState, *days: float) -> list[float]:
    return [state.phase_at(round(day * DAY_MS)).shares["new"] for day in days]


def test_the_schedule_makes_phases_without_anybody_doing_anything() -> None:
    state = begun(ramp=RAMP, traffic=0.5)
    assert new_shares(state, 0, 0.9, 1, 2.9, 3, 99) == [0.1, 0.1, 0.2, 0.2, 0.5, 0.5]
    assert [state.phase_at(day * DAY_MS).number for day in (0, 1, 3)] == [1, 2, 3]
    assert [state.phase_at(day * DAY_MS).traffic for day in (0, 3)] == [0.5, 1.0]
    coming = state.next_phase(DAY_MS)
    assert coming is not None and (coming.at_ms, coming.by) == (3 * DAY_MS, "schedule")
    assert state.next_phase(3 * DAY_MS) is None


def test_a_ramp_by_hand_writes_down_what_was_and_ends_the_schedule() -> None:
    state = begun(ramp=RAMP).ramped(at_ms=2 * DAY_MS, by="bob", reason="careful", shares={"new": 0.05})
    assert [(phase.number, phase.by) for phase in state.phases] == [(1, "ada"), (2, "schedule"), (3, "bob")]
    assert new_shares(state, 0, 1, 2, 99) == [0.1, 0.2, 0.05, 0.05]
    assert state.next_phase(2 * DAY_MS) is None


def test_a_ramp_counts_from_the_moment_when_its_models_are_there() -> None:
    state = begun(ramp=RAMP).awaited(at_ms=10 * DAY_MS)
    assert new_shares(state, 0, 10, 11, 13) == [0.1, 0.1, 0.2, 0.5]
    assert (state.started_ms, len(state.phases)) == (10 * DAY_MS, 1)


def test_phases_stay_in_order_where_clocks_differ() -> None:
    state = begun().ramped(at_ms=DAY_MS, by="bob", shares={"new": 0.3}).ramped(at_ms=5, by="eve", shares={"new": 0.4})
    assert [(phase.number, phase.at_ms) for phase in state.phases] == [(1, 0), (2, DAY_MS), (3, DAY_MS)]
    assert new_shares(state, 0, 1) == [0.1, 0.4]
    assert [phase.at_ms for phase in state.awaited(at_ms=5).phases] == [0, DAY_MS, DAY_MS]


def test_a_stopped_experiment_goes_on_with_its_numbers_when_it_is_started_again() -> None:
    stopped = begun(ramp=RAMP).stopped(at_ms=2 * DAY_MS)
    assert not stopped.running and stopped.next_phase(0) is None
    again = ExperimentState.begin(declared(), at_ms=9 * DAY_MS, by="bob", after=stopped)
    assert [phase.number for phase in again.phases] == [1, 2, 3]
    with pytest.raises(ConfigError, match="'hero' is stopped"):
        stopped.ramped(at_ms=9 * DAY_MS, by="bob", shares={"new": 1.0})


@pytest.mark.parametrize(
    ("shares", "message"),
    [
        ({"nwe": 0.2}, "no variant 'nwe' that answers; there are: old, new"),
        ({"new": 1.2}, "got share 1.2, expected 0 to 1"),
        ({"new": 0.2, "old": 0.2}, "shares sum to 0.40, expected 1.00"),
    ],
)
def test_shares_that_cannot_be_are_refused(shares: dict[str, float], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        begun().ramped(at_ms=1, by="ada", shares=shares)


def test_a_changed_declaration_is_a_new_phase_and_the_same_one_is_none() -> None:
    state = begun().ramped(at_ms=DAY_MS, by="bob", shares={"new": 0.3})
    assert state.redeclared(declared(), at_ms=2 * DAY_MS, by="file") is state
    wider = state.redeclared(declared(traffic=0.9), at_ms=2 * DAY_MS, by="file")
    assert (wider.phases[-1].number, wider.phases[-1].traffic, wider.phases[-1].shares["new"]) == (3, 0.9, 0.1)
    audience = state.redeclared(declared(audience="loyal"), at_ms=2 * DAY_MS, by="file")
    assert (audience.phases[-1].number, audience.phases[-1].shares["new"]) == (3, 0.3)


def test_a_schedule_goes_on_through_a_change_that_is_not_about_shares() -> None:
    state = begun(ramp=RAMP).redeclared(declared(ramp=RAMP, audience="loyal"), at_ms=2 * DAY_MS, by="file")
    assert new_shares(state, 0, 1, 2, 3) == [0.1, 0.2, 0.2, 0.5]
    assert [phase.number for phase in state.timeline] == [1, 2, 3, 4]


@pytest.mark.parametrize("change", [{"salt": "other"}, {"unit": "device"}, {"layer": "other"}])
def test_what_would_assign_people_anew_is_refused_while_it_runs(change: dict[str, str]) -> None:
    (field,) = change
    with pytest.raises(ConfigError, match=f"{field} cannot change .* stop hero` and start it with a new salt"):
        begun().redeclared(declared(**change), at_ms=DAY_MS, by="file")


def test_states_are_kept_as_json_and_declarations_of_earlier_versions_run() -> None:
    state = begun(ramp=RAMP, audience="loyal")
    assert parse_state("hero", state.model_dump(mode="json")) == state
    assert parse_state("hero", declared().model_dump(mode="json")).phase_at(5).shares == {"old": 0.9, "new": 0.1}
    found = parse_states({"hero": state.model_dump(mode="json"), "holdout": {"share": 0.1, "salt": "h"}})
    assert found.holdout is not None and set(found.experiments) == {"hero"}
    for wrong in ({"hero": {"definition": 1}}, {"holdout": {"share": 2}}):
        with pytest.raises(ConfigError, match="cannot be read"):
            parse_states(wrong)


def test_parts_of_a_layer_are_given_out_without_overlap_and_reused() -> None:
    first, third = begun("a", traffic=0.3), begun("c", traffic=0.3, offset=0.6)
    assert free_offset(declared("b", traffic=0.3), [first, third], at_ms=0) == 0.3
    assert free_offset(declared("b", traffic=0.4, layer="other"), [first, third], at_ms=0) == 0.0
    with pytest.raises(ConfigError, match=r"traffic 0\.4 of layer 'default' is not free beside a, c"):
        free_offset(declared("b", traffic=0.4), [first, third], at_ms=0)


def test_what_a_ramp_will_ask_for_is_kept_free_from_the_start() -> None:
    growing = begun("a", traffic=0.1, ramp=[{"after": "1 day", "traffic": 0.8}])
    with pytest.raises(ConfigError, match="not free"):
        free_offset(declared("b", traffic=0.3), [growing], at_ms=0)
    assert free_offset(declared("b", traffic=0.2), [growing], at_ms=0) == 0.8


def test_traffic_cannot_grow_into_the_part_of_another() -> None:
    first, second = begun("a", traffic=0.3), begun("b", traffic=0.3, offset=0.3)
    check_room(second.ramped(at_ms=1, by="ada", traffic=0.7), [first, second], at_ms=1)
    for grown in (first.ramped(at_ms=1, by="ada", traffic=0.4), second.ramped(at_ms=1, by="ada", traffic=0.8)):
        with pytest.raises(ConfigError, match="not free"):
            check_room(grown, [first, second], at_ms=1)


def test_layers_that_would_both_choose_the_model_or_mix_units_are_refused() -> None:
    with pytest.raises(ConfigError, match="layers default and other both choose the model"):
        check_compatible([declared("a"), declared("b", layer="other")])
    with pytest.raises(ConfigError, match="a, b assign different units"):
        check_compatible([declared("a", traffic=0.5), declared("b", traffic=0.5, unit="device")])
