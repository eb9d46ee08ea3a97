"""Segments kept: who enters and who leaves, at each event, when their time comes, and when definitions change."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import partial
from hashlib import blake2b

from bespoke.events import ANONYMOUS, SEGMENT_ENTERED, SEGMENT_LEFT, Event, EventType, MessageId, UserId
from bespoke.profiles import Profile
from bespoke.segments import Segments
from storage.eventlog.base import Message
from storage.profiles import Membership, ProfileStore, StoredProfile

Score = Callable[[str, Profile, int], float | None]
"""Name, profile, time -> a score from 0 to 1, or None where there is none."""


class Reason(StrEnum):
    """Why somebody entered or left."""

    EVENT = "event"
    LATE_EVENT = "late_event"
    """An event that happened before the last transition, which would not have been or not then, had it been known."""
    TIME = "time"
    DEFINITION = "definition"
    """The segment, or a score that it reads, is a new one."""


@dataclass(frozen=True, slots=True)
class Settled:
    """What looking at some people came to."""

    profiles: tuple[StoredProfile, ...] = ()
    """The same people with their segments as they are now, and the time of the next look."""
    memberships: tuple[Membership, ...] = ()
    transitions: tuple[Message, ...] = ()
    """System events for the log."""


class SegmentKeeper:
    """Decides who enters and who leaves; the processor commits what follows.

    Args:
        segments: the definitions.
        profiles: where earlier memberships are read.
        score: reads a score.
    """

    def __init__(self, segments: Segments, profiles: ProfileStore, *, score: Score) -> None:
        self._segments, self._profiles, self._score = segments, profiles, score

    def settle(
        self,
        people: Iterable[StoredProfile],
        *,
        at_ms: int,
        reason: Reason,
        happened_ms: Mapping[UserId, int] | None = None,
    ) -> Settled:
        """Return what ``people`` are in at ``at_ms``, and the transitions that lead there.

        Args:
            people: with the segments that they were in.
            at_ms: the moment.
            reason: what made us look.
            happened_ms: when the earliest of each person's new events happened, to tell late ones.
        """
        looked = [self._looked(person, at_ms) for person in people]
        changed = {
            after.user_id: set(before.segments) ^ set(after.segments)
            for before, after in looked
            if before.segments != after.segments
        }
        if not changed:
            return Settled(tuple(after for _, after in looked))
        known = self._profiles.memberships_of(changed)
        memberships, transitions = [], []
        for _, after in looked:
            for segment in sorted(changed.get(after.user_id, ())):
                before = known.get((after.user_id, segment))
                late = before is not None and (happened_ms or {}).get(after.user_id, at_ms) < before.since_ms
                now = _next(before, after, segment, at_ms=at_ms)
                memberships.append(now)
                transitions.append(_transition(now, before if late else None, Reason.LATE_EVENT if late else reason))
        return Settled(tuple(after for _, after in looked), tuple(memberships), tuple(transitions))

    def _looked(self, person: StoredProfile, at_ms: int) -> tuple[StoredProfile, StoredProfile]:
        score = partial(self._score_of, person.profile, at_ms)
        found = self._segments.evaluate(person.profile, at_ms, score=score)
        return person, replace(person, segments=found.inside, due_ms=found.next_change_ms)

    def _score_of(self, profile: Profile, at_ms: int, name: str) -> float | None:
        return self._score(name, profile, at_ms)


def fingerprint_of(segments: Segments, *, scores: str = "") -> str:
    """Return a hash of all definitions and of the scores' versions: under another one everybody is looked at anew."""
    parts = [segments.segments[name].fingerprint for name in segments.names]
    return blake2b("\n".join([*segments.names, *parts, scores]).encode(), digest_size=16).hexdigest()


def transition_id(person: UserId, segment: str, ordinal: int) -> MessageId:
    """Return the messageId of a transition: the same transition, told again, is the same message."""
    return MessageId("segment-" + blake2b(f"{person}\n{segment}\n{ordinal}".encode(), digest_size=16).hexdigest())


def _next(before: Membership | None, after: StoredProfile, segment: str, *, at_ms: int) -> Membership:
    return Membership(
        user_id=after.user_id,
        segment=segment,
        partition=after.partition,
        inside=segment in after.segments,
        ordinal=1 if before is None else before.ordinal + 1,
        since_ms=at_ms,
    )


def _transition(now: Membership, corrected: Membership | None, reason: Reason) -> Message:
    person = now.user_id
    anonymous = person.startswith(ANONYMOUS)
    properties = {"segment": now.segment, "ordinal": now.ordinal, "reason": reason.value}
    if corrected is not None:
        properties["corrects"] = transition_id(person, now.segment, corrected.ordinal)
    event = Event(
        message_id=transition_id(person, now.segment, now.ordinal),
        type=EventType.TRACK,
        name=SEGMENT_ENTERED if now.inside else SEGMENT_LEFT,
        user_id=None if anonymous else person,
        anonymous_id=person.removeprefix(ANONYMOUS) if anonymous else None,
        at_ms=now.since_ms,
        received_ms=now.since_ms,
        properties=properties,
    )
    return Message(key=person, message_id=event.message_id, received_ms=event.received_ms, payload=event.to_payload())
