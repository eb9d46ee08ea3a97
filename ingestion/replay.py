"""Failed events once more: what the present code and plan let pass goes into the log, the rest says why not."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

import orjson

from bespoke.clock import from_ms
from bespoke.errors import InvalidEvent
from bespoke.events import EventType
from bespoke.parsing import parse_event
from bespoke.tracking import TrackingPlan, encode_judged, reason_key
from storage.eventlog.base import EventLog, Message
from storage.quality import FailedEvent, QualityStore

AT_ONCE = 500
TOO_LARGE = ("message", "the message was too large to keep, expected one that the collector would take")


@dataclass(slots=True)
class ReplayResult:
    """What a replay came to."""

    replayed: int = 0
    left: int = 0
    reasons: dict[str, int] = field(default_factory=dict)
    """Why the others still fail."""


@dataclass(frozen=True, slots=True)
class _Tried:
    """One failed event, and what comes of it now: a message, or a reason."""

    failed: FailedEvent
    message: Message | None
    reason: str = ""
    error: str = ""


def replay_failed(
    store: QualityStore,
    log: EventLog,
    plan: TrackingPlan | None,
    *,
    reason: str | None = None,
    source: str | None = None,
    since_ms: int | None = None,
    dry_run: bool = False,
    any_age: bool = False,
) -> ReplayResult:
    """Check failed events again, as of when they were received; bring those in that are good now.

    They keep their messageId, time of receipt and source. They are appended before they are removed: what a replay that
    was killed appended twice is recognised by its messageId.

    Args:
        store: where they are kept.
        log: where good ones go.
        plan: what they are held against.
        reason: only those that failed for this.
        source: only those of this source.
        since_ms: only those received from then on.
        dry_run: only say what would happen.
        any_age: accept events of any age, as a replay of history does.

    Raises:
        Unavailable: the store or the log cannot be reached; running it again goes on.
    """
    result, reasons = ReplayResult(), Counter[str]()
    for page in _pages(store, reason=reason, source=source, since_ms=since_ms):
        tried = [_try(one, plan, any_age=any_age) for one in page]
        good = [one for one in tried if one.message is not None]
        left = [one for one in tried if one.message is None]
        reasons.update(one.reason for one in left)
        result.replayed += len(good)
        result.left += len(left)
        if not dry_run:
            log.append([one.message for one in good if one.message is not None])
            store.drop_failed([one.failed.failed_id for one in good])
            store.set_reasons([(one.failed.failed_id, one.reason, one.error) for one in left])
    result.reasons = dict(reasons.most_common())
    return result


def _pages(
    store: QualityStore, *, reason: str | None, source: str | None, since_ms: int | None
) -> Iterator[list[FailedEvent]]:
    after: tuple[int, str] | None = None
    while page := store.failed(reason=reason, source=source, since_ms=since_ms, after=after, limit=AT_ONCE):
        after = page[-1].received_ms, page[-1].failed_id
        yield page


def _try(failed: FailedEvent, plan: TrackingPlan | None, *, any_age: bool) -> _Tried:
    if not failed.payload:
        return _Tried(failed, None, *TOO_LARGE)
    try:
        event = parse_event(
            orjson.loads(failed.payload),
            received_at=from_ms(failed.received_ms),
            type=None if failed.route is None else EventType(failed.route),
            sent_at=None if failed.sent_at is None else orjson.loads(failed.sent_at),
            replay=any_age,
            source=failed.source,
        )
        payload = encode_judged(event, () if plan is None else plan.check(event))
        return _Tried(failed, Message(event.person, event.message_id, event.received_ms, payload))
    except InvalidEvent as error:
        return _Tried(failed, None, reason_key(error), str(error))
