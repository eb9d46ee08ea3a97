"""Transitions reach whoever listens, each once, also over breaks; streams have their own limits and end in the open."""

import asyncio
import itertools
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import orjson
import pytest
from fastapi import FastAPI
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

import serving.transitions
from bespoke.clock import FixedClock
from bespoke.errors import Unavailable
from bespoke.events import SEGMENT_ENTERED, SEGMENT_LEFT, Event, EventType, MessageId, UserId
from bespoke.profiles import EMPTY
from bespoke.segments import read_segments
from ingestion.segments import Reason, SegmentKeeper
from serving.applications import RECOMMENDER_LIMITS, create_recommender
from serving.edge import Limits, add_edge
from serving.errors import add_error_handlers
from serving.segment_stream import stream_routes
from serving.transitions import TransitionFeed, transition_in
from storage.eventlog import EventLog, Message, Record, open_event_log
from storage.eventlog.sqlite import SqliteEventLog
from storage.profiles import ProfileStore, StoredProfile
from storage.settings import Settings
from tests.support.messages import order
from tests.support.servers import kafka_url

StreamsOf = Callable[[FastAPI], AbstractContextManager[Any]]
SEGMENTS = '[buyers]\nall = [{ feature = "orders_90d", at_least = 1 }]\n[idle]\nnot = { count = "any", at_least = 1 }\n'


class NoFeatures:
    """Nobody is known: streams read no profile."""

    def read(self, user_ids: Any, *, service: str, at_ms: int) -> Mapping[UserId, Any]:
        return {}

    def ready(self) -> bool:
        return True


@pytest.fixture
def log(settings: Settings) -> Iterator[EventLog]:
    """Return the installation's log, as the processor has it open."""
    opened = open_event_log(settings.log_url)
    yield opened
    opened.close()


@pytest.fixture
def config(settings: Settings, tmp_path: Path) -> Settings:
    """Return the installation with two segments."""
    folder = tmp_path / "config"
    folder.mkdir()
    (folder / "segments.toml").write_text(SEGMENTS)
    return settings.model_copy(update={"config_dir": folder})


@pytest.fixture
def site(config: Settings, streams_of: StreamsOf, now: datetime) -> Iterator[Any]:
    """Return the application that tells of segments, running."""
    with streams_of(create_recommender(config, features=NoFeatures(), clock=FixedClock(now))) as running:
        yield running


@contextmanager
def small_site(feed: TransitionFeed, streams_of: StreamsOf, *, heartbeat_s: float = 10, timeout_s: float = 10) -> Any:
    """Run an application that has nothing but the stream."""
    app = FastAPI()
    app.include_router(stream_routes(feed, check_key=lambda: None, names=lambda: (), heartbeat_s=heartbeat_s))
    add_error_handlers(app)
    add_edge(app, Limits(max_body_bytes=100, timeout_s=timeout_s))
    with streams_of(app) as running:
        yield running
        feed.close()


def transition(n: int, *, segment: str = "buyers", name: str = SEGMENT_ENTERED, **more: Any) -> Message:
    """Return the n-th person's transition."""
    event = Event(
        MessageId(f"segment-{segment}-{n}-{name[-4:]}"),
        EventType.TRACK,
        name,
        user_id=f"u{n}",
        anonymous_id=None,
        at_ms=1_000 + n,
        received_ms=1_000 + n,
        properties={"segment": segment, "ordinal": 1, "reason": "event", **more},
    )
    return Message(event.person, event.message_id, event.received_ms, event.to_payload())


def users(stream: Any, count: int) -> list[str]:
    """Return whom the next events are about."""
    return [orjson.loads(stream.event()["data"])["userId"] for _ in range(count)]


def test_a_transition_reaches_who_listens(site: Any, log: EventLog) -> None:
    stream = site.open()
    assert (stream.status, stream.headers["content-type"].split(";")[0]) == (200, "text/event-stream")
    log.append([transition(7, name=SEGMENT_LEFT, reason="late_event", corrects="segment-before")])
    event = stream.event()
    assert event["event"] == "Segment Left"
    assert orjson.loads(event["data"]) == {
        "userId": "u7",
        "segment": "buyers",
        "ordinal": 1,
        "reason": "late_event",
        "corrects": "segment-before",
        "event": "Segment Left",
        "timestamp": "1970-01-01T00:00:01.007Z",
        "messageId": "segment-buyers-7-Left",
    }


def test_what_the_processor_writes_is_told_of_anonymous_people_too(
    site: Any, log: EventLog, settings: Settings
) -> None:
    keeper = SegmentKeeper(
        read_segments({"idle": {"not": {"count": "any", "at_least": 1}}}),
        ProfileStore(settings.profiles_url),
        score=lambda *_: None,
    )
    people = [StoredProfile(UserId("anonymous:a1"), EMPTY, 1, 0)]
    stream = site.open()
    log.append(keeper.settle(people, at_ms=5, reason=Reason.DEFINITION).transitions)
    told = orjson.loads(stream.event()["data"])
    assert (told["anonymousId"], told["segment"], told["reason"]) == ("a1", "idle", "definition")
    assert "userId" not in told and "corrects" not in told


def test_nothing_but_transitions_is_told(site: Any, log: EventLog) -> None:
    stream = site.open()
    alike = transition(2)
    log.append([order("u1", 1, "segment"), Message(alike.key, "segment-2", 1, b'{"segment": '), transition(3)])
    assert users(stream, 1) == ["u3"]


def test_a_stream_tells_of_the_segments_that_it_asks_for(site: Any, log: EventLog) -> None:
    stream = site.open("segment=idle&segment=gone")
    opening = stream.block()
    assert ": no segment is called gone now" in opening and "idle" not in opening
    log.append([transition(1), transition(2, segment="idle"), transition(3), transition(4, segment="gone")])
    assert sorted(users(stream, 2)) == ["u2", "u4"]


@pytest.mark.parametrize("somebody_stays", [True, False], ids=["from the ring", "from the log"])
def test_who_comes_back_misses_and_repeats_nothing(site: Any, log: EventLog, somebody_stays: bool) -> None:
    log.append([transition(n) for n in range(3)])
    stays = site.open() if somebody_stays else None
    stream = site.open()
    log.append([transition(n) for n in range(10, 20)])
    first = [stream.event() for _ in range(4)]
    stream.leave()
    log.append([transition(n) for n in range(20, 30)])
    if stays is not None:
        users(stays, 20)
    again = site.open(last_event_id=first[-1]["id"])
    told = [orjson.loads(event["data"])["userId"] for event in first] + users(again, 16)
    log.append([transition(30)])
    assert sorted([*told, *users(again, 1)]) == [f"u{n}" for n in range(10, 31)]


def test_who_leaves_before_anything_happened_goes_on_from_there(site: Any, log: EventLog) -> None:
    log.append([transition(0)])
    stream = site.open()
    (at,) = [line.removeprefix("id: ") for line in stream.block().splitlines() if line.startswith("id: ")]
    stream.leave()
    log.append([transition(1)])
    assert users(site.open(last_event_id=at), 1) == ["u1"]


def test_a_filter_moves_on_beyond_what_it_leaves_out(site: Any, log: EventLog) -> None:
    stream = site.open("segment=idle")
    log.append([transition(n) for n in range(50)] + [transition(50, segment="idle")])
    at = stream.event()["id"]
    stream.leave()
    log.append([transition(51, segment="idle")])
    assert users(site.open("segment=idle", last_event_id=at), 1) == ["u51"]


@pytest.mark.parametrize("token", ["x", "0.1", "0.0-1.0-2.0-3.-1", "0.0-1.0-2.0-3.0-4.0"])
def test_an_id_that_no_stream_sent_is_refused(site: Any, token: str) -> None:
    refused = site.open(last_event_id=token)
    assert refused.status == 422
    assert site.open("segment=No%20Name").status == 422


def test_one_stream_too_many_is_refused_and_room_is_made_when_one_leaves(site: Any) -> None:
    streams = [site.open() for _ in range(RECOMMENDER_LIMITS.max_streams)]
    assert len(streams) == 100 and {stream.status for stream in streams} == {200}
    refused = site.open()
    assert (refused.status, refused.headers["retry-after"]) == (503, "1")
    assert site.client.get("/healthz").status_code == 200
    assert site.client.get("/api/v1/segments").status_code == 401
    streams[0].leave()
    assert site.open().status == 200


def test_shutting_down_ends_streams(config: Settings, streams_of: StreamsOf, log: EventLog) -> None:
    with streams_of(create_recommender(config, features=NoFeatures())) as site:
        stream = site.open()
        log.append([transition(1)])
        assert users(stream, 1) == ["u1"]
    assert ": this process ends; connect again with Last-Event-ID" in stream.rest()


def test_streams_need_a_key_for_profiles(site: Any, new_key: Callable[[str], str]) -> None:
    assert site.open(key="nobody").status == 401
    assert site.open(key=new_key("recommend")).status == 403


def test_a_silent_stream_gives_signs_of_life_and_outlasts_the_timeout_of_requests(
    settings: Settings, streams_of: StreamsOf, log: EventLog
) -> None:
    with small_site(TransitionFeed(log), streams_of, heartbeat_s=0.01, timeout_s=0.05) as site:
        stream = site.open()
        signs = [stream.block() for _ in range(20)]
        assert all(sign.startswith((":", "retry")) and "\nid: " in sign for sign in signs)
        log.append([transition(1)])
        assert users(stream, 1) == ["u1"]


def test_who_is_too_slow_is_told_so_and_goes_on_from_there(streams_of: StreamsOf, log: EventLog) -> None:
    with small_site(TransitionFeed(log, queue=2), streams_of) as site:
        slow, watching = site.open(), site.open()
        slow.block(), slow.block()
        slow.hold()
        for n in range(8):
            log.append([transition(n)])
            assert users(watching, 1) == [f"u{n}"]
        slow.let_go()
        told = slow.rest()
        assert "too slow" in told.splitlines()[-2]
        last = [line.removeprefix("id: ") for line in told.splitlines() if line.startswith("id: ")][-1]
        again = site.open(last_event_id=last)
        assert told.count("event:") + len(users(again, 8 - told.count("event:"))) == 8


class AbsentLog(SqliteEventLog):
    """A log that cannot be waited for at times."""

    failing = 0

    def wait(self, seen: Mapping[int, int], timeout_s: float) -> bool:
        if self.failing:
            self.failing -= 1
            raise Unavailable("gone")
        return super().wait(seen, timeout_s)


def test_a_log_that_is_away_for_a_moment_costs_nothing(
    tmp_path: Path, streams_of: StreamsOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serving.transitions, "RETRY_S", 0.01)
    absent = AbsentLog(tmp_path / "absent.db")
    with small_site(TransitionFeed(absent), streams_of) as site:
        stream = site.open()
        absent.failing = 3
        absent.append([transition(1)])
        assert users(stream, 1) == ["u1"]
    absent.close()


def test_a_log_in_kafka_is_followed_and_gone_back_to_in_the_same_way(streams_of: StreamsOf, kafka_server: str) -> None:
    log = open_event_log(kafka_url(kafka_server, "transitions"))
    with small_site(TransitionFeed(log), streams_of) as site:
        stream = site.open()
        log.append([transition(n) for n in range(10)])
        first = [stream.event() for _ in range(4)]
        stream.leave()
        log.append([order("u1", 1, "tea"), *(transition(n) for n in range(10, 20))])
        told = [orjson.loads(event["data"])["userId"] for event in first]
        assert sorted(told + users(site.open(last_event_id=first[-1]["id"]), 16)) == sorted(f"u{n}" for n in range(20))
    log.close()


def test_other_messages_are_not_decoded() -> None:
    payload = b"no JSON at all"
    (position,) = _positions(1)
    assert transition_in(Record(position, "order-1", 1, payload)) is None
    assert transition_in(Record(position, "segment-1", 1, payload)) is None


def _positions(count: int) -> list[Any]:
    with tempfile.TemporaryDirectory() as folder:
        log = open_event_log(Path(folder) / "log.db")
        positions = log.append([transition(n) for n in range(count)])
        log.close()
    return positions


@hypothesis_settings(max_examples=25, deadline=None)
@given(
    steps=st.lists(st.tuples(st.integers(0, 12), st.integers(0, 6)), max_size=6),
    ring=st.integers(1, 8),
    queue=st.integers(1, 8),
)
def test_over_any_breaks_each_is_told_once(steps: list[tuple[int, int]], ring: int, queue: int) -> None:
    """Each step appends some, and takes some before it breaks off."""

    async def run(log: EventLog) -> None:
        feed, number = TransitionFeed(log, ring=ring, queue=queue), itertools.count()
        appended: list[str] = []
        told: list[str] = []
        async with feed.listen() as listener:
            position = dict(listener.position)
        for add, take in [*steps, (0, 10_000)]:
            if add:
                new = [transition(next(number)) for _ in range(add)]
                appended += [message.key for message in new]
                await asyncio.to_thread(log.append, new)
            wanted = min(len(appended), len(told) + take)
            while len(told) < wanted:
                async with feed.listen(position=position) as listener:
                    while len(told) < wanted and not listener.over:
                        for one in (await listener.take(5)).transitions[: wanted - len(told)]:
                            position[one.position.partition] = one.position.offset + 1
                            told.append(orjson.loads(one.data)["userId"])
        assert sorted(told) == sorted(appended)
        await asyncio.to_thread(feed.close)

    with tempfile.TemporaryDirectory() as folder:
        log = open_event_log(Path(folder) / "log.db")
        asyncio.run(run(log))
        log.close()
