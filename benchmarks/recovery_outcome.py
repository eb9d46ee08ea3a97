"""What a run of the recovery benchmark left in log, lake and profiles, held against what its sender knows."""

from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field

from benchmarks.recovery_load import Ledger, cents
from bespoke.clock import from_ms
from bespoke.events import SEGMENT_ENTERED, SEGMENT_LEFT, Event, UserId
from bespoke.parsing import parse_event
from bespoke.profiles import EMPTY, STATE_COLUMNS, Profile, fold, from_row
from storage.eventlog import Record, open_event_log
from storage.lake import Lake
from storage.profiles import Membership, ProfileStore, StoredProfile
from storage.settings import Settings

KEY = "recovery"
"""The name of the sender's API key: events keep it as their source."""
READ_AT_ONCE = 5_000
_MICROS_PER_CENT = 10_000


@dataclass(slots=True)
class Logged:
    """The log's messages, each once, where it stands first."""

    events: dict[str, Record] = field(default_factory=dict)
    transitions: dict[str, Event] = field(default_factory=dict)
    strange: int = 0
    """Messages that nobody sent and that are no transitions."""
    transitions_again: int = 0
    """Transitions that were told again under their messageId."""


def figures(settings: Settings, ledger: Ledger) -> dict[str, float]:
    """Return how much is missing, doubled or wrong; zeros are what must come out.

    ``acknowledged_lost`` counts what is not in the lake, or not in its person's profile, of what was acknowledged or
    stands in the log. ``counted_twice`` counts what is there more than once, or was never sent.
    """
    profiles, lake = ProfileStore(settings.profiles_url), Lake(settings.lake_dir)
    logged = read_log(settings.log_url, ledger)
    in_lake = Counter(lake.events(columns=["message_id"])["message_id"].to_pylist())
    wanted_ids = ledger.acknowledged | logged.events.keys()
    people = {UserId(message["userId"]) for message in ledger.sent.values()}
    stored, memberships = profiles.load(people), profiles.memberships_of(people)
    profiles.close()
    tallies = _tallies(ledger, wanted_ids)
    found = {person: one.profile.events for person, one in stored.items()}
    known = wanted_ids | logged.transitions.keys()
    twice = sum(count - (message_id in known) for message_id, count in in_lake.items()) + logged.strange
    lake_states = {row["user_id"]: row for row in lake.latest_states().to_pylist()}
    states = {user_id: from_row({name: row[name] for name in STATE_COLUMNS}) for user_id, row in lake_states.items()}
    folded = _folded(ledger, logged)
    return {
        "acknowledged": len(ledger.acknowledged),
        "unacknowledged_in_log": len(logged.events.keys() - ledger.acknowledged),
        "acknowledged_lost": sum(message_id not in in_lake for message_id in wanted_ids)
        + sum(max(tally.events - found.get(person, 0), 0) for person, tally in tallies.items()),
        "counted_twice": twice + sum(max(n - tallies[person].events, 0) for person, n in found.items()),
        "checksum_mismatches": sum(tally != _tally(stored.get(person)) for person, tally in tallies.items()),
        "state_mismatches": sum(_profile(stored.get(person)) != folded.get(person) for person in people),
        "lake_state_mismatches": sum(states.get(person) != folded.get(person) for person in people),
        "transitions": len(logged.transitions),
        "transitions_told_again": logged.transitions_again,
        "transition_mismatches": transition_mismatches(logged.transitions, memberships, stored, in_lake),
    }


def read_log(url: str, ledger: Ledger) -> Logged:
    """Return what the log holds."""
    log, found = open_event_log(url), Logged()
    for partition in range(log.partitions):
        offset = 0
        while records := log.read(partition, offset=offset, limit=READ_AT_ONCE):
            for record in records:
                _note(record, ledger, found)
            offset = records[-1].position.offset + 1
    log.close()
    return found


def _note(record: Record, ledger: Ledger, found: Logged) -> None:
    message_id = record.message_id
    if message_id in ledger.sent:
        found.events.setdefault(message_id, record)
        return
    event = Event.from_payload(record.payload)
    if event.name not in (SEGMENT_ENTERED, SEGMENT_LEFT):
        found.strange += 1
    elif message_id in found.transitions:
        found.transitions_again += 1
    else:
        found.transitions[message_id] = event


@dataclass(slots=True)
class _Tally:
    """What can be counted of one person's events without folding them."""

    events: int = 0
    orders: int = 0
    cents: int = 0


def _tallies(ledger: Ledger, message_ids: set[str]) -> Mapping[UserId, _Tally]:
    tallies: dict[UserId, _Tally] = defaultdict(_Tally)
    for message_id in message_ids:
        message = ledger.sent[message_id]
        tally, order = tallies[UserId(message["userId"])], message.get("event") == "Order Completed"
        tally.events += 1
        tally.orders += order
        tally.cents += cents(message_id) if order else 0
    return tallies


def _tally(stored: StoredProfile | None) -> _Tally:
    if stored is None:
        return _Tally()
    profile = stored.profile
    return _Tally(profile.events, profile.orders, profile.revenue_micros // _MICROS_PER_CENT)


def _profile(stored: StoredProfile | None) -> Profile | None:
    return None if stored is None else stored.profile


def _folded(ledger: Ledger, logged: Logged) -> dict[UserId, Profile]:
    """Fold what was sent, as it was sent; of the log only the time of receipt is taken."""
    profiles: dict[UserId, Profile] = {}
    for message_id, record in logged.events.items():
        event = parse_event(ledger.sent[message_id], received_at=from_ms(record.received_ms), source=KEY)
        profiles[event.person] = fold(profiles.get(event.person, EMPTY), event)
    return profiles


def transition_mismatches(
    transitions: Mapping[str, Event],
    memberships: Mapping[tuple[UserId, str], Membership],
    stored: Mapping[UserId, StoredProfile],
    in_lake: Mapping[str, int],
) -> int:
    """Return how many pairs of person and segment do not add up, and how many transitions are not in the lake once.

    A pair adds up where its transitions are numbered 1, 2, 3, ... in the order of the log, go in and out in turn, and
    end where the store says that the person is: in the memberships as well as beside the profile.
    """
    told: dict[tuple[UserId, str], list[Event]] = defaultdict(list)
    for event in transitions.values():
        told[event.person, event.properties["segment"]].append(event)
    wrong = sum(in_lake.get(message_id, 0) != 1 for message_id in transitions)
    for pair in told.keys() | memberships.keys():
        events, member = told[pair], memberships.get(pair)
        inside = [event.name == SEGMENT_ENTERED for event in events]
        adds_up = (
            [event.properties["ordinal"] for event in events] == list(range(1, len(events) + 1))
            and inside == [n % 2 == 0 for n in range(len(events))]
            and member is not None
            and (member.ordinal, member.inside) == (len(events), inside[-1])
            and (pair[1] in stored[pair[0]].segments) == member.inside
        )
        wrong += not adds_up
    kept = {(person, segment) for person, one in stored.items() for segment in one.segments}
    return wrong + len(kept - memberships.keys())
