"""Whether the order of delivery matters: shuffled, doubled and delayed messages leave what ordered ones leave, or not.

``BASKETS`` real baskets of The Complete Journey, and views, carts, pages and traits of the same people around them,
with devices, time zones and places. They are delivered once in the order of time, and once shuffled within and across
people, with ``DOUBLED_SHARE`` of the messages delivered again at a random place and ``DELAYED_SHARE`` held back to the
very end. A message keeps its time of receipt wherever it is delivered. Each runs through the whole processor with three
sets of stores. Compared in full, per person: the state in the profile store, the state that is read online, and every
feature at one fixed time. The ordered run is held against folding the messages in memory, too.

No two events of a person are less than ``APART_MS`` apart: what may count as sent twice under another messageId is
decided by what came first, so there is none of it here.
"""

import random
import tempfile
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from benchmarks.harness import Figures, main
from bespoke.clock import DAY_MS, MINUTE_MS, SECOND_MS, from_ms
from bespoke.events import Event, UserId
from bespoke.features import FEATURES, FeatureType, Reading, features
from bespoke.parsing import encode_event, parse_event
from bespoke.profiles import EMPTY, Profile, fold, from_row, to_row
from ingestion.mapping import load_mapping
from ingestion.messages import event_messages
from ingestion.worker import Worker
from runtime.demo.journey import data_folder
from storage.eventlog import Message
from storage.features import OnlineFeatures, apply_feature_repo
from storage.profiles import ProfileStore
from storage.settings import Settings
from tests.support.servers import fresh_schema, kafka_url, running_kafka, running_postgres, running_redis

BASKETS = 8_000
DOUBLED_SHARE = 0.1
DELAYED_SHARE = 0.1
APART_MS = 3 * SECOND_MS
APPEND_AT_ONCE = 200
READ_AT_ONCE = 500
PLACES = ((52.52, 13.40), (59.91, 10.75), (-33.87, 151.21))
ZONES = ("Europe/Berlin", "Europe/Oslo", "Australia/Sydney")
TRAITS = ("area", "age", "newsletter", "language")

Places = Mapping[str, str]
"""Fields of :class:`storage.settings.Settings` that say where stores are."""


def run() -> Figures:
    """Deliver both ways to each set of stores."""
    events = journey_events(BASKETS, seed=0)
    until_ms = max(event.at_ms for event in events) + DAY_MS
    ordered = [as_message(event) for event in events]
    mixed = mixed_up(ordered, seed=0)
    wanted = in_memory(events, at_ms=until_ms)
    found: dict[str, float] = {"messages": len(ordered), "deliveries": len(mixed), "people": len(wanted)}
    with ExitStack() as servers, tempfile.TemporaryDirectory() as folder:
        for name, places in stores(servers).items():
            home = Path(folder) / name
            plain = delivered(ordered, home / "ordered", places[0], people=wanted.keys(), at_ms=until_ms)
            other = delivered(mixed, home / "mixed", places[1], people=wanted.keys(), at_ms=until_ms)
            found[f"mismatches@{name}"] = differing(plain, other)
            found[f"fold_mismatches@{name}"] = differing(wanted, plain)
    return {"mismatches": sum(value for name, value in found.items() if "mismatches" in name), **found}


def stores(servers: ExitStack) -> dict[str, tuple[Places, Places]]:
    """Return the sets of stores, each for two installations; the servers run until ``servers`` is closed."""
    redis, kafka = servers.enter_context(running_redis()), servers.enter_context(running_kafka())
    postgres = servers.enter_context(running_postgres())

    def schema() -> str:
        return servers.enter_context(fresh_schema(postgres))

    def on_redis(database: int) -> Places:
        return {"profiles_url": schema(), "online_url": f"redis://{redis.address}/{database}"}

    def on_kafka(topic: str) -> Places:
        return {"log_url": kafka_url(kafka.address, topic), "profiles_url": schema(), "online_url": schema()}

    return {
        "sqlite-sqlite-sqlite": ({}, {}),
        "sqlite-postgres-redis": (on_redis(0), on_redis(1)),
        "kafka-postgres-postgres": (on_kafka("ordered"), on_kafka("mixed")),
    }


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of one person."""

    stored: Profile
    online: Profile
    numbers: bytes
    """The feature vector of the online state; as bytes, since nothing known is equal to nothing known."""
    texts: tuple[Any, ...]


def known(stored: Profile, online: Profile, *, at_ms: int) -> Known:
    """Return both states and every feature at ``at_ms``."""
    reading = Reading(online, at_ms)
    texts = tuple(feature.derive(reading) for feature in FEATURES if feature.type is FeatureType.TEXT)
    return Known(stored, online, features(online, at_ms).tobytes(), texts)


def in_memory(events: Sequence[Event], *, at_ms: int) -> dict[UserId, Known]:
    """Return what folding ``events`` in their order comes to."""
    profiles: dict[UserId, Profile] = {}
    for event in events:
        profiles[event.person] = fold(profiles.get(event.person, EMPTY), event)
    # As rows bring them back: sums of floats follow the order of keys, which rows keep sorted.
    kept = {person: from_row(to_row(profile)) for person, profile in profiles.items()}
    return {person: known(profile, profile, at_ms=at_ms) for person, profile in kept.items()}


def delivered(
    messages: Sequence[Message], home: Path, places: Places, *, people: Collection[UserId], at_ms: int
) -> dict[UserId, Known]:
    """Deliver ``messages`` to a new installation, and return what it knows of ``people`` once all is online."""
    config = home / "config"
    config.mkdir(parents=True)
    settings = Settings(home=home / "var", config_dir=config, replay=True).model_copy(update=places)
    settings.home.mkdir()
    apply_feature_repo(settings)
    online = OnlineFeatures(settings)
    with Worker(settings, sink=online) as worker:
        for first in range(0, len(messages), APPEND_AT_ONCE):
            worker.log.append(messages[first : first + APPEND_AT_ONCE])
            while not worker.idle():
                worker.processor.step()
        while not worker.processor.features_complete:
            worker.processor.step()
        worker.processor.close()
    found = read_back(settings, online, list(people), at_ms=at_ms)
    online.close()
    return found


def read_back(
    settings: Settings, online: OnlineFeatures, people: Sequence[UserId], *, at_ms: int
) -> dict[UserId, Known]:
    """Return what the stores hold of ``people``; who is missing in one of them is absent."""
    profiles, found = ProfileStore(settings.profiles_url), {}
    for first in range(0, len(people), READ_AT_ONCE):
        some = people[first : first + READ_AT_ONCE]
        stored, read = profiles.load(some), online.read(some, service="profile", at_ms=at_ms)
        for person in stored.keys() & read.keys():
            found[person] = known(stored[person].profile, read[person].profile, at_ms=at_ms)
    profiles.close()
    return found


def differing(one: Mapping[UserId, Known], other: Mapping[UserId, Known]) -> int:
    """Return of how many people the two know different things."""
    return sum(one.get(person) != other.get(person) for person in one.keys() | other.keys())


def mixed_up(messages: Sequence[Message], *, seed: int) -> list[Message]:
    """Return ``messages`` shuffled, some of them twice, some at the very end."""
    rng, sent = random.Random(seed), list(messages)
    again = rng.sample(sent, round(DOUBLED_SHARE * len(sent)))
    late = {message.message_id for message in rng.sample(sent, round(DELAYED_SHARE * len(sent)))}
    sent += again
    rng.shuffle(sent)
    return sorted(sent, key=lambda message: message.message_id in late)


def as_message(event: Event) -> Message:
    """Return the event as the log takes it."""
    return Message(event.person, event.message_id, event.received_ms, encode_event(event))


def journey_events(baskets: int, *, seed: int) -> list[Event]:
    """Return the first baskets with what may have gone before them, in the order of time."""
    part, rng = load_mapping(Path("config/sources/complete_journey.toml")).events, random.Random(seed)
    assert part is not None
    events: list[Event] = []
    for raw in islice(event_messages(data_folder(), part, name="journey", since_ms=None, until_ms=None), baskets):
        for at_ms, message in [*before_basket(raw.message, raw.at_ms, rng), (raw.at_ms, raw.message)]:
            said = {**message, "timestamp": from_ms(at_ms).isoformat(), "context": context(rng)}
            received_ms = at_ms + rng.randrange(5 * MINUTE_MS)
            events.append(parse_event(said, received_at=from_ms(received_ms), replay=True))
    return apart(sorted(events, key=lambda event: event.at_ms))


def before_basket(basket: Mapping[str, Any], at_ms: int, rng: random.Random) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """Yield times and messages of somebody who looks around, fills a cart and now and then says something."""
    products, user_id = basket["properties"]["products"], basket["userId"]

    def told(number: int, kind: str, **rest: Any) -> tuple[int, Mapping[str, Any]]:
        message_id = f"{basket['messageId']}-{number}"
        return at_ms - rng.randrange(30 * MINUTE_MS), {
            "type": kind,
            "messageId": message_id,
            "userId": user_id,
            **rest,
        }

    yield told(0, "page", name="Home")
    for number in range(1, rng.randint(1, 4)):
        name = rng.choice(("Product Viewed", "Product Viewed", "Product Added"))
        yield told(number, "track", event=name, properties={"products": [rng.choice(products)]})
    if rng.random() < 0.2:
        yield told(9, "identify", traits={rng.choice(TRAITS): rng.randrange(5)})


def context(rng: random.Random) -> Mapping[str, Any]:
    """Return where and on what somebody is, as far as it is known."""
    place = rng.randrange(len(PLACES))
    latitude, longitude = PLACES[place]
    known_parts = {
        "device": {"type": rng.choice(("mobile", "tablet", "desktop"))},
        "timezone": ZONES[place],
        "location": {"latitude": latitude + rng.random(), "longitude": longitude + rng.random()},
    }
    return {name: part for name, part in known_parts.items() if rng.random() < 0.7}


def apart(events: Sequence[Event]) -> list[Event]:
    """Return ``events``, which are in the order of time, without those that follow too closely on one of the person."""
    last_ms: dict[UserId, int] = {}
    kept = []
    for event in events:
        if event.at_ms - last_ms.get(event.person, -APART_MS) >= APART_MS:
            last_ms[event.person] = event.at_ms
            kept.append(event)
    return kept


if __name__ == "__main__":
    main("order", run, runs=1, about=(__doc__ or "").strip())
