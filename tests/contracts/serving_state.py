"""What every serving state store promises; a new engine subclasses the contract and gives an address."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from bespoke.clock import DAY_MS
from bespoke.experiments import Assignment, Kept
from storage.serving_state import Held, ServingState, Shown

OpenState = Callable[[], ServingState]
NOW = 400 * DAY_MS


def assigned(unit: str, variant: str, *, experiment: str = "hero", at_ms: int = 1, **more: str) -> Assignment:
    """Return an assignment as a request makes it."""
    return Assignment(experiment, variant, unit, 1, at_ms, f"{experiment}:s", new=True, **more)  # type: ignore[arg-type]


def shown(id: str, *items: str, person: str = "u1", days_ago: int = 0) -> Shown:
    """Return what a decision showed."""
    return Shown(id, person, NOW - days_ago * DAY_MS, items)


def counts(state: ServingState, *units: str, days: int = 30) -> dict[str, int]:
    """Return how often items were shown to ``units`` in the newest days."""
    return dict(state.read(units or ("u1",), since_ms=NOW - days * DAY_MS, shown=True).shown)


class ServingStateContract:
    """Subclasses give the fixture ``url``: where a store can be created."""

    @pytest.fixture
    def url(self) -> str:
        """Return the address of a store that does not exist yet."""
        raise NotImplementedError

    @pytest.fixture
    def open_state(self, url: str) -> Iterator[OpenState]:
        """Return what opens the store; everything that it opened is closed at the end."""
        opened: list[ServingState] = []

        def open_one() -> ServingState:
            opened.append(ServingState(url))
            return opened[-1]

        yield open_one
        for state in opened:
            state.close()

    @pytest.fixture
    def state(self, open_state: OpenState) -> ServingState:
        """Return an empty store."""
        return open_state()

    def test_nothing_is_known_of_strangers(self, state: ServingState) -> None:
        assert state.read(("u1", "anonymous:a1"), shown=True) == Held()

    def test_a_read_at_once_says_the_same_or_nothing(self, state: ServingState) -> None:
        state.write(assignments=[assigned("u1", "new")], shown=[shown("r1", "a", "b")], now_ms=NOW)
        units = ("u1", "anonymous:a1")
        assert state.read_at_once(units) in (state.read(units), None)
        counted = state.read(units, since_ms=NOW, shown=True)
        assert state.read_at_once(units, since_ms=NOW, shown=True) in (counted, None)

    def test_the_first_assignment_of_a_unit_wins(self, state: ServingState) -> None:
        state.write(assignments=[assigned("u1", "new", at_ms=5)], now_ms=NOW)
        state.write(assignments=[assigned("u1", "old", at_ms=6), assigned("u1", "x", experiment="b")], now_ms=NOW)
        assert state.read(("u1",)).assignments == {
            ("hero:s", "u1"): Kept("new", 1, 5),
            ("b:s", "u1"): Kept("x", 1, 1),
        }

    def test_both_ids_of_a_request_are_read_at_once(self, state: ServingState) -> None:
        state.write(assignments=[assigned("u1", "new"), assigned("anonymous:a1", "old")], now_ms=NOW)
        found = state.read(("u1", "anonymous:a1", "u3")).assignments
        assert {unit: kept.variant for (_, unit), kept in found.items()} == {"u1": "new", "anonymous:a1": "old"}

    def test_an_assignment_that_no_longer_holds_is_replaced_once(self, state: ServingState) -> None:
        state.write(assignments=[assigned("u1", "bad"), assigned("u2", "good")], now_ms=NOW)
        for variant in ("good", "other"):
            made = [assigned(unit, variant, replaces="bad") for unit in ("u1", "u2", "u3")]
            state.write(assignments=made, now_ms=NOW)
        found = state.read(("u1", "u2", "u3")).assignments
        assert {unit: kept.variant for (_, unit), kept in found.items()} == dict.fromkeys(("u1", "u2", "u3"), "good")

    def test_exposures_are_counted_by_item_over_the_days_that_are_asked_for(self, state: ServingState) -> None:
        state.write(shown=[shown("r1", "a", "b"), shown("r2", "a"), shown("r3", "a", days_ago=3)], now_ms=NOW)
        assert counts(state) == {"a": 3, "b": 1}
        assert counts(state, days=2) == {"a": 2, "b": 1}
        assert state.read(("u1",)).shown == {}

    def test_exposures_before_and_after_signing_in_are_added_up(self, state: ServingState) -> None:
        state.write(shown=[shown("r1", "a"), shown("r2", "a", person="anonymous:a1")], now_ms=NOW)
        assert counts(state, "u1", "anonymous:a1") == {"a": 2}

    def test_a_repeated_decision_counts_once(self, state: ServingState) -> None:
        for _ in range(3):
            state.write(shown=[shown("r1", "a"), shown("r1", "a"), shown("r2", "b")], now_ms=NOW)
        assert counts(state) == {"a": 1, "b": 1}

    def test_counts_are_kept_thirty_days(self, state: ServingState) -> None:
        state.write(shown=[shown("r1", "a", days_ago=30), shown("r2", "b", days_ago=31)], now_ms=NOW - 2 * DAY_MS)
        state.trim(now_ms=NOW)
        assert counts(state, days=99) == {"a": 1}

    def test_units_are_counted_by_variant_and_phase(self, state: ServingState) -> None:
        made = [assigned(f"u{n}", "new" if n < 3 else "old") for n in range(5)]
        state.write(assignments=[*made, assigned("u1", "x", experiment="b")], now_ms=NOW)
        assert state.assigned("hero:s") == {("new", 1): 3, ("old", 1): 2}

    def test_who_is_forgotten_leaves_nothing(self, state: ServingState) -> None:
        state.write(assignments=[assigned("u1", "new"), assigned("u2", "new")], shown=[shown("r1", "a")], now_ms=NOW)
        state.forget(["u1", "anonymous:a1"])
        assert state.read(("u1",), shown=True) == Held()
        assert state.read(("u2",)).assignments

    def test_writers_at_once_agree_and_count_each_decision_once(self, open_state: OpenState) -> None:
        def write(n: int) -> None:
            units = [f"u{one}" for one in (range(20) if n % 2 else reversed(range(20)))]
            made = [assigned(unit, f"v{n}") for unit in units]
            with open_state() as state:
                for one in range(5):
                    state.write(
                        assignments=made, shown=[shown(f"r{one}", "a", "b"), shown(f"r{n}-{one}", "c")], now_ms=NOW
                    )

        with ThreadPoolExecutor(4) as pool:
            list(pool.map(write, range(4)))
        state = open_state()
        assert counts(state) == {"a": 5, "b": 5, "c": 20}
        assert len(state.read([f"u{n}" for n in range(20)]).assignments) == 20

    def test_everything_survives_reopening(self, open_state: OpenState) -> None:
        with open_state() as state:
            state.write(assignments=[assigned("u1", "new")], shown=[shown("r1", "a")], now_ms=NOW)
        assert open_state().read(("u1",), shown=True) == Held({("hero:s", "u1"): Kept("new", 1, 1)}, {"a": 1})
