"""What is refused in segments.toml, and what the refusal says."""

import re
import tomllib
from itertools import pairwise
from pathlib import Path

import pytest

from bespoke.errors import ConfigError
from bespoke.segments import read_segments

REFUSED = {
    # names
    '[at_risk]\nall = [{ feature = "recency_day", below = 7 }]': (
        "segments.toml: at_risk: all[0].feature: got 'recency_day', expected a feature such as 'recency_days'; "
        "see bespoke features list"
    ),
    '[a]\nall = [{ feature = "zzz", below = 7 }]': "the name of a feature; see bespoke features list",
    '[a]\nall = [{ score = "churn_30", above = 0.5 }]': (
        "all[0].score: got 'churn_30', expected a score such as 'churn_30d'; there are: churn_30d (config/scores/)"
    ),
    '[vip]\nall = [{ trait = "x", is = 1 }]\n[b]\nany = [{ segment = "vp" }]': (
        "b: any[0].segment: got 'vp', expected a segment such as 'vip'"
    ),
    '[a]\nall = [{ count = "product_added", at_least = 1 }]': "got 'product_added', expected 'Product Added'",
    '[a]\nall = [{ count = "add_to_cart", at_least = 1 }]': "expected 'Product Added', as the event is called",
    '[a]\nall = [{ count = "Segment Entered", at_least = 1 }]': "what the system says of itself is not counted",
    '[a]\nall = [{ trait = "a..b", is = 1 }]': 'a path such as "address.city"',
    '[A]\nall = [{ trait = "x", is = 1 }]': "segments.toml: A: got 'A', expected a name of small letters",
    # cycles
    '[a]\nall = [{ segment = "b" }]\n[b]\nnot = { segment = "a" }': "expected segments that do not refer to themselves",
    '[a]\nall = [{ segment = "a" }]': "got 'a -> a', expected segments that do not refer to themselves",
    # form
    "a = 1": "segments.toml: a: got 1, expected a table [a]",
    "[a]": "expected exactly one of all, any, not",
    '[a]\nall = [{ trait = "x", is = 1 }]\nany = [{ trait = "x", is = 1 }]': "expected exactly one of all, any, not",
    "[a]\nall = []": "all: got [], expected a list of 1 to 200 conditions",
    '[a]\nmeaning = 3\nall = [{ trait = "x", is = 1 }]': "meaning: got 3, expected a text",
    '[a]\nmeanin = "x"\nall = [{ trait = "x", is = 1 }]': "meanin: got 'x', expected 'meaning', or no such entry",
    '[a]\nall = [{ featur = "orders", above = 1 }]': "did you mean 'feature'?",
    '[a]\nall = [{ feature = "orders", trait = "x", above = 1 }]': "a table with exactly one of all, any, not, feature",
    '[a]\nall = [{ feature = "orders", abov = 1 }]': "all[0].abov: got 1, expected 'above', or no such entry",
    '[a]\nall = ["orders"]': "all[0]: got 'orders', expected a table",
    "[a]\nall = [" + "{ not = " * 9 + '{ trait = "x", is = 1 }' + " }" * 9 + "]": "nested at most 8 deep",
    # comparisons
    '[a]\nall = [{ feature = "orders" }]': "expected a comparison: one of above, at_least",
    '[a]\nall = [{ feature = "orders", above = "3" }]': "all[0].above: got '3', expected a number",
    '[a]\nall = [{ feature = "orders", above = true }]': "all[0].above: got True, expected a number",
    '[a]\nall = [{ feature = "orders", above = nan }]': "expected a number",
    '[a]\nall = [{ feature = "orders", is = "3" }]': "all[0].is: got '3', expected a number",
    '[a]\nall = [{ feature = "orders", above = 3, is = 4 }]': "expected one comparison; only above, at_least",
    '[a]\nall = [{ feature = "orders", above = 3, below = 3 }]': "expected bounds that some number can meet",
    '[a]\nall = [{ feature = "last_viewed", above = 3 }]': "one of is, is_not, one_of, exists: the value is a text",
    '[a]\nall = [{ feature = "last_viewed", is = 3 }]': "all[0].is: got 3, expected a text",
    '[a]\nall = [{ feature = "orders", exists = 1 }]': "all[0].exists: got 1, expected true or false",
    '[a]\nall = [{ feature = "orders", one_of = 1 }]': "all[0].one_of: got 1, expected a list of 1 to 1000 values",
    '[a]\nall = [{ trait = "x", one_of = [1, []] }]': "all[0].one_of[1]: got [], expected a text, a number, true or",
    '[a]\nall = [{ trait = "x", is = 2020-01-01 }]': "expected a text, a number, true or false",
    '[a]\nall = [{ score = "churn_30d", above = 70 }]': "all[0].above: got 70, expected a number from 0 to 1",
    # counts
    '[a]\nall = [{ count = "page" }]': "expected how many: above, at_least, below, at_most, or is",
    '[a]\nall = [{ count = "page", at_least = 0 }]': "all[0].at_least: got 0, expected a whole number from 1 to 10000",
    '[a]\nall = [{ count = "page", above = 1.5 }]': "expected a whole number from 0 to 10000",
    '[a]\nall = [{ count = "page", above = 3, at_most = 3 }]': "expected bounds that some count can meet",
    '[a]\nall = [{ count = "page", at_least = 1, within = "10 min" }]': (
        "all[0].within: got '10 min', expected a duration such as \"10 minutes\""
    ),
    '[a]\nall = [{ count = "page", at_least = 1, within = "0 days" }]': "expected a duration",
    '[a]\nall = [{ count = "page", at_least = 1, within = 600 }]': "got 600, expected a duration",
    '[a]\nall = [{ count = "page", at_least = 1, within = "9999 days" }]': "expected at most 3650 days",
    '[a]\nall = [{ count = "page", at_least = 1, category = "x" }]': "an event about items where items are filtered",
    '[a]\nall = [{ count = "page", at_least = 1, of = "lines" }]': '"lines" where the events are about items',
    '[a]\nall = [{ count = "any", at_least = 1, category = [] }]': "a text, or a list of 1 to 1000 texts",
    '[a]\nall = [{ count = "any", at_least = 1, price_above = -1 }]': "expected a number, 0 or more",
    '[a]\nall = [{ count = "Order Completed", of = "lines", at_least = 501 }]': (
        "all[0].at_least: got 501, expected at most 500: a profile keeps the newest 500 lines of 'Order Completed'"
    ),
    # places
    "[a]\nall = [{ distance_from = [52.5], within_km = 1 }]": "expected [latitude, longitude] in degrees",
    "[a]\nall = [{ distance_from = [152.5, 13], within_km = 1 }]": "distance_from[0]: got 152.5, expected a number",
    "[a]\nall = [{ distance_from = [52.5, 13] }]": "expected within_km beside distance_from",
}


@pytest.mark.parametrize(("toml", "said"), REFUSED.items())
def test_what_is_wrong_is_named_with_the_way_out(toml: str, said: str) -> None:
    with pytest.raises(ConfigError) as refused:
        read_segments(tomllib.loads(toml), scores=("churn_30d",))
    assert str(refused.value).startswith("segments.toml: ")
    assert said in str(refused.value)


def test_the_examples_of_the_page_are_good() -> None:
    page = Path("docs/segments.md").read_text()
    examples = [example for example in re.findall(r"`(\{ .*? \})`", page) if "..." not in example]
    assert len(examples) > 15
    for example in examples:
        document = {"high_value_outdoor": {"all": [{"trait": "x", "is": 1}]}, "a": {"all": [condition(example)]}}
        assert read_segments(document, scores=("churn_30d",)).names == ("a", "high_value_outdoor")


def condition(text: str) -> object:
    return tomllib.loads(f"it = {text}")["it"]


def test_a_circle_is_named_in_the_order_of_reference() -> None:
    document = {name: {"all": [{"segment": other}]} for name, other in ("ab", "bc", "ca")}
    with pytest.raises(ConfigError) as refused:
        read_segments(document)
    circle = str(refused.value).split("got '")[1].split("'")[0].split(" -> ")
    assert circle[0] == circle[-1] and all(f"{one}{other}" in ("ab", "bc", "ca") for one, other in pairwise(circle))


def test_one_segment_has_a_bounded_number_of_conditions() -> None:
    part = {"any": [{"trait": "x", "is": n} for n in range(150)]}
    with pytest.raises(ConfigError, match="got '300 conditions', expected at most 200"):
        read_segments({"a": {"all": [part, part]}})


def test_the_file_that_errors_name_can_be_given() -> None:
    with pytest.raises(ConfigError, match=r"^config/segments.toml: a: "):
        read_segments({"a": {}}, where="config/segments.toml")
