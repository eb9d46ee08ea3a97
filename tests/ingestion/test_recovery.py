"""A processor that is killed again and again leaves what one that is not killed leaves."""

from benchmarks.recovery import mismatches
from tests.support.messages import order, views


def test_five_kills_lose_and_double_nothing() -> None:
    flow = [
        order(f"u{n % 50}", n, f"i{n % 7}", f"i{n % 11}") if n % 3 else views(f"u{n % 50}", n, f"i{n % 5}")
        for n in range(4_000)
    ]
    repeated = [*flow[:3_000], *flow[1_000:1_200], *flow[3_000:]]
    found = mismatches(repeated, kills=5, seed=1, batch=50)
    assert found["kills"] == 5
    assert {name: value for name, value in found.items() if name.endswith(("_mismatches", "_events"))} == {
        "profile_mismatches": 0,
        "state_mismatches": 0,
        "lost_events": 0,
        "doubled_events": 0,
    }
