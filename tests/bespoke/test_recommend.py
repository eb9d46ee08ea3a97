"""The ladder of sources, filters, reasons, and what an answer says when something is missing."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from bespoke.catalog import Item, ItemTable
from bespoke.clock import DAY_MS
from bespoke.events import ItemId, UserId
from bespoke.expressions import parse_expression
from bespoke.models.arrays import FloatArray, RowArray
from bespoke.models.base import Interactions, Model
from bespoke.models.blend import Blend, BlendConfig
from bespoke.models.bundle import Bundle, Window, read_bundle, write_bundle
from bespoke.models.history import History
from bespoke.models.index import BoolArray, Retrieved
from bespoke.models.popularity import Popularity
from bespoke.profiles import Recent
from bespoke.recommend import (
    Decision,
    Engine,
    Filter,
    Pipeline,
    Promotion,
    Question,
    Request,
    Shelf,
    Sources,
    table_of,
)
from bespoke.recommend.settings import parse_pipeline
from bespoke.rules import load_rules

AT_MS = 100 * DAY_MS
DAY = datetime(2026, 1, 31, tzinfo=UTC)
SHOP = [(f"u{user}", f"i{item}") for user in range(12) for item in range(user % 2, 8, 2) if item != user % 8]
LATER = [(f"u{user}", f"p{item}") for user in range(6) for item in range(user + 1)]


def learn(lines: Sequence[tuple[str, str]]) -> Interactions:
    users, items = zip(*lines, strict=True)
    return Interactions.from_columns(users, items, np.full(len(lines), AT_MS - DAY_MS), np.ones(len(lines)))


def bundle_of(model: Model, folder: Path, items: Sequence[Item] = ()) -> Bundle:
    folder.mkdir()
    write_bundle(
        folder,
        model,
        name=model.kind,
        version="1",
        window=Window(since=datetime(2026, 1, 1, tzinfo=UTC), until=DAY),
        fingerprint="f",
        seed=0,
        metrics={},
        feature_service=None,
        parent=None,
        git_revision=None,
        created_at=DAY,
        items=items,
    )
    return read_bundle(folder)


@pytest.fixture(scope="module")
def blend(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A blend over i0 .. i7, whose catalog also holds three items that nobody took and one that is sold out."""
    model = Blend.fit(learn(SHOP), config=BlendConfig(factors=4), at_ms=AT_MS)
    items = [Item(ItemId(id)) for id in ("i0", "new1", "new2", "new3")] + [Item(ItemId("i7"), available=False)]
    return bundle_of(model, tmp_path_factory.mktemp("bundles") / "blend", items)


@pytest.fixture(scope="module")
def popularity(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """Popularity over p0 .. p5: p0 comes first."""
    return bundle_of(Popularity.fit(learn(LATER), at_ms=AT_MS), tmp_path_factory.mktemp("bundles") / "popularity")


def engine_of(
    blend: Bundle | None, popularity: Bundle | None = None, *, pipeline: Pipeline | None = None, rules: str = ""
) -> Engine:
    bundles = [bundle for bundle in (blend, popularity) if bundle is not None]
    table = table_of(bundles)
    shelf, popular = (None if one is None else Shelf.of(one.manifest.name, one, table) for one in (blend, popularity))
    pointed = {} if popular is None else {"window": popular}
    sources = Sources.of(table, shelf=shelf, popularity=popular, pointed=pointed)
    return Engine.of(sources, pipeline=pipeline, rules=load_rules(rules))


@pytest.fixture(scope="module")
def engine(blend: Bundle, popularity: Bundle) -> Engine:
    return engine_of(blend, popularity)


def test_a_shelf_is_taken_over_only_where_its_items_stay(blend: Bundle, popularity: Bundle) -> None:
    table = table_of([blend, popularity])
    shelf = Shelf.of("blend", blend, table)
    others = [Item(ItemId(f"p{number}x")) for number in range(7)]
    renamed = table_of([blend]).merged(ItemTable.of(others))
    taken, fresh = shelf.over(renamed), Shelf.of("blend", blend, renamed)
    assert taken is not None and taken.placed.items is renamed.items
    for name in ("row_I", "item_T1"):
        np.testing.assert_array_equal(getattr(taken.placed, name), getattr(fresh.placed, name))
    np.testing.assert_array_equal(taken.popular.row_N, fresh.popular.row_N)
    assert shelf.over(table_of([popularity, blend])) is None


def bought(*items: str, days_ago: int = 2) -> tuple[Recent, ...]:
    return tuple(Recent(AT_MS - days_ago * DAY_MS, ItemId(item), "purchase", 1.0) for item in items)


def ids(decision: Decision) -> list[str]:
    return [item.item_id for item in decision.items]


def ask(user: str | None = "u1", **more: object) -> Request:
    request = Request(None if user is None else UserId(user), AT_MS)
    return replace(request, **more)  # type: ignore[arg-type]


def test_own_items_come_first_for_a_known_person(engine: Engine) -> None:
    decision = engine.recommend(ask(recent=bought("i3", "i3", "i5"), num_results=3))
    assert ids(decision)[:2] == ["i3", "i5"] and decision.degraded is None
    assert {item.source for item in decision.items} == {"personal"}


def test_recent_items_place_a_person_whom_the_model_does_not_know(engine: Engine) -> None:
    decision = engine.recommend(ask("stranger", recent=bought("i3"), num_results=3))
    assert ids(decision)[0] == "i3" and decision.items[0].source == "recent_items"


def test_a_stranger_without_history_gets_what_is_popular(engine: Engine) -> None:
    decision = engine.recommend(ask(None, num_results=4))
    assert {item.source for item in decision.items} == {"popular"} and decision.degraded is None


def test_without_a_model_the_popular_window_answers_and_says_so(popularity: Bundle) -> None:
    decision = engine_of(None, popularity).recommend(ask(num_results=3))
    assert ids(decision) == ["p0", "p1", "p2"] and decision.degraded == "no_model"
    assert decision.items[0].source == "popular"


def test_without_a_popularity_bundle_the_bundled_list_fills_up(blend: Bundle) -> None:
    engine = engine_of(blend)
    only_list = replace(engine, sources=replace(engine.sources, model=None))
    decision = only_list.recommend(ask(num_results=3))
    assert ids(decision) == list(blend.popular[:3]) and decision.items[0].source == "bundled_popular"


def test_lower_rungs_fill_the_places_that_are_left_without_repeating_anything(engine: Engine) -> None:
    decision = engine.recommend(ask(num_results=50))
    assert len(set(ids(decision))) == len(decision.items) == 7 + 6 + 3, "all but the item that is sold out"
    order = [item.source for item in decision.items]
    assert order == ["personal"] * 7 + ["popular"] * 6 + ["catalog"] * 3


@pytest.mark.parametrize("count", [1, 5, 16])
def test_as_many_come_as_were_asked_for(engine: Engine, count: int) -> None:
    assert len(engine.recommend(ask(num_results=count)).items) == count


def test_items_that_are_not_available_never_come(engine: Engine) -> None:
    everything = ids(engine.recommend(ask(recent=bought("i3", "i7"), num_results=50)))
    assert "i7" not in everything and len(everything) == 16


def test_named_items_are_left_out_of_every_rung(engine: Engine) -> None:
    gone = frozenset(ItemId(id) for id in ("i3", "p0", "new2", "unheard-of"))
    everything = ids(engine.recommend(ask(exclude=gone, num_results=50)))
    assert len(everything) == 13 and not gone & set(everything)


def test_seen_items_stay_unless_asked_out(engine: Engine) -> None:
    request = ask(recent=bought("i3", "p0"), num_results=50)
    assert {"i3", "p0"} <= set(ids(engine.recommend(request)))
    assert not {"i3", "p0"} & set(ids(engine.recommend(replace(request, exclude_seen=True))))


def test_the_item_being_looked_at_places_a_stranger_and_does_not_come_itself(engine: Engine) -> None:
    decision = engine.recommend(ask("stranger", item_id=ItemId("i3"), num_results=2))
    assert "i3" not in ids(decision) and decision.items[0].source == "recent_items"
    assert ids(decision)[0] in {"i1", "i5"}, "what those like who like i3"


def test_reasons_tell_what_the_person_did(engine: Engine) -> None:
    viewed = Recent(AT_MS, ItemId("i5"), "view", 1.0)
    recent = (*bought("i3", "i3"), Recent(AT_MS, ItemId("i3"), "view", 1.0), viewed)
    reasons = {item.item_id: item.reasons for item in engine.recommend(ask(recent=recent)).items}
    assert reasons[ItemId("i3")] == ("bought 2 times, last 2 days ago",)
    assert reasons[ItemId("i5")] == ("viewed 1 time, last 0 days ago",)
    assert reasons[ItemId("p0")] == ("popular now",)


def test_what_went_wrong_before_stays_in_the_answer(engine: Engine, popularity: Bundle) -> None:
    known = engine.recommend(ask(degraded="features_unavailable"))
    assert known.degraded == "features_unavailable" and known.items[0].source == "personal"
    neither = engine_of(None, popularity).recommend(ask(degraded="features_unavailable"))
    assert neither.degraded == "features_unavailable" and neither.items


class BrokenModel(Popularity):
    """A popularity model whose scores go wrong in a chosen way."""

    go_wrong: Callable[[], FloatArray]

    def scores(self, history: History) -> FloatArray:
        return self.go_wrong()

    def retrieve(self, history: History, *, k: int, barred_I: BoolArray | None, exclude: RowArray) -> Retrieved:
        return Retrieved(np.arange(6, dtype=np.int32), self.go_wrong())


@pytest.mark.parametrize(
    "wrong", [lambda: np.full(6, np.nan, dtype=np.float32), lambda: np.linalg.inv(np.zeros((2, 2)))]
)
def test_a_model_that_fails_is_passed_over_in_the_open(popularity: Bundle, wrong: Callable[[], FloatArray]) -> None:
    broken = BrokenModel.fit(learn(LATER), at_ms=AT_MS)
    broken.go_wrong = wrong
    engine = engine_of(popularity)
    assert engine.sources.model is not None
    placed = replace(engine.sources.model, model=broken)
    decision = replace(engine, sources=replace(engine.sources, model=placed)).recommend(ask(num_results=2))
    assert decision.degraded == "model_failed" and ids(decision) == ["p0", "p1"]


def test_without_anything_the_answer_is_empty_and_says_so() -> None:
    decision = engine_of(None).recommend(ask())
    assert decision.items == () and decision.degraded == "no_model"


def test_the_same_request_is_the_same_decision(engine: Engine) -> None:
    request = ask(recent=bought("i3", "i5", "p2"))
    assert engine.recommend(request).items == engine.recommend(request).items


def test_a_request_filter_lets_only_matching_items_come(blend: Bundle, popularity: Bundle) -> None:
    engine = engine_of(blend, popularity)
    wanted = Filter(parse_expression("item_id in $these"), {"these": ["i3", "p1", "new1"]})
    decision = engine.recommend(ask(recent=bought("i5"), filter=wanted, num_results=10))
    assert sorted(ids(decision)) == ["i3", "new1", "p1"]


def test_what_was_bought_too_lately_is_left_out(blend: Bundle, popularity: Bundle) -> None:
    engine = engine_of(blend, popularity, pipeline=Pipeline(bought_within_days=3))
    decision = engine.recommend(ask(recent=(*bought("i3", days_ago=2), *bought("i5", days_ago=4)), num_results=50))
    assert "i3" not in ids(decision) and "i5" in ids(decision)
    assert engine.sources.table.items.row(ItemId("i3")) in (decision.trace.excluded_T if decision.trace else {})


def test_items_shown_often_enough_are_capped(blend: Bundle, popularity: Bundle) -> None:
    pipeline = parse_pipeline("capped", {"frequency_cap": {"times": 3, "days": 7}})
    request = ask(recent=bought("i3", "i5"), shown={ItemId("i3"): 3, ItemId("i5"): 2}, num_results=50)
    decision = engine_of(blend, popularity, pipeline=pipeline).recommend(request)
    assert "i3" not in ids(decision) and "i5" in ids(decision)


FUSION = {
    "blend": "fusion",
    "sources": [{"kind": "model", "budget": 3}, {"pointer": "window", "budget": 3, "weight": 2.0}],
}


def test_a_fusion_mixes_sources_by_rank_and_weight(blend: Bundle, popularity: Bundle) -> None:
    engine = engine_of(blend, popularity, pipeline=parse_pipeline("mixed", FUSION))
    decision = engine.recommend(ask(recent=bought("i3", "i3", "i5"), num_results=6))
    assert ids(decision)[:3] == ["p0", "p1", "p2"], "twice the weight, so its third is before the model's first"
    assert [item.source for item in decision.items] == ["window"] * 3 + ["personal"] * 3


def test_a_source_without_a_version_is_empty_and_nothing_is_degraded(blend: Bundle) -> None:
    pipeline = parse_pipeline("mixed", {"sources": [{"kind": "model"}, {"pointer": "not-there"}]})
    decision = engine_of(blend, pipeline=pipeline).recommend(ask(num_results=3))
    assert len(decision.items) == 3 and decision.degraded is None and decision.skipped == ()


def test_sources_that_would_begin_late_are_skipped_and_said(blend: Bundle, popularity: Bundle) -> None:
    ticks = iter(range(1000))
    engine = engine_of(blend, popularity, pipeline=parse_pipeline("mixed", FUSION))
    decision = engine.recommend(ask(num_results=3), timer=lambda: next(ticks) * 1.0)
    assert decision.skipped == ("candidates:window",) and len(decision.items) == 3
    assert ids(engine.recommend(ask(num_results=3, skip=frozenset(decision.skipped)))) == ids(decision), "replayed"


def test_similar_items_are_those_of_the_same_people(blend: Bundle, popularity: Bundle) -> None:
    request = ask(None, question=Question.SIMILAR, item_id=ItemId("i3"), num_results=2)
    assert set(ids(engine_of(blend, popularity).recommend(request))) <= {"i1", "i5"}


def test_trending_is_the_same_for_everybody(engine: Engine) -> None:
    one, other = (
        engine.recommend(ask(user, question=Question.TRENDING, recent=lines, num_results=3))
        for user, lines in (("u1", bought("i3")), (None, ()))
    )
    assert ids(one) == ids(other) == ["p0", "p1", "p2"]


def test_a_given_list_is_put_in_order_and_nothing_is_added(engine: Engine) -> None:
    listed = tuple(ItemId(id) for id in ("i1", "p3", "i5", "i3", "unheard-of"))
    decision = engine.recommend(ask(question=Question.RANK, rank=listed, recent=bought("i3", "i3", "i5")))
    assert ids(decision) == ["i3", "i5", "i1", "p3"], "what the model does not know comes last"


def test_a_promotion_gets_its_share_of_places(engine: Engine) -> None:
    promoted = Promotion("news", Filter(parse_expression("item_id in ('new1', 'p5')"), {}), 0.5)
    decision = engine.recommend(ask(recent=bought("i3", "i5"), promotions=(promoted,), num_results=4))
    assert len(decision.items) == 4 and ids(decision)[0] == "p5"
    assert [item.rules for item in decision.items if item.item_id == "p5"] == [("news",)]


GATE = """
[only-window]
when = {}
require = {filter = "item_id in ('p4', 'p5')"}
"""


def test_a_list_that_rules_make_short_is_filled_with_what_they_leave(blend: Bundle, popularity: Bundle) -> None:
    engine = engine_of(
        blend, popularity, pipeline=Pipeline.model_validate({"sources": [{"kind": "model", "budget": 2}]}), rules=GATE
    )
    decision = engine.recommend(ask(recent=bought("i3"), num_results=2))
    assert sorted(ids(decision)) == ["p4", "p5"]


def test_explored_places_say_how_probable_they_were(blend: Bundle, popularity: Bundle) -> None:
    pipeline = parse_pipeline("curious", {"exploration": {"share": 0.25, "pool": 5}})
    engine = engine_of(blend, popularity, pipeline=pipeline)
    found = [
        (place, item.item_id, item.propensity)
        for seed in range(4_000)
        for place, item in enumerate(engine.recommend(ask(seed=f"{seed}", num_results=3)).items)
    ]
    for place, item_id, propensity in set(found):
        share = sum((at, id) == (place, item_id) for at, id, _ in found) / 4_000
        assert abs(share - propensity) < 4 * (propensity * (1 - propensity) / 4_000) ** 0.5
