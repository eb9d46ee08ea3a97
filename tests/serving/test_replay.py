"""A decision is made again as it was, from what was logged, whatever changed since; or it is said what is missing."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from itertools import count
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from bespoke.clock import DAY_MS, to_ms
from bespoke.errors import NotFound
from bespoke.events import RECOMMENDATION_SERVED, Event, EventType, ItemId, MessageId, UserId
from bespoke.models.bundle import read_bundle
from bespoke.profiles import EMPTY, STATE_COLUMNS, Profile, Recent, to_row
from bespoke.recommend import Request
from bespoke.recommend.settings import parse_pipeline
from bespoke.rules import load_rules
from serving.decisions import RECORD, DecisionRecord
from serving.errors import add_error_handlers
from serving.explain import explain_routes
from serving.kit import Kit
from serving.pipelines import Recipes
from serving.replay import NotReplayable, Replay, Replayer
from serving.snapshot import context_of
from storage.bundles import BundleStore
from storage.control import ControlStore
from storage.decision_log import DecisionLog, NotSearched, TooFresh
from storage.eventlog import EventLog, Message, open_event_log
from storage.eventlog.base import partition_of
from storage.features import OnlineProfile
from storage.item_changes import ItemChange
from storage.lake import Lake
from storage.live_catalog import Overlay
from storage.settings import Settings

ClientOf = Callable[[FastAPI], AbstractContextManager[httpx.Client]]
WEIGHTS = {f"i{n}": float(20 - n) for n in range(20)}
PERSON = UserId("u1")
ID = "0123456789abcdef" * 2
PIPELINE = {"exploration": {"share": 0.3, "pool": 8}, "bought_within_days": 7}
RULES = '[first]\npin = { items = ["i9"], position = 2 }\n'


@dataclass
class People:
    """States as the online store has them."""

    found: dict[UserId, OnlineProfile] = field(default_factory=dict)

    def read(self, user_ids: Sequence[UserId], *, service: str, at_ms: int) -> Mapping[UserId, OnlineProfile]:
        return {id: self.found[id] for id in user_ids if id in self.found}

    def ready(self) -> bool:
        return True


@dataclass
class Site:
    """An installation that serves one person, and can make its decisions again."""

    settings: Settings
    control: ControlStore
    log: EventLog
    people: People
    now: datetime
    version: str
    recipes: Recipes = field(
        default_factory=lambda: Recipes({"default": parse_pipeline("default", PIPELINE)}, load_rules(RULES), RULES)
    )

    @property
    def lake(self) -> Lake:
        return Lake(self.settings.lake_dir)

    @property
    def partition(self) -> int:
        return partition_of(PERSON, self.log.partitions)

    def profile(self) -> Profile:
        bought = Recent(to_ms(self.now) - 2 * DAY_MS, ItemId("i0"), "purchase", 1.0)
        return Profile(recent=(bought,), received_ms=to_ms(self.now), events=1)

    def kit(self) -> Kit:
        name, _, number = self.version.partition("@")
        bundle = read_bundle(BundleStore(self.settings.bundles_dir).path(name, number))
        items, seq = self.control.items_since(0)
        return Kit.of({"champion": bundle}, recipes=self.recipes, overlay=Overlay.of(items, seq=seq))

    def serve(
        self,
        *,
        version: int | None = 3,
        profile: Profile | None = None,
        keep: bool = True,
        timer: Callable[[], float] = lambda: 0.0,
    ) -> list[str]:
        """Answer the person, log it, and return what was shown."""
        kit, known = self.kit(), self.profile() if profile is None else profile
        request = Request(PERSON, to_ms(self.now), num_results=5, recent=known.recent, seed=ID)
        decision = kit.engine("champion", "default").recommend(request, timer=timer)
        body = context_of(kit, {"champion": self.version})
        record = DecisionRecord.of(
            request,
            profile=known,
            profile_version=version,
            feature_service="als",
            context=self.control.save_context(body, at=self.now) if keep else None,
            pipeline="default",
            model="champion",
            catalog_seq=kit.overlay.seq,
            skipped=decision.skipped,
        )
        shown = [
            {"product_id": item.item_id, "source": item.source, "score": item.score, "propensity": item.propensity}
            for item in decision.items
        ]
        self.append({"items": shown, RECORD: record.to_properties(), "model_version": self.version})
        return [item.item_id for item in decision.items]

    def append(self, properties: Mapping[str, Any]) -> None:
        self.log.append([Message(PERSON, f"served-{ID}", to_ms(self.now), self.event(properties).to_payload())])

    def event(self, properties: Mapping[str, Any]) -> Event:
        return Event(
            message_id=MessageId(f"served-{ID}"),
            type=EventType.TRACK,
            name=RECOMMENDATION_SERVED,
            user_id=PERSON,
            anonymous_id=None,
            at_ms=to_ms(self.now),
            received_ms=to_ms(self.now),
            properties=properties,
        )

    def to_lake(self) -> None:
        """Do what the processor does with events and states, some seconds later."""
        end = self.log.end(self.partition)
        records = self.log.read(self.partition, offset=0, limit=100)
        self.lake.write_events(self.partition, 0, end, [Event.from_payload(one.payload) for one in records])
        self.states(3)

    def states(self, *versions: int) -> None:
        rows = [{"user_id": PERSON, "version": version, **to_row(self.profile())} for version in versions]
        self.lake.write_states(self.partition, 0, max(versions), rows)

    def replayer(self) -> Replayer:
        return Replayer(
            DecisionLog(self.lake, self.log),
            self.control,
            BundleStore(self.settings.bundles_dir),
            features=self.people,
            columns=lambda service: STATE_COLUMNS.keys(),
        )

    def replay(self, *items: str, **about: Any) -> Replay:
        return self.replayer().replay(ID, items=tuple(map(ItemId, items)), **about)


@pytest.fixture
def site(settings: Settings, publish: Callable[[str, dict[str, float]], str], now: datetime) -> Iterator[Site]:
    log = open_event_log(settings.log_url)
    with ControlStore(settings.control_url) as control:
        yield Site(settings, control, log, People(), now, publish("test", WEIGHTS))
    log.close()


def shown(made: Replay) -> list[str]:
    return [item.item_id for item in made.explanation.items]


def test_a_decision_comes_out_again_as_it_was_with_its_reasons(site: Site) -> None:
    served = site.serve()
    site.to_lake()
    made = site.replay("i0", "i19", "nothing")
    assert (made.identical, made.differences, shown(made)) == (True, (), served)
    assert made.explanation.items[1].rules == ("first",)
    assert [(one.reason, one.detail) for one in made.explanation.not_shown][::2] == [
        ("excluded", "bought within 7 days: last bought 2 days ago"),
        ("unknown_item", "neither a model nor the catalog named it"),
    ]


def test_whatever_changes_afterwards_does_not_change_what_was(
    site: Site, publish: Callable[[str, dict[str, float]], str]
) -> None:
    site.control.change_items([ItemChange(ItemId("i1"), {"available": False}, whole=False)], by="k", at=site.now)
    served = site.serve()
    site.to_lake()
    later = site.now + timedelta(days=1)
    gone = [ItemChange(ItemId(item_id), {"available": False}, whole=False) for item_id in served]
    site.control.change_items([*gone, ItemChange(ItemId("i1"), {"available": True})], by="k", at=later)
    site.version = publish("test", {f"i{n}": float(n + 1) for n in range(20)})
    site.recipes = Recipes()
    made = site.replay("i1")
    assert (made.identical, shown(made)) == (True, served)
    assert made.explanation.not_shown[0].reason == "unavailable"


def test_what_is_not_in_the_lake_yet_is_found_in_the_log_and_online(site: Site) -> None:
    served = site.serve()
    with pytest.raises(TooFresh, match="on its way to the lake"):
        site.replay()
    site.people.found[PERSON] = OnlineProfile(site.profile(), 3)
    assert shown(site.replay()) == served
    site.people.found[PERSON] = OnlineProfile(site.profile(), 4)
    with pytest.raises(TooFresh):
        site.replay()


def test_a_stranger_s_decision_needs_no_state(site: Site) -> None:
    served = site.serve(version=None, profile=EMPTY)
    made = site.replay()
    assert (made.identical, shown(made)) == (True, served)


def test_what_was_late_then_is_left_out_again(site: Site) -> None:
    pipeline = {**PIPELINE, "sources": [{"kind": "model"}, {"kind": "popular"}], "diversity": {"per_brand": 1}}
    site.recipes = replace(site.recipes, pipelines={"default": parse_pipeline("default", pipeline)})
    seconds = count()
    served = site.serve(timer=lambda: float(next(seconds)))
    site.to_lake()
    made = site.replay()
    assert made.record.skipped == ("candidates:popular", "diversify")
    assert (made.identical, shown(made), made.explanation.skipped) == (True, served, made.record.skipped)


def test_a_list_that_does_not_come_out_again_says_so(site: Site) -> None:
    site.serve()
    site.to_lake()
    event = site.replay().event
    items = [dict(item) for item in event.properties["items"]]
    items[0]["product_id"], items[1]["product_id"] = items[1]["product_id"], items[0]["product_id"]
    altered = replace(event, properties={**event.properties, "items": items})
    site.lake.discard_from("events", site.partition, 0)
    site.lake.write_events(site.partition, 0, site.log.end(site.partition), [altered])
    assert site.replay().differences == ("the items differ from position 1 on",)


def test_a_deleted_model_version_is_said(site: Site) -> None:
    site.serve()
    site.to_lake()
    (folder,) = (site.settings.bundles_dir / "test").glob("2*")
    folder.rename(folder.with_name("gone"))
    with pytest.raises(NotReplayable, match=f"model version {site.version} was deleted"):
        site.replay()


def test_a_state_that_is_no_longer_kept_is_said(site: Site) -> None:
    site.serve(version=2)
    site.to_lake()
    with pytest.raises(NotReplayable, match="no longer kept"):
        site.replay()


def test_a_decision_without_what_it_followed_from_is_said(site: Site) -> None:
    site.serve(keep=False)
    with pytest.raises(NotReplayable, match="settings were not kept"):
        site.replay()


def test_a_decision_of_an_older_version_is_said(site: Site) -> None:
    site.append({"items": []})
    with pytest.raises(NotReplayable, match="logged without what is needed"):
        site.replay()


def test_unknown_decisions_are_looked_for_in_the_lake_as_long_as_there_is_time(site: Site) -> None:
    site.serve()
    site.to_lake()
    with pytest.raises(NotFound, match="no such decision"):
        site.replayer().replay("f" * 32)
    with pytest.raises(NotSearched, match="it was not served since 2026-03-01"):
        site.replayer().replay("f" * 32, give_up=lambda: True)
    with pytest.raises(NotFound, match="no such decision"):
        site.replay(day=(site.now - timedelta(days=9)).date())
    assert site.replay(day=site.now.date()).identical


@pytest.fixture
def http(site: Site, client_of: ClientOf) -> Iterator[httpx.Client]:
    app = FastAPI()
    app.include_router(explain_routes(site.replayer(), check_key=lambda: None, threads=ThreadPoolExecutor(1)))
    add_error_handlers(app)
    with client_of(app) as client:
        yield client


def ask(http: httpx.Client, id: str = ID, **body: Any) -> httpx.Response:
    return http.post(f"/api/v1/decisions/{id}/explain", json=body)


def test_over_http_a_decision_tells_all_of_itself(site: Site, http: httpx.Client) -> None:
    served = site.serve()
    assert (ask(http).status_code, ask(http).headers["Retry-After"]) == (409, "10")
    site.to_lake()
    answer = ask(http, itemIds=["i0", served[0]], servedOn="2026-03-01")
    assert answer.status_code == 200, answer.text
    body = answer.json()
    assert [item["itemId"] for item in body["items"]] == served
    assert (body["identical"], body["modelVersion"], body["profileVersion"]) == (True, site.version, 3)
    assert [one["reason"] for one in body["notShown"]] == ["excluded", "shown"]
    assert body["removed"] == {"bought within 7 days": 1}
    assert body["rules"][0]["rule"] == "first"


def test_over_http_what_is_missing_has_its_status(site: Site, http: httpx.Client) -> None:
    unknown = ask(http)
    assert (unknown.status_code, unknown.json()["code"]) == (404, "unknown_decision")
    assert ask(http, id="no-id").status_code == 422
    site.serve(keep=False)
    gone = ask(http)
    assert (gone.status_code, gone.json()["code"]) == (410, "not_replayable")
