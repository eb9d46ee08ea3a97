"""What is refused in rules.toml, which rules contradict one another, and what is said of both."""

import re
from datetime import UTC, datetime
from pathlib import Path

import pytest

from bespoke.catalog import Item, ItemTable
from bespoke.errors import ConfigError
from bespoke.events import ItemId
from bespoke.rules import conflicts, load_rules, notices, unknown_segments

OK = "exclude = { filter = 'price > 5' }"

REFUSED = {
    # form
    "[a": "config/rules.toml: not TOML: ",
    "a = 1": "config/rules.toml: a: got 1, expected a table [a]",
    f"[A]\n{OK}": "config/rules.toml: A: got 'A', expected a name of small letters",
    "[a]": "config/rules.toml: a: got 'no action', expected exactly one of pin, boost, bury, exclude, cap, require",
    f"[a]\n{OK}\nboost = {{}}": "a: got ['boost', 'exclude'], expected exactly one of pin, boost",
    "[a]\nexlude = { filter = 'price > 5' }": "a: exlude: got {'filter': 'price > 5'}, expected 'exclude', or no such",
    "[a]\nexclude = 'price > 5'": "a: exclude: got 'price > 5', expected a table with some of filter",
    "[a]\nexclude = { filer = 'price > 5' }": "a: exclude.filer: got 'price > 5', expected 'filter', or no such entry",
    f"[a]\nmeaning = 3\n{OK}": "a: meaning: got 3, expected a text of at most 500",
    f"[a]\nenabled = 'no'\n{OK}": "a: enabled: got 'no', expected true or false",
    f"[a]\npriority = 1.5\n{OK}": "a: priority: got 1.5, expected a whole number from -1000 to 1000",
    f"[a]\npriority = true\n{OK}": "a: priority: got True, expected a whole number",
    "".join(f"[a{n}]\n{OK}\n" for n in range(501)): "config/rules.toml: got '501 rules', expected at most 500",
    # times
    f"[a]\nstarts = '2026-12-01'\n{OK}": "a: starts: got '2026-12-01', expected a time with its zone, without quotes",
    f"[a]\nstarts = 2026-12-01\n{OK}": "a: starts: got '2026-12-01', expected a time with its zone",
    f"[a]\nends = 2026-12-01T00:00:00\n{OK}": "a: ends: got '2026-12-01 00:00:00', expected a time with its zone",
    f"[a]\nstarts = 2026-12-01T01:00:00+01:00\nends = 2026-12-01T00:00:00Z\n{OK}": (
        "a: ends: got '2026-12-01T00:00:00+00:00', expected a time after starts, which is 2026-12-01T00:00:00+00:00"
    ),
    # when
    f"[a]\nwhen = 'home'\n{OK}": "a: when: got 'home', expected a table with some of segment, not_segment, surface",
    f"[a]\nwhen = {{ surfce = 'home' }}\n{OK}": "a: when.surfce: got 'home', expected 'surface', or no such entry",
    f"[a]\nwhen = {{ surface = [] }}\n{OK}": "a: when.surface: got [], expected a text, or a list of 1 to 1000 texts",
    f"[a]\nwhen = {{ segment = 'x', not_segment = ['x', 'y'] }}\n{OK}": (
        "a: when.not_segment: got ['x', 'y'], expected others than those of segment, or nobody is meant"
    ),
    f"[a]\nwhen = {{ context = 3 }}\n{OK}": "a: when.context: got 3, expected a table of 1 to 20 keys",
    f"[a]\nwhen = {{ context = {{ x = [] }} }}\n{OK}": "a: when.context.x: got [], expected a text, a number, true or",
    f"[a]\nwhen = {{ context = {{ x = 2026-01-01 }} }}\n{OK}": "expected a text, a number, true or false, or a list",
    f"[a]\nwhen = {{ hours = '9-17' }}\n{OK}": "a: when.hours: got '9-17', expected [from, to] in whole hours such as",
    f"[a]\nwhen = {{ hours = [9, 25] }}\n{OK}": "a: when.hours[1]: got 25, expected a whole number from 0 to 24",
    f"[a]\nwhen = {{ hours = [9, 9] }}\n{OK}": "a: when.hours: got [9, 9], expected two different hours",
    f"[a]\nwhen = {{ weekdays = 'Saturday' }}\n{OK}": "a: when.weekdays: got 'Saturday', expected 'sat'",
    f"[a]\nwhen = {{ weekdays = ['x'] }}\n{OK}": "a: when.weekdays: got 'x', expected some of mon, tue",
    f"[a]\nwhen = {{ hours = [1, 2], time_zone = 'Berlin' }}\n{OK}": (
        "a: when.time_zone: got 'Berlin', expected the name of a time zone such as \"Europe/Berlin\""
    ),
    f"[a]\nwhen = {{ hours = [1, 2], time_zone = '../../etc/passwd' }}\n{OK}": "expected the name of a time zone",
    f"[a]\nwhen = {{ time_zone = 'Europe/Berlin' }}\n{OK}": "a: when.time_zone: got 'Europe/Berlin', expected hours or",
    # filters
    "[a]\nexclude = {}": "a: exclude.filter: got None, expected a filter such as \"category == 'Dairy' and price < 5\"",
    "[a]\nexclude = { filter = \"category = 'x'\" }": (
        "config/rules.toml: a: exclude.filter: expression \"category = 'x'\": got '=' at character 10, expected one of"
    ),
    "[a]\nexclude = { filter = 'price < $most' }": "a: exclude.filter: got '$most', expected values: parameters come",
    # actions
    "[a]\nboost = { filter = 'price > 5' }": "a: boost.factor: got None, expected a number from 1 to 1000",
    "[a]\nboost = { filter = 'price > 5', factor = 0.5 }": "a: boost.factor: got 0.5, expected a number from 1 to 1000",
    "[a]\nboost = { filter = 'price > 5', factor = 1 }": "got 1, expected another factor than 1, which changes nothing",
    "[a]\nbury = { filter = 'price > 5', factor = 2 }": "a: bury.factor: got 2, expected a number from 0 to 1",
    "[a]\nbury = { filter = 'price > 5', factor = -1 }": "a: bury.factor: got -1, expected a number from 0 to 1",
    "[a]\npin = { position = 1 }": "a: pin: got {'position': 1}, expected exactly one of items, filter",
    "[a]\npin = { items = ['x'], filter = 'price > 5' }": "expected exactly one of items, filter",
    "[a]\npin = { items = ['x'], position = 0 }": "a: pin.position: got 0, expected a whole number from 1 to 100",
    "[a]\npin = { items = [] }": "a: pin.items: got [], expected a list of 1 to 100 item ids, each a text",
    "[a]\npin = { items = [17] }": "a: pin.items: got [17], expected a list of 1 to 100 item ids, each a text",
    "[a]\npin = { items = ['x', 'y', 'x'] }": "a: pin.items: got 'x', expected each item once",
    "[a]\npin = { items = ['x'], at_most = 2 }": "a: pin.at_most: got 2, expected no such entry beside items",
    "[a]\npin = { filter = 'price > 5', at_most = 0 }": "a: pin.at_most: got 0, expected a whole number from 1 to 100",
    "[a]\ncap = { at_most = 2 }": "a: cap: got {'at_most': 2}, expected exactly one of filter, per",
    "[a]\ncap = { per = 'price', at_most = 2 }": 'a: cap.per: got \'price\', expected "category" or "brand"',
    "[a]\ncap = { per = 'brand' }": "a: cap.at_most: got None, expected a whole number from 1 to 100",
    "[a]\nrequire = { filter = 'price > 5', at_least = 2, share = 0.5 }": "expected at_least or share, not both",
    "[a]\nrequire = { filter = 'price > 5', at_least = 0 }": "a: require.at_least: got 0, expected a whole number",
    "[a]\nrequire = { filter = 'price > 5', share = 20 }": "a: require.share: got 20, expected a number from 0 to 1",
    "[a]\nrequire = { filter = 'price > 5', share = 0 }": "a: require.share: got 0, expected more than 0",
}


@pytest.mark.parametrize(("toml", "said"), REFUSED.items())
def test_what_is_wrong_is_named_with_the_way_out(toml: str, said: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(said)) as refused:
        load_rules(toml)
    assert str(refused.value).startswith("config/rules.toml: ")


def test_the_file_that_errors_name_can_be_given() -> None:
    with pytest.raises(ConfigError, match=r"^/etc/rules.toml: a: got 'no action'"):
        load_rules("[a]", where="/etc/rules.toml")


def test_rules_keep_the_order_in_which_they_are_written() -> None:
    assert [rule.name for rule in load_rules(f"[z]\n{OK}\n[a]\n{OK}")] == ["z", "a"]


def test_the_examples_of_the_file_are_good_and_none_is_in_force() -> None:
    text = Path("config/rules.toml").read_text()
    assert load_rules(text) == ()
    rules = load_rules(examples(text))
    assert len(rules) == 5 and conflicts(rules) == [] and unknown_segments(rules, ("vip",)) == []


def examples(text: str) -> str:
    """Return the examples of the file with their # taken away."""
    start = text.index("# [no_alcohol")
    return re.sub(r"^# ?", "", text[start:], flags=re.MULTILINE)


def test_the_examples_of_the_page_are_good() -> None:
    blocks = re.findall(r"```toml\n(.*?)```", Path("docs/rules.md").read_text(), re.DOTALL)
    assert len(blocks) > 8
    assert sum(len(load_rules(block)) for block in blocks) > 10


# Two rules [a] and [b], and what is said of them; None where they get along.
WINE = "\"category == 'Wine'\""
CONFLICTS = {
    "[a]\npin = { items = ['x', 'y'] }\n[b]\npin = { items = ['z'], position = 2 }": (
        "rules 'a' and 'b' can hold for the same request, and both pin place 2 with priority 0; give one of them a "
        "higher priority or another position"
    ),
    "[a]\npin = { items = ['x', 'y'] }\n[b]\npin = { items = ['z'], position = 3 }": None,
    "[a]\npriority = 1\npin = { items = ['x'] }\n[b]\npin = { items = ['z'] }": None,
    "[a]\npin = { items = ['x'] }\n[b]\nenabled = false\npin = { items = ['z'] }": None,
    # pinned and excluded
    "[a]\npin = { items = ['x', 'y'] }\n[b]\nexclude = { filter = \"item_id in ('y', 'z')\" }": (
        "'b' excludes what 'a' pins: 'y'; narrow 'b' or take them out of 'a': what is excluded is never shown"
    ),
    "[a]\nexclude = { filter = \"item_id != 'z'\" }\n[b]\npin = { items = ['x', 'y'] }": "what 'b' pins: 'x', 'y'",
    "[a]\npin = { items = ['x'] }\n[b]\nrequire = { filter = \"item_id == 'y'\" }": "'b' excludes what 'a' pins: 'x'",
    "[a]\npin = { items = ['x'] }\n[b]\nexclude = { filter = \"item_id == 'y'\" }": None,
    f"[a]\npin = {{ filter = {WINE} }}\n[b]\nexclude = {{ filter = {WINE} }}": "excludes what 'a' pins",
    # the same filter up and down, out and in
    f"[a]\nboost = {{ filter = {WINE}, factor = 2 }}\n[b]\nbury = {{ filter = \"category=='Wine'\", factor = 0.5 }}": (
        "one boosts what the other buries: category == 'Wine'; keep one of them"
    ),
    f"[a]\nboost = {{ filter = {WINE}, factor = 2 }}\n[b]\nboost = {{ filter = {WINE}, factor = 3 }}": None,
    f"[a]\nexclude = {{ filter = {WINE} }}\n[b]\nboost = {{ filter = {WINE}, factor = 3 }}": (
        "'a' excludes what 'b' is about: category == 'Wine'; keep one of them"
    ),
    f"[a]\nrequire = {{ filter = {WINE} }}\n[b]\nexclude = {{ filter = {WINE} }}": "'b' excludes what 'a' is about",
    f"[a]\ncap = {{ filter = {WINE}, at_most = 2 }}\n[b]\nrequire = {{ filter = {WINE}, at_least = 3 }}": (
        "'b' requires at least 3 of what 'a' caps at 2: category == 'Wine'; the cap wins, so lower at_least or raise"
    ),
    f"[a]\ncap = {{ filter = {WINE}, at_most = 3 }}\n[b]\nrequire = {{ filter = {WINE}, at_least = 3 }}": None,
}


@pytest.mark.parametrize(("toml", "said"), CONFLICTS.items())
def test_rules_that_contradict_one_another_are_told(toml: str, said: str | None) -> None:
    found = conflicts(load_rules(toml))
    assert len(found) == (said is not None)
    assert said is None or said in found[0]


# What two rules ask of a request, and whether one request can meet both.
MEETINGS = {
    ("", ""): True,
    ("when = { surface = 'home' }", ""): True,
    ("when = { surface = 'home' }", "when = { surface = 'cart' }"): False,
    ("when = { surface = ['home', 'x'] }", "when = { surface = ['x', 'cart'] }"): True,
    ("when = { channel = 'web' }", "when = { channel = 'email' }"): False,
    ("when = { segment = 'vip' }", "when = { segment = 'new' }"): True,
    ("when = { segment = 'vip' }", "when = { not_segment = 'vip' }"): False,
    ("when = { not_segment = ['vip', 'new'] }", "when = { segment = ['vip', 'old'] }"): True,
    ("when = { context = { c = 'NO' } }", "when = { context = { c = ['SE', 'DK'] } }"): False,
    ("when = { context = { c = 'NO' } }", "when = { context = { d = 'SE' } }"): True,
    ("when = { hours = [9, 12] }", "when = { hours = [12, 20] }"): False,
    ("when = { hours = [22, 6] }", "when = { hours = [5, 7] }"): True,
    ("when = { hours = [9, 12] }", "when = { hours = [12, 20], time_zone = 'Asia/Tokyo' }"): True,
    ("when = { weekdays = ['sat', 'sun'] }", "when = { weekdays = 'mon' }"): False,
    ("ends = 2026-06-01T00:00:00Z", "starts = 2026-06-01T02:00:00+02:00"): False,
    ("ends = 2026-06-01T00:00:01Z", "starts = 2026-06-01T02:00:00+02:00"): True,
}


@pytest.mark.parametrize(("asked", "meet"), MEETINGS.items())
def test_only_rules_that_can_hold_together_contradict_one_another(asked: tuple[str, str], meet: bool) -> None:
    one, other = (f"[{name}]\n{when}\npin = {{ items = ['{name}'] }}\n" for name, when in zip("ab", asked, strict=True))
    assert bool(conflicts(load_rules(one + other))) is meet
    assert bool(conflicts(load_rules(other + one))) is meet


def test_with_the_catalog_pins_are_held_against_every_filter() -> None:
    rules = load_rules(f"[a]\npin = {{ items = ['red', 'x'] }}\n[b]\nexclude = {{ filter = {WINE} }}")
    table = ItemTable.of([Item(ItemId("red"), category=("Drinks", "Wine"))])
    assert conflicts(rules) == []
    assert "'b' excludes what 'a' pins: 'red'" in conflicts(rules, table=table)[0]


def test_segments_that_do_not_exist_are_told() -> None:
    rules = load_rules(f"[a]\nwhen = {{ segment = 'vpi' }}\n{OK}\n[b]\nwhen = {{ not_segment = 'zzz' }}\n{OK}")
    assert unknown_segments(rules, ("vip", "new")) == [
        "rule 'a': no segment 'vpi', expected 'vip'; there are: new, vip (config/segments.toml)",
        "rule 'b': no segment 'zzz', expected one of: new, vip (config/segments.toml)",
    ]


def test_rules_that_have_ended_and_shared_places_are_worth_a_look() -> None:
    rules = load_rules("""
        [spring]
        ends = 2026-06-01T00:00:00Z
        pin = { items = ["x"] }
        [hero]
        pin = { items = ["y"] }
        [vip_hero]
        priority = 5
        when = { segment = "vip" }
        pin = { items = ["z"] }
    """)
    ended, shared = notices(rules, at=datetime(2026, 6, 1, tzinfo=UTC))
    assert ended == "rule 'spring' ended 2026-06-01T00:00:00+00:00; remove it, or move ends"
    assert shared == (
        "rules 'hero' and 'vip_hero' both pin place 1: 'vip_hero' goes first, the other takes the next free place"
    )
