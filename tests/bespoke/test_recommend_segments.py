"""What is popular in a person's segments: drawn from the lists of those segments, and from nothing else."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from bespoke.catalog import Item
from bespoke.clock import DAY_MS
from bespoke.events import ItemId
from bespoke.expressions import parse_expression
from bespoke.models.base import Interactions
from bespoke.models.bundle import Bundle, Window, read_bundle, write_bundle
from bespoke.models.popularity import Popularity
from bespoke.recommend import Decision, Engine, Filter, Question, Request, Shelf, Sources, table_of
from bespoke.recommend.settings import load_pipelines, parse_pipeline

AT_MS = 100 * DAY_MS
DAY = datetime(2026, 1, 31, tzinfo=UTC)
LISTS = {"all": "wxyz", "vip": "abc", "new": "bdx"}
PRICES = {"c": 1.0, "d": 1.0}


def bundle_of(folder: Path, items: str) -> Bundle:
    """A model of what is popular: the first item was taken most."""
    taken = [item for place, item in enumerate(items) for _ in range(len(items) - place)]
    lines = Interactions.from_columns(["u"] * len(taken), taken, np.full(len(taken), AT_MS), np.ones(len(taken)))
    write_bundle(
        folder,
        Popularity.fit(lines, at_ms=AT_MS),
        name="popularity",
        version="1",
        window=Window(since=datetime(2026, 1, 1, tzinfo=UTC), until=DAY),
        fingerprint="f",
        seed=0,
        metrics={},
        feature_service=None,
        parent=None,
        git_revision=None,
        created_at=DAY,
        items=[Item(ItemId(item), price=PRICES.get(item, 9.0)) for item in items],
    )
    return read_bundle(folder)


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Bundle]:
    made = {name: tmp_path_factory.mktemp(name) for name in LISTS}
    return {name: bundle_of(folder, LISTS[name]) for name, folder in made.items()}


@pytest.fixture(scope="module")
def engine(bundles: Mapping[str, Bundle]) -> Engine:
    table = table_of(bundles.values())
    shelves = {name: Shelf.of(name, one, table) for name, one in bundles.items()}
    pipeline = parse_pipeline("default", {"sources": [{"kind": "popular_in_segment"}]})
    sources = Sources.of(
        table, shelf=None, popularity=shelves["all"], in_segment={"vip": shelves["vip"], "new": shelves["new"]}
    )
    return Engine.of(sources, pipeline=pipeline)


def ask(*segments: str, **more: object) -> Request:
    return replace(Request(None, AT_MS, num_results=3, segments=frozenset(segments)), **more)  # type: ignore[arg-type]


def ids(decision: Decision) -> str:
    return "".join(item.item_id for item in decision.items)


def test_members_get_what_their_segment_takes(engine: Engine) -> None:
    decision = engine.recommend(ask("vip"))
    assert ids(decision) == "abc"
    assert {(item.source, item.reasons) for item in decision.items} == {
        ("popular_in_segment", ("popular with people like you",))
    }


def test_lists_of_several_segments_take_turns_and_repeat_nothing(engine: Engine) -> None:
    # In the order of names: b a of the first places, then d b, then x c; b came already.
    assert ids(engine.recommend(ask("vip", "new", num_results=5))) == "badxc"


def test_whoever_is_in_no_such_segment_gets_what_is_popular(engine: Engine) -> None:
    for request in (ask(), ask("a_segment_without_a_list")):
        decision = engine.recommend(request)
        assert ids(decision) == "wxy" and {item.source for item in decision.items} == {"popular"}


def test_a_filter_and_excluded_items_hold_for_lists_of_segments(engine: Engine) -> None:
    cheap = Filter(parse_expression("price < 5"))
    assert ids(engine.recommend(ask("vip", "new", filter=cheap))) == "dc"
    assert ids(engine.recommend(ask("vip", exclude=frozenset({ItemId("a")}), num_results=2))) == "bc"


def test_a_list_that_is_the_same_for_everybody_knows_no_segments(engine: Engine) -> None:
    assert ids(engine.recommend(ask("vip", question=Question.TRENDING))) == "wxy"


def test_a_pipeline_says_whether_it_asks_for_segments() -> None:
    toml = '[asks]\nsources = [{kind = "model"}, {kind = "popular_in_segment", fill = true}]'
    pipelines = load_pipelines(toml)
    assert pipelines["asks"].by_segment and not pipelines["default"].by_segment
    assert pipelines["asks"].sources[1].name == "popular_in_segment"
