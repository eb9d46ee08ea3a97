"""Conflicts: rules that contradict one another, found before anybody sees a list."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import combinations

from bespoke.catalog import Item, ItemTable
from bespoke.expressions import ATTRIBUTES
from bespoke.rules.rule import Boost, Bury, Cap, Exclude, Pin, Require, Rule, When
from bespoke.segments.entries import near


@dataclass(frozen=True, slots=True, eq=False)
class _Known:
    """What is known of the pinned items: which attributes of theirs a filter may be asked about."""

    table: ItemTable
    attributes: frozenset[str]


def _ids_alone(rules: Sequence[Rule]) -> _Known:
    ids = dict.fromkeys(item for rule in rules if isinstance(rule.action, Pin) for item in rule.action.items)
    return _Known(ItemTable.of(Item(id) for id in ids), frozenset({"item_id"}))


def conflicts(rules: Sequence[Rule], *, table: ItemTable | None = None) -> list[str]:
    """Return where rules contradict one another, each with the way out; empty where all is well.

    Only rules that are enabled and can hold for the same request are held against one another.

    Args:
        rules: the rules.
        table: the catalog. With it pins are held against every filter, without it against those that ask for item ids.
    """
    enabled = [rule for rule in rules if rule.enabled]
    known = _ids_alone(enabled) if table is None else _Known(table, frozenset(ATTRIBUTES))
    met = [pair for pair in combinations(enabled, 2) if can_meet(*pair)]
    return [text for one, other in met for text in _between(one, other, known) if text]


def unknown_segments(rules: Sequence[Rule], segments: Collection[str]) -> list[str]:
    """Return which rules name segments that are not among ``segments``, each with what may be meant."""
    return [text for rule in rules if rule.enabled for text in _unknown_segments(rule, segments)]


def notices(rules: Sequence[Rule], *, at: datetime) -> list[str]:
    """Return what is no mistake but worth a look: rules that have ended, and places that two rules pin."""
    ended = [
        f"rule {rule.name!r} ended {rule.ends.isoformat()}; remove it, or move ends"
        for rule in rules
        if rule.enabled and rule.ends is not None and rule.ends <= at
    ]
    pins = [rule for rule in rules if rule.enabled and (rule.ends is None or rule.ends > at)]
    shared = [
        f"rules {one.name!r} and {other.name!r} both pin place {place + 1}: "
        f"{max(one, other, key=lambda rule: rule.priority).name!r} goes first, the other takes the next free place"
        for one, other in combinations(pins, 2)
        if one.priority != other.priority and can_meet(one, other)
        if (place := min(_places(one) & _places(other), default=-1)) >= 0
    ]
    return [*ended, *shared]


def can_meet(one: Rule, other: Rule) -> bool:
    """Return whether two rules can hold for the same request, as far as their entries tell."""
    in_time = (one.ends is None or other.starts is None or other.starts < one.ends) and (
        other.ends is None or one.starts is None or one.starts < other.ends
    )
    return in_time and _whens_meet(one.when, other.when)


def _whens_meet(one: When, other: When) -> bool:
    return (
        _share(one.surfaces, other.surfaces)
        and _share(one.channels, other.channels)
        and not (one.segments and one.segments <= other.not_segments)
        and not (other.segments and other.segments <= one.not_segments)
        and all(_share(values, dict(other.context).get(key, frozenset())) for key, values in one.context)
        # Hours of different zones overlap somewhere in the year, or are not worth the calendar that tells.
        and (
            one.zone.key != other.zone.key or (_share(one.hours, other.hours) and _share(one.weekdays, other.weekdays))
        )
    )


def _share(one: Collection[object], other: Collection[object]) -> bool:
    """Return whether two conditions can both hold; an empty one always does."""
    return not one or not other or not set(one).isdisjoint(other)


def _unknown_segments(rule: Rule, segments: Collection[str]) -> list[str]:
    texts = []
    for name in sorted(rule.when.segments | rule.when.not_segments):
        if name not in segments:
            match = near(name, segments)
            there = ", ".join(sorted(segments)) or "none"
            expected = f"{match!r}; there are: {there}" if match else f"one of: {there}"
            texts.append(f"rule {rule.name!r}: no segment {name!r}, expected {expected} (config/segments.toml)")
    return texts


def _between(one: Rule, other: Rule, known: _Known) -> list[str | None]:
    return [
        _same_place(one, other),
        _pinned_and_barred(one, other, known) or _pinned_and_barred(other, one, known),
        _up_and_down(one, other),
        _barred_and_wanted(one, other) or _barred_and_wanted(other, one),
        _capped_below(one, other) or _capped_below(other, one),
    ]


def _names(one: Rule, other: Rule) -> str:
    return f"rules {one.name!r} and {other.name!r} can hold for the same request"


def _places(rule: Rule) -> set[int]:
    """Return the places, from 0, that a rule pins."""
    start = rule.action.position - 1 if isinstance(rule.action, Pin) else 0
    return set(range(start, start + rule.action.count)) if isinstance(rule.action, Pin) else set()


def _same_place(one: Rule, other: Rule) -> str | None:
    shared = _places(one) & _places(other)
    if not shared or one.priority != other.priority:
        return None
    return (
        f"{_names(one, other)}, and both pin place {min(shared) + 1} with priority {one.priority}; "
        "give one of them a higher priority or another position"
    )


def _pinned_and_barred(pin: Rule, gate: Rule, known: _Known) -> str | None:
    if not isinstance(pin.action, Pin) or not gate.is_gate:
        return None
    barred = _barred_items(pin.action, gate, known)
    if not barred:
        return None
    some = ", ".join(map(repr, barred[:3])) + (f" and {len(barred) - 3} more" if len(barred) > 3 else "")
    way_out = f"narrow {gate.name!r} or take them out of {pin.name!r}: what is excluded is never shown"
    return f"{_names(pin, gate)}, and {gate.name!r} excludes what {pin.name!r} pins: {some}; {way_out}"


def _barred_items(pin: Pin, gate: Rule, known: _Known) -> list[str]:
    expression = gate.filter
    assert expression is not None
    if pin.filter is not None:
        return [str(pin.filter)] if isinstance(gate.action, Exclude) and _same_filter(pin.filter, expression) else []
    if not expression.attributes <= known.attributes:
        return []
    mask_T = expression.mask(known.table)
    barred_T = mask_T if isinstance(gate.action, Exclude) else ~mask_T
    rows = [(item, known.table.items.row(item)) for item in pin.items]
    return [item for item, row in rows if row is not None and barred_T[row]]


def _up_and_down(one: Rule, other: Rule) -> str | None:
    kinds = {type(one.action), type(other.action)}
    if kinds != {Boost, Bury} or not _same_filter(one.filter, other.filter):
        return None
    return f"{_names(one, other)}, and one boosts what the other buries: {one.filter}; keep one of them"


def _barred_and_wanted(gate: Rule, wanted: Rule) -> str | None:
    if not isinstance(gate.action, Exclude) or isinstance(wanted.action, Exclude | Pin):
        return None
    if not _same_filter(gate.filter, wanted.filter):
        return None
    what = f"{gate.name!r} excludes what {wanted.name!r} is about"
    return f"{_names(gate, wanted)}, and {what}: {gate.filter}; keep one of them"


def _capped_below(cap: Rule, floor: Rule) -> str | None:
    if not isinstance(cap.action, Cap) or not isinstance(floor.action, Require) or floor.action.at_least is None:
        return None
    if not _same_filter(cap.filter, floor.filter) or cap.action.at_most >= floor.action.at_least:
        return None
    asked = (
        f"{floor.name!r} requires at least {floor.action.at_least} of what {cap.name!r} caps at {cap.action.at_most}"
    )
    return f"{_names(cap, floor)}, and {asked}: {cap.filter}; the cap wins, so lower at_least or raise at_most"


def _same_filter(one: object, other: object) -> bool:
    return one is not None and other is not None and str(one) == str(other)
