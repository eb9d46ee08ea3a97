"""The ladder of sources, filters, reasons, and what an answer says when something is missing."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from bespoke.catalog import Item
from bespoke.clock import DAY_MS
from bespoke.events import ItemId, UserId
from bespoke.models.base import FloatArray, History, Interactions, Model
from bespoke.models.blend import Blend, BlendConfig
from bespoke.models.bundle import Bundle, Window, read_bundle, write_bundle
from bespoke.models.popularity import Popularity
from bespoke.profiles import Recent
from bespoke.recommend import STEPS, Decision, Request, Source, Sources, State, recommend

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


@pytest.fixture(scope="module")
def sources(blend: Bundle, popularity: Bundle) -> Sources:
    return Sources.of(blend, popularity=popularity)


def bought(*items: str, days_ago: int = 2) -> tuple[Recent, ...]:
    return tuple(Recent(AT_MS - days_ago * DAY_MS, ItemId(item), "purchase", 1.0) for item in items)


def ids(decision: Decision) -> list[str]:
    return [item.item_id for item in decision.items]


def ask(user: str | None = "u1", **more: object) -> Request:
    request = Request(None if user is None else UserId(user), AT_MS)
    return replace(request, **more)  # type: ignore[arg-type]


def test_own_items_come_first_for_a_known_person(sources: Sources) -> None:
    decision = recommend(ask(recent=bought("i3", "i3", "i5"), num_results=3), sources=sources)
    assert ids(decision)[:2] == ["i3", "i5"] and decision.degraded is None
    assert {item.source for item in decision.items} == {Source.PERSONAL}


def test_recent_items_place_a_person_whom_the_model_does_not_know(sources: Sources) -> None:
    decision = recommend(ask("stranger", recent=bought("i3"), num_results=3), sources=sources)
    assert ids(decision)[0] == "i3" and decision.items[0].source is Source.RECENT_ITEMS


def test_a_stranger_without_history_gets_what_is_popular(sources: Sources) -> None:
    decision = recommend(ask(None, num_results=4), sources=sources)
    assert {item.source for item in decision.items} == {Source.POPULAR} and decision.degraded is None


def test_without_a_model_the_popular_window_answers_and_says_so(popularity: Bundle) -> None:
    decision = recommend(ask(num_results=3), sources=Sources.of(None, popularity=popularity))
    assert ids(decision) == ["p0", "p1", "p2"] and decision.degraded == "no_model"
    assert decision.items[0].source is Source.POPULAR


def test_without_a_popularity_bundle_the_bundled_list_fills_up(blend: Bundle) -> None:
    only_list = replace(Sources.of(blend), model=None)
    decision = recommend(ask(num_results=3), sources=only_list)
    assert ids(decision) == list(blend.popular[:3]) and decision.items[0].source is Source.BUNDLED_POPULAR


def test_lower_rungs_fill_the_places_that_are_left_without_repeating_anything(sources: Sources) -> None:
    decision = recommend(ask(num_results=50), sources=sources)
    assert len(set(ids(decision))) == len(decision.items) == 7 + 6 + 3, "all but the item that is sold out"
    order = [item.source for item in decision.items]
    assert order == [Source.PERSONAL] * 7 + [Source.POPULAR] * 6 + [Source.CATALOG] * 3


@pytest.mark.parametrize("count", [1, 5, 16])
def test_as_many_come_as_were_asked_for(sources: Sources, count: int) -> None:
    assert len(recommend(ask(num_results=count), sources=sources).items) == count


def test_items_that_are_not_available_never_come(blend: Bundle, popularity: Bundle) -> None:
    barred = Sources.of(blend, popularity=popularity, unavailable={ItemId("p0"), ItemId("i3")})
    everything = ids(recommend(ask(recent=bought("i3", "i7"), num_results=50), sources=barred))
    assert not {"i7", "p0", "i3"} & set(everything)


def test_named_items_are_left_out_of_every_rung(sources: Sources) -> None:
    gone = frozenset(ItemId(id) for id in ("i3", "p0", "new2", "unheard-of"))
    everything = ids(recommend(ask(exclude=gone, num_results=50), sources=sources))
    assert len(everything) == 13 and not gone & set(everything)


def test_seen_items_stay_unless_asked_out(sources: Sources) -> None:
    request = ask(recent=bought("i3", "p0"), num_results=50)
    assert {"i3", "p0"} <= set(ids(recommend(request, sources=sources)))
    assert not {"i3", "p0"} & set(ids(recommend(replace(request, exclude_seen=True), sources=sources)))


def test_the_item_being_looked_at_places_a_stranger_and_does_not_come_itself(sources: Sources) -> None:
    decision = recommend(ask("stranger", item_id=ItemId("i3"), num_results=2), sources=sources)
    assert "i3" not in ids(decision) and decision.items[0].source is Source.RECENT_ITEMS
    assert ids(decision)[0] in {"i1", "i5"}, "what those like who like i3"


def test_reasons_tell_what_the_person_did(sources: Sources) -> None:
    viewed = Recent(AT_MS, ItemId("i5"), "view", 1.0)
    recent = (*bought("i3", "i3"), Recent(AT_MS, ItemId("i3"), "view", 1.0), viewed)
    reasons = {item.item_id: item.reasons for item in recommend(ask(recent=recent), sources=sources).items}
    assert reasons[ItemId("i3")] == ("bought 2 times, last 2 days ago",)
    assert reasons[ItemId("i5")] == ("viewed 1 time, last 0 days ago",)
    assert reasons[ItemId("p0")] == ("popular now",)


def test_what_went_wrong_before_stays_in_the_answer(sources: Sources, popularity: Bundle) -> None:
    known = recommend(ask(degraded="features_unavailable"), sources=sources)
    assert known.degraded == "features_unavailable" and known.items[0].source is Source.PERSONAL
    neither = recommend(ask(degraded="features_unavailable"), sources=Sources.of(None, popularity=popularity))
    assert neither.degraded == "features_unavailable" and neither.items


class BrokenModel(Popularity):
    """A popularity model whose scores go wrong in a chosen way."""

    go_wrong: Callable[[], FloatArray]

    def scores(self, history: History) -> FloatArray:
        return self.go_wrong()


@pytest.mark.parametrize(
    "wrong", [lambda: np.full(6, np.nan, dtype=np.float32), lambda: np.linalg.inv(np.zeros((2, 2)))]
)
def test_a_model_that_fails_is_passed_over_in_the_open(popularity: Bundle, wrong: Callable[[], FloatArray]) -> None:
    broken = BrokenModel.fit(learn(LATER), at_ms=AT_MS)
    broken.go_wrong = wrong
    decision = recommend(ask(num_results=2), sources=replace(Sources.of(popularity), model=broken))
    assert decision.degraded == "model_failed" and ids(decision) == ["p0", "p1"]


def test_without_anything_the_answer_is_empty_and_says_so() -> None:
    assert recommend(ask(), sources=Sources.of(None)) == Decision((), "no_model")


def test_the_same_request_is_the_same_decision(sources: Sources) -> None:
    request = ask(recent=bought("i3", "i5", "p2"))
    assert recommend(request, sources=sources) == recommend(request, sources=sources)


def test_a_step_of_ones_own_takes_its_place_in_the_list(sources: Sources) -> None:
    def worst_first(state: State) -> State:
        return replace(state, ranked=state.ranked[::-1])

    score, exclude, rank, cut, explain = STEPS
    reversed_steps = (score, exclude, rank, worst_first, cut, explain)
    request = ask(num_results=50)
    best = ids(recommend(request, sources=sources))
    assert ids(recommend(request, sources=sources, steps=reversed_steps)) == best[::-1]
