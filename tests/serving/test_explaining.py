"""A list says where its items came from, and of others why they are not in it."""

from datetime import UTC, datetime

import pytest

from bespoke.catalog import Item, ItemTable
from bespoke.clock import DAY_MS, to_ms
from bespoke.events import ItemId
from bespoke.expressions import parse_expression
from bespoke.models.base import Interactions
from bespoke.models.buy_again import BuyAgain
from bespoke.profiles import Recent
from bespoke.recommend import Engine, Filter, Pipeline, Request, Sources
from bespoke.recommend.placed import PlacedModel
from bespoke.recommend.settings import Diversity, Exploration
from bespoke.rules import Rule, load_rules
from serving.explaining import Explanation, NotShown, differences, explain

NOW = to_ms(datetime(2026, 3, 1, 12, tzinfo=UTC))
IDS = tuple(ItemId(f"i{n:02d}") for n in range(20))
"""The first is the most popular."""
RULES = load_rules("""
[no-fives]
exclude = { filter = "item_id == 'i05'" }

[one-of-a-brand]
cap = { per = "brand", at_most = 1 }

[first]
pin = { items = ["i09"], position = 1 }
""")


def engine(pipeline: Pipeline | None = None, *, rules: str = "") -> Engine:
    """Return an engine over twenty items by popularity; the seventh is sold out."""
    items = [
        Item(id, price=float(n), brand="X" if n in (0, 3) else f"b{n}", available=n != 7, rebuy_after_days=10.0)
        for n, id in enumerate(IDS)
    ]
    table = ItemTable.of(items)
    weights = [float(len(IDS) - n) for n in range(len(IDS))]
    columns = Interactions.from_columns(["u"] * len(IDS), list(IDS), [NOW - 1] * len(IDS), weights)
    model = BuyAgain.fit(columns, at_ms=NOW)
    return Engine.of(
        Sources(table, PlacedModel.of("test", model, table)),
        pipeline=pipeline,
        rules=named(rules),
    )


def named(rules: str) -> list[Rule]:
    return [rule for rule in RULES if rule.name in rules.split()]


def explained(made: Engine, request: Request, *items: str, rules: str = "") -> Explanation:
    decision = made.recommend(request, timer=lambda: 0.0)
    return explain(request, decision, engine=made, rules=named(rules), items=tuple(map(ItemId, items)))


def why(made: Engine, request: Request, item: str) -> tuple[str, str]:
    (found,) = explained(made, request, item).not_shown
    return found.reason, found.detail


ASKED = Request(None, NOW, num_results=3, seed="r")


def test_each_item_says_its_source_its_places_and_the_model_s_score() -> None:
    told = explained(engine(), ASKED)
    first = told.items[0]
    assert (first.item_id, first.position, first.source, first.source_ranks) == ("i00", 1, "popular", {"popular": 1})
    assert first.places == {"blend": 1, "diversify": 1, "rules": 1, "final": 1}
    assert first.model_score is not None
    assert first.model_score > (told.items[1].model_score or 0.0)
    assert (told.candidates, told.removed) == (19, {"unavailable": 1})


@pytest.mark.parametrize(
    ("item", "reason", "detail"),
    [
        ("nothing", "unknown_item", "neither a model nor the catalog named it"),
        ("i07", "unavailable", "it was not available"),
        ("i02", "shown", "it was shown at position 3"),
        ("i06", "ranked", "it was ranked 7th of 19"),
    ],
)
def test_an_item_says_why_it_is_not_there(item: str, reason: str, detail: str) -> None:
    assert why(engine(), ASKED, item) == (reason, detail)


def test_what_was_bought_lately_says_when() -> None:
    bought = Recent(NOW - 3 * DAY_MS, IDS[1], "purchase", 1.0)
    request = Request(None, NOW, num_results=3, recent=(bought,), seed="r")
    assert why(engine(), request, "i01") == ("excluded", "bought within 10 days: last bought 3 days ago")


def test_filters_say_their_text_and_how_much_they_took_away() -> None:
    dear = Filter(parse_expression("price >= $low"), {"low": 4})
    request = Request(None, NOW, num_results=3, filter=dear, seed="r")
    made = engine(Pipeline(filter="price < 15"))
    assert why(made, request, "i02") == ("filtered", "the request's filter does not hold for it: price >= $low")
    assert why(made, request, "i16") == ("filtered", "the pipeline's filter does not hold for it: price < 15")
    assert explained(made, request).removed == {
        "unavailable": 1,
        "the pipeline's filter": 5,
        "the request's filter": 4,
    }


def test_rules_say_what_they_took_out_and_what_they_put_in() -> None:
    rules = "no-fives one-of-a-brand first"
    made = engine(rules=rules)
    request = Request(None, NOW, num_results=6, seed="r")
    told = explained(made, request, "i05", "i03", rules=rules)
    assert [(one.reason, one.detail) for one in told.not_shown] == [
        ("rule", "rule no-fives lets nobody see it"),
        ("rule", "too much of its kind was left out, by one-of-a-brand"),
    ]
    assert (told.items[0].item_id, told.items[0].rules) == ("i09", ("first",))
    assert {name for name, _, _ in told.rules} == {"no-fives", "one-of-a-brand", "first"}
    assert told.removed["rule no-fives"] == 1


def test_a_stage_that_moved_an_item_out_is_named() -> None:
    capped = Pipeline(diversity=Diversity(per_brand=1))
    request = Request(None, NOW, num_results=4, seed="r")
    assert why(engine(capped), request, "i03")[1].endswith("; diversification moved it down from 4")
    drawn = Pipeline(exploration=Exploration(share=0.5, pool=10))
    told = explained(engine(drawn), request, *IDS[:4])
    gone: list[NotShown] = [one for one in told.not_shown if one.reason == "ranked"]
    assert gone
    assert all("exploration gave its place" in one.detail for one in gone)
    assert {item.propensity for item in told.items} <= {0.5, 0.05}


def test_a_decision_differs_from_what_was_logged_by_items_and_then_by_what_is_said_of_them() -> None:
    made = engine()
    decision = made.recommend(ASKED, timer=lambda: 0.0)
    logged = [{"product_id": item.item_id, "source": item.source, "propensity": 1.0} for item in decision.items]
    assert differences(decision, logged) == []
    assert differences(decision, logged[:2]) == ["the items differ from position 3 on"]
    assert differences(decision, [*logged[:2], {**logged[2], "propensity": 0.5}]) == [
        "position 3: propensity was 0.5 and is 1.0"
    ]
