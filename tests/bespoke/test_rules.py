"""What rules do to a ranked list, with lists short enough to be worked out by hand."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from bespoke.catalog import Item, ItemTable
from bespoke.events import ItemId
from bespoke.rules import Moment, RuleBook, Ruled, load_rules

NOON = datetime(2026, 6, 1, 12, 30, tzinfo=UTC)  # a Monday
TABLE = ItemTable.of(
    [
        Item(ItemId("a"), category=("Food", "Dairy"), brand="Own", price=1.0),
        Item(ItemId("b"), category=("Food", "Dairy"), brand="Own", price=2.0),
        Item(ItemId("c"), category=("Drinks", "Wine"), brand="Chateau", price=12.0),
        Item(ItemId("d"), category=("Drinks", "Wine"), brand="Chateau", price=9.0),
        Item(ItemId("e"), category=("Home",), price=3.0),
        Item(ItemId("f"), brand="Rare", price=50.0),
        Item(ItemId("g"), brand="Rare", price=60.0, available=False),
    ]
)
CANDIDATES = {"a": 1.0, "b": 0.8, "c": 0.6, "d": 0.4, "e": 0.2}


def ruled(
    toml: str,
    *,
    moment: Moment | None = None,
    candidates: Mapping[str, float] = CANDIDATES,
    places: int = 3,
    table: ItemTable = TABLE,
) -> Ruled:
    return RuleBook.of(load_rules(toml), table).apply(
        table.items.rows(map(ItemId, candidates)),
        np.array(list(candidates.values()), dtype=np.float32),
        moment=moment or Moment(NOON),
        num_results=places,
        allowed_T=table.available_T,
    )


def ids(answer: Ruled, table: ItemTable = TABLE) -> str:
    return "".join(table.items.ids[row] for row in answer.row_C)


def costs(answer: Ruled) -> dict[str, tuple[int, float]]:
    return {each.rule: (each.items, round(each.cost, 6)) for each in answer.applied}


# What each action makes of a b c d e, scored 1.0 .8 .6 .4 .2, with three places: those have 2.4 in sum before.
ACTIONS: dict[str, tuple[str, tuple[int, float]]] = {
    "exclude = { filter = \"brand == 'Own'\" }": ("cde", (2, 1.2)),
    "require = { filter = \"brand == 'Own'\" }": ("ab", (3, 0.6)),
    # c counts 1.44 and d .96, a little less than a
    "boost = { filter = \"category == 'Wine'\", factor = 2.4 }": ("cadbe", (2, 0.4)),
    "bury = { filter = \"brand == 'Own'\", factor = 0.1 }": ("cdeab", (2, 1.2)),
    "bury = { filter = \"item_id == 'a'\", factor = 0 }": ("bcdea", (1, 0.6)),
    'cap = { per = "brand", at_most = 1 }': ("ace", (2, 0.6)),
    'cap = { per = "category", at_most = 1 }': ("ace", (2, 0.6)),
    'cap = { filter = "price < 10", at_most = 2 }': ("abc", (2, 0.0)),
    'pin = { items = ["e"], position = 1 }': ("eabcd", (1, 0.4)),
    'pin = { items = ["e", "c"], position = 2 }': ("aecbd", (2, 0.6)),
    # f was no candidate, so no model scored it
    'pin = { items = ["f"], position = 2 }': ("afbcde", (1, 0.6)),
    "pin = { filter = \"category == 'Wine'\", position = 1 }": ("cabde", (1, 0.0)),
    "pin = { filter = \"category == 'Wine'\", position = 2, at_most = 5 }": ("acdbe", (2, 0.4)),
    "require = { filter = \"category == 'Wine'\", at_least = 2 }": ("acdbe", (1, 0.4)),
    "require = { filter = \"category == 'Wine'\", share = 0.5 }": ("acdbe", (1, 0.4)),
    "require = { filter = \"category == 'Home'\", at_least = 2 }": ("abecd", (1, 0.4)),
}


@pytest.mark.parametrize(("action", "expected"), ACTIONS.items())
def test_each_action_has_the_outcome_and_the_cost_worked_out_by_hand(
    action: str, expected: tuple[str, tuple[int, float]]
) -> None:
    answer = ruled(f"[r]\n{action}")
    assert (ids(answer), costs(answer)["r"]) == expected
    assert answer.score_C.tolist() == pytest.approx([CANDIDATES.get(id, 0.0) for id in ids(answer)])


def test_costs_are_told_apart_in_the_order_of_application_and_sum_up() -> None:
    answer = ruled("""
        [home]
        require = { filter = "category == 'Home'", at_least = 1 }
        [hero]
        pin = { items = ["f"], position = 1 }
        [wine]
        boost = { filter = "category == 'Wine'", factor = 2 }
        [no_a]
        exclude = { filter = "item_id == 'a'" }
    """)
    # a b c (2.4) -> b c d (1.8) -> c b d (1.8) -> f c b (1.4) -> f c e (0.8)
    assert ids(answer) == "fcebd"
    assert list(costs(answer).items()) == [
        ("no_a", (1, 0.6)),
        ("wine", (2, 0.0)),
        ("hero", (1, 0.4)),
        ("home", (1, 0.6)),
    ]
    assert sum(each.cost for each in answer.applied) == pytest.approx(2.4 - 0.8)


def test_each_item_names_the_rules_that_moved_or_put_it() -> None:
    answer = ruled("""
        [wine]
        boost = { filter = "category == 'Wine'", factor = 2.5 }
        [hero]
        pin = { items = ["d", "f"], position = 1 }
    """)
    assert ids(answer) == "dfcabe"
    assert answer.rule_C == (("wine", "hero"), ("hero",), ("wine",), (), (), ())
    assert answer.pinned_C.tolist() == [True, True, False, False, False, False]


def test_without_a_rule_that_holds_the_list_stays_as_it_is() -> None:
    answer = ruled('[off]\nenabled = false\nexclude = { filter = "price > 0" }')
    assert (ids(answer), answer.applied, answer.rule_C) == ("abcde", (), ((),) * 5)


def test_a_rule_with_nothing_to_do_is_not_told() -> None:
    assert ruled("[r]\nexclude = { filter = \"brand == 'Nobody'\" }").applied == ()


def test_what_may_not_be_shown_is_not_pinned_and_the_next_takes_its_place() -> None:
    answer = ruled("""
        [hero]
        pin = { items = ["g", "unknown", "a", "e"], position = 1 }
        [no_a]
        exclude = { filter = "item_id == 'a'" }
    """)
    assert ids(answer) == "ebcd"


def test_a_pin_that_nothing_else_may_stand_beside_is_held_against_it() -> None:
    assert ids(ruled("[p]\npin = { items = ['f'] }\n[own]\nrequire = { filter = \"brand == 'Own'\" }")) == "ab"


def test_of_two_pins_for_one_place_the_higher_priority_goes_first_and_the_other_next_to_it() -> None:
    low, high = "[low]\npin = { items = ['e'] }\n", "[high]\npriority = 5\npin = { items = ['d'] }\n"
    assert ids(ruled(low + high)) == "deabc"


def test_of_equal_priorities_the_rule_that_is_written_first_goes_first() -> None:
    assert ids(ruled("[z]\npin = { items = ['e'] }\n[a]\npin = { items = ['d'] }\n")) == "edabc"


def test_a_place_that_is_not_shown_is_not_taken() -> None:
    answer = ruled("[p]\npin = { items = ['e', 'd'], position = 3 }")
    assert (ids(answer), answer.pinned_C.sum()) == ("abecd", 1)
    assert ids(ruled("[p]\npin = { items = ['a'], position = 4 }")) == "abcde"


def test_a_pin_beyond_the_end_of_a_short_list_comes_last() -> None:
    assert ids(ruled("[p]\npin = { items = ['a', 'f'], position = 9 }", places=20)) == "bcdeaf"


def test_pinned_items_count_in_a_cap_and_stay() -> None:
    cap = "[cap]\ncap = { filter = \"category == 'Wine'\", at_most = 1 }\n"
    assert ids(ruled(cap)) == "abce"
    assert ids(ruled(cap + "[p]\npin = { items = ['d'], position = 1 }")) == "dabe"
    assert ids(ruled(cap + "[p]\npin = { items = ['c', 'd'], position = 1 }")) == "cdabe"


def test_items_without_a_brand_are_not_capped_per_brand() -> None:
    table = ItemTable.of(Item(ItemId(id)) for id in "abc")
    answer = ruled("[r]\ncap = { per = 'brand', at_most = 1 }", candidates={"a": 3, "b": 2, "c": 1}, table=table)
    assert ids(answer, table) == "abc"


def test_pinned_items_count_in_what_is_required_and_are_not_displaced() -> None:
    pin = "[p]\npin = { items = ['f'], position = 3 }\n"
    assert ids(ruled(pin + "[r]\nrequire = { filter = \"brand == 'Rare'\", at_least = 1 }")) == "abfcde"
    assert ids(ruled(pin + "[r]\nrequire = { filter = \"category == 'Wine'\", at_least = 3 }")) == "cdfabe"


def test_what_a_rule_of_higher_priority_requires_is_not_taken_away() -> None:
    first = "[home]\npriority = 1\nrequire = { filter = \"category == 'Home'\", at_least = 1 }\n"
    second = "[wine]\nrequire = { filter = \"category == 'Wine'\", at_least = 3 }\n"
    assert sorted(ids(ruled(first + second))[:3]) == ["c", "d", "e"]


def test_a_factor_keeps_the_order_of_a_list_that_was_diversified() -> None:
    # The list comes as d a b c e: the second place counts .8 and the third .6, whatever the items' own scores.
    spread = {"d": 0.4, "a": 1.0, "b": 0.8, "c": 0.6, "e": 0.2}
    assert ids(ruled("[r]\nboost = { filter = \"brand == 'Nobody'\", factor = 3 }", candidates=spread)) == "dabce"
    assert ids(ruled("[r]\nboost = { filter = \"item_id == 'b'\", factor = 1.5 }", candidates=spread)) == "dbace"


def test_a_boost_of_negative_scores_is_still_a_boost() -> None:
    below = {"a": -1.0, "b": -1.5, "c": -2.0, "d": -3.0}
    assert ids(ruled("[r]\nboost = { filter = \"item_id == 'c'\", factor = 3 }", candidates=below)) == "cabd"
    assert ids(ruled("[r]\nbury = { filter = \"item_id == 'a'\", factor = 0.5 }", candidates=below)) == "bacd"


def test_no_candidates_at_all_leave_what_is_pinned() -> None:
    toml = "[p]\npin = { items = ['f', 'a'] }\n[c]\ncap = { per = 'brand', at_most = 1 }\n"
    toml += "[b]\nboost = { filter = 'price > 1', factor = 2 }\n[r]\nrequire = { filter = 'price > 1', at_least = 2 }"
    answer = ruled(toml, candidates={})
    assert (ids(answer), answer.score_C.tolist()) == ("fa", [0.0, 0.0])


def test_more_rules_than_a_machine_word_has_bits_can_hold_at_once() -> None:
    toml = "".join(f"[r{n}]\nboost = {{ filter = \"item_id == 'e'\", factor = 1.1 }}\n" for n in range(80))
    answer = ruled(toml)
    assert ids(answer)[0] == "e" and answer.rule_C[0] == tuple(f"r{n}" for n in range(80))


def test_items_of_a_pin_that_the_catalog_lacks_are_known() -> None:
    book = RuleBook.of(
        load_rules("[p]\npin = { items = ['a', 'x'] }\n[q]\npin = { items = ['b'], position = 2 }"), TABLE
    )
    assert book.unknown == {"p": ("x",)}


def test_what_the_rules_bar_is_one_mask_for_the_sources() -> None:
    rules = load_rules(
        "[no_own]\nexclude = { filter = \"brand == 'Own'\" }\n[cheap]\nrequire = { filter = 'price < 20' }"
    )
    barred_T = RuleBook.of(rules, TABLE).barred(Moment(NOON))
    assert barred_T is not None and barred_T.tolist() == [True, True, False, False, False, True, True]
    assert RuleBook.of((), TABLE).barred(Moment(NOON)) is None


# When = what is asked, and the moments that it holds and does not hold for.
WHEN: dict[str, tuple[dict[str, object], dict[str, object]]] = {
    "surface = 'home'": ({"surface": "home"}, {"surface": "cart"}),
    "surface = ['home', 'cart']": ({"surface": "cart"}, {}),
    "channel = 'email'": ({"channel": "email"}, {"channel": "web"}),
    "segment = ['vip', 'new']": ({"segments": ["new", "x"]}, {"segments": ["x"]}),
    "not_segment = ['vip', 'new']": ({"segments": ["x"]}, {"segments": ["vip"]}),
    "context = { country = 'NO' }": ({"context": {"country": "NO"}}, {"context": {"country": "SE"}}),
    "context = { country = ['NO', 'SE'], member = true }": (
        {"context": {"country": "SE", "member": True}},
        {"context": {"country": "SE"}},
    ),
    "context = { member = true }": ({"context": {"member": True}}, {"context": {"member": 1}}),
    "context = { level = 3 }": ({"context": {"level": 3.0}}, {"context": {"level": "3"}}),
    "hours = [12, 13]": ({}, {"at": NOON + timedelta(minutes=30)}),
    "hours = [22, 6]": ({"at": NOON.replace(hour=3)}, {"at": NOON.replace(hour=6)}),
    "hours = [20, 24]": ({"at": NOON.replace(hour=23)}, {"at": NOON.replace(hour=0)}),
    # Berlin is two hours ahead in June, so Sunday ends there at 22:00 UTC
    "weekdays = 'mon'": ({}, {"at": NOON - timedelta(days=1)}),
    "weekdays = ['mon'], time_zone = 'Europe/Berlin'": (
        {"at": datetime(2026, 5, 31, 22, 0, tzinfo=UTC)},
        {"at": datetime(2026, 5, 31, 21, 59, tzinfo=UTC)},
    ),
    "hours = [14, 15], time_zone = 'Europe/Berlin'": ({}, {"at": NOON + timedelta(hours=1)}),
    "surface = 'home', segment = 'vip'": (
        {"surface": "home", "segments": ["vip"]},
        {"surface": "home", "segments": []},
    ),
}


@pytest.mark.parametrize(("when", "moments"), WHEN.items())
def test_a_rule_holds_when_all_that_it_asks_of_the_request_is_so(
    when: str, moments: tuple[dict[str, object], dict[str, object]]
) -> None:
    [rule] = load_rules(f"[r]\nwhen = {{ {when} }}\nexclude = {{ filter = 'price > 0' }}")
    asked = [Moment(**{"at": NOON, **each}) for each in moments]  # type: ignore[arg-type]
    assert [rule.holds(moment) for moment in asked] == [True, False]


def test_a_rule_holds_from_its_start_until_just_before_its_end() -> None:
    [rule] = load_rules("""
        [r]
        starts = 2026-06-01T14:30:00+02:00
        ends = 2026-06-01T12:31:00Z
        exclude = { filter = "price > 0" }
    """)
    steps = [-1, 0, 59, 60]
    assert [rule.holds(Moment(NOON + timedelta(seconds=step))) for step in steps] == [False, True, True, False]


def test_only_the_rules_that_hold_are_in_force() -> None:
    toml = "[at_home]\nwhen = { surface = 'home' }\npin = { items = ['e'] }\n"
    toml += "[no_a]\nexclude = { filter = \"item_id == 'a'\" }"
    book = RuleBook.of(load_rules(toml), TABLE)
    assert book.in_force(Moment(NOON)) == ("no_a",)
    assert book.in_force(Moment(NOON, surface="home")) == ("no_a", "at_home")
