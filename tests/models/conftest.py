"""Small worlds whose answers are known by construction."""

from collections.abc import Callable, Sequence

import numpy as np
import pytest

from bespoke.clock import DAY_MS
from bespoke.events import ItemId, UserId
from bespoke.models.base import Interactions
from bespoke.models.history import History
from bespoke.profiles import Recent

AT_MS = 100 * DAY_MS
Line = tuple[str, str]


@pytest.fixture
def at_ms() -> int:
    """The time of training and of every request."""
    return AT_MS


@pytest.fixture
def learn_from() -> Callable[..., Interactions]:
    """Makes interactions of (user, item) lines; each a day old and of weight 1 unless said otherwise."""

    def make(lines: Sequence[Line], *, age_days: float = 1.0, weights: Sequence[float] | None = None) -> Interactions:
        users, items = [user for user, _ in lines], [item for _, item in lines]
        times = np.full(len(lines), AT_MS - round(age_days * DAY_MS))
        return Interactions.from_columns(users, items, times, np.ones(len(lines)) if weights is None else weights)

    return make


@pytest.fixture
def history_of() -> Callable[..., History]:
    """Makes a history of items bought a day ago, or as long ago as ``ages_days`` says."""

    def make(*items: str, user: str | None = None, ages_days: Sequence[float] = ()) -> History:
        ages = ages_days or [1.0] * len(items)
        lines = [
            Recent(AT_MS - round(age * DAY_MS), ItemId(item), "purchase", 1.0)
            for item, age in zip(items, ages, strict=True)
        ]
        return History(None if user is None else UserId(user), tuple(sorted(lines)), AT_MS)

    return make


@pytest.fixture
def checkerboard(learn_from: Callable[..., Interactions]) -> Interactions:
    """Forty people and ten items: even people take even items, odd ones odd items, each leaving one out in turn.

    Item i0 is taken twice by everybody who takes it, so it is the most popular one.
    """
    lines = [
        (f"u{user:02d}", f"i{item}")
        for user in range(40)
        for item in range(user % 2, 10, 2)
        if item != (user // 2 * 2 + user % 2) % 10
    ]
    return learn_from(lines + [line for line in lines if line[1] == "i0"])
