"""What lists can be asked with, by the names that Python programs use, and how the service spells them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, TypedDict

Value = str | int | float | bool


@dataclass(frozen=True, slots=True)
class Promotion:
    """Places of a list that are kept for items of a filter."""

    name: str
    filter: str
    share: float
    """Share of the places, 0..1."""
    filter_values: Mapping[str, Value | Sequence[Value]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Line:
    """One thing that was done in a session."""

    item_id: str
    interaction: str = "view"
    timestamp: datetime | None = None


class ListOptions(TypedDict, total=False):
    """What every list can be asked with."""

    num_results: int
    filter: str
    """Only items for which this holds, such as ``category == $c and price < 5``."""
    filter_values: Mapping[str, Value | Sequence[Value]]
    exclude: Sequence[str]
    promotions: Sequence[Promotion]
    context: Mapping[str, Value]
    surface: str
    channel: str
    page: str
    """``next_page`` of the answer before."""


class PersonOptions(ListOptions, total=False):
    """What a list for somebody can be asked with."""

    anonymous_id: str
    exclude_seen: bool
    after: str
    """Token of a receipt whose events the list has to reflect."""
    variants: Mapping[str, str]
    """For testers: the variant to get, by experiment."""


def body_of(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return options as the service spells them; what is None is left out.

    >>> body_of({"num_results": 5, "filter": None, "promotions": [Promotion("own", "brand == 'Own'", 0.2)]})
    {'numResults': 5, 'promotions': [{'name': 'own', 'filter': "brand == 'Own'", 'share': 0.2, 'filterValues': {}}]}
    """
    return {_spelled(name): _plain(value) for name, value in options.items() if value is not None}


def _plain(value: Any) -> Any:
    match value:
        case Promotion():
            return body_of({name: getattr(value, name) for name in value.__slots__})
        case Line():
            return body_of({name: getattr(value, name) for name in value.__slots__})
        case datetime():
            return value.isoformat()
        case str():
            return value
        case Sequence():
            return [_plain(one) for one in value]
    return value


def _spelled(name: str) -> str:
    """Return a name as JSON has it.

    >>> _spelled("exclude_seen")
    'excludeSeen'
    """
    first, *others = name.split("_")
    return first + "".join(map(str.capitalize, others))
