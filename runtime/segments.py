"""Work on segments for whoever runs an installation: sizes, members, and why somebody is in one or is not."""

from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from difflib import get_close_matches
from functools import partial
from pathlib import Path

from bespoke.clock import from_ms, to_ms
from bespoke.errors import NotFound
from bespoke.events import UserId
from bespoke.segments import Explained, Segments, read_segments
from bespoke.segments.conditions import All, AnyOf, Condition, Not
from storage.bundles import BundleStore
from storage.control import ControlStore
from storage.profiles import ProfileStore
from storage.segments_file import load_segments
from storage.settings import Settings
from storage.toml import read_toml


@dataclass(frozen=True, slots=True)
class Sized:
    """A segment and how many people are in it."""

    name: str
    meaning: str
    members: int


@dataclass(frozen=True, slots=True)
class Counted:
    """How many people are in a segment: now, and in the ten minutes that began at each time."""

    name: str
    members: int
    sizes: Sequence[tuple[datetime, int]]


@dataclass(frozen=True, slots=True)
class Member:
    """Somebody who is in a segment."""

    user_id: UserId
    since: datetime
    ordinal: int


@dataclass(frozen=True, slots=True)
class Worded:
    """A segment in words."""

    name: str
    meaning: str
    fingerprint: str
    rows: Sequence[str]


@dataclass(frozen=True, slots=True)
class Why:
    """Why somebody is in a segment or is not."""

    name: str
    kept: bool
    """Whether the processor has the person in it; it may be moments behind."""
    explained: Explained


def sizes_now(settings: Settings) -> list[Sized]:
    """Return every segment that is defined, with its size in the profile store.

    Raises:
        ConfigError: the file is wrong.
        Unavailable: the profile store cannot be reached.
    """
    segments = load_segments(settings.config_dir)
    with closing(ProfileStore(settings.profiles_url)) as profiles:
        sizes = profiles.segment_sizes()
    return [Sized(name, segments.segments[name].meaning, sizes.get(name, 0)) for name in segments.names]


def counted(settings: Settings, name: str | None, *, since: datetime | None) -> list[Counted]:
    """Return sizes now and over time, of one segment or of all.

    Raises:
        NotFound: there is no such segment, and none was ever counted under that name.
    """
    now = {one.name: one.members for one in sizes_now(settings)}
    with ControlStore(settings.control_url) as control:
        names = list(now) if name is None else [name]
        found = [Counted(each, now.get(each, 0), control.sizes(each, since=since)) for each in names]
    if name is not None and name not in now and not found[0].sizes:
        raise _unknown(name, list(now))
    return found


def members(settings: Settings, name: str, *, after: str = "", limit: int = 100) -> list[Member]:
    """Return at most ``limit`` people who are in a segment, by id, those beyond ``after``.

    Raises:
        NotFound: there is no such segment.
    """
    with closing(ProfileStore(settings.profiles_url)) as profiles:
        found = profiles.members(name, after=after, limit=limit)
    names = load_segments(settings.config_dir).names
    if not found and name not in names:
        raise _unknown(name, names)
    return [Member(one.user_id, from_ms(one.since_ms), one.ordinal) for one in found]


def explained(settings: Settings, user: str, name: str | None, *, at: datetime) -> list[Why]:
    """Return why a person is in a segment at ``at`` or is not; of all segments where none is named.

    Raises:
        NotFound: there is no such person or segment.
    """
    segments, user_id = load_segments(settings.config_dir), UserId(user)
    if name is not None and name not in segments.segments:
        raise _unknown(name, segments.names)
    with closing(ProfileStore(settings.profiles_url)) as profiles:
        stored = profiles.load([user_id]).get(user_id)
    if stored is None:
        raise NotFound(f"nobody is known as {user!r}; of those who are known by a device only, write anonymous:ID")
    # Imported where they are used: with them come the libraries of models, which take seconds.
    from ingestion.scores import ScoreBook

    book = ScoreBook(BundleStore(settings.bundles_dir))
    book.follow(segments.scores)
    profile, at_ms = stored.profile, to_ms(at)
    why = partial(segments.explain, profile=profile, at_ms=at_ms, score=lambda score: book.score(score, profile, at_ms))
    wanted = segments.names if name is None else [name]
    return [Why(each, each in stored.segments, why(each)) for each in wanted]


def checked(settings: Settings, path: Path | None) -> list[Worded]:
    """Return the segments of a file in words; of the installation's own where none is named.

    Raises:
        ConfigError: the file is wrong.
    """
    if path is None:
        return _worded(load_segments(settings.config_dir))
    from training.propensity import score_paths

    scores = [each.stem for each in score_paths(settings.config_dir)]
    return _worded(read_segments(read_toml(path), scores=scores, where=str(path)))


def _worded(segments: Segments) -> list[Worded]:
    return [
        Worded(one.name, one.meaning, one.fingerprint, tuple(_words(one.condition, 1)))
        for one in segments.segments.values()
    ]


def _words(condition: Condition, depth: int) -> Iterator[str]:
    yield f"{'  ' * depth}{condition}"
    if isinstance(condition, All | AnyOf | Not):
        for part in condition.parts:
            yield from _words(part, depth + 1)


def _unknown(name: str, names: Sequence[str]) -> NotFound:
    near = get_close_matches(name.lower(), names)
    meant = f"did you mean {' or '.join(near)}?" if near else f"there are: {', '.join(names) or 'none'}"
    return NotFound(f"no segment {name!r}; {meant}")


def undelivered(settings: Settings, subscriber: str | None, *, dead: bool) -> list[dict[str, object]]:
    """Return the transitions that wait for a subscriber, or that were given up; without the person."""
    with ControlStore(settings.control_url) as control:
        rows = control.undelivered(subscriber=subscriber, dead=dead)
    return [
        {
            "subscriber": row.subscriber,
            "messageId": row.message_id,
            "attempts": row.attempts,
            "next": None if row.next_ms is None else from_ms(row.next_ms),
            "error": row.error,
        }
        for row in rows
    ]


def revived(settings: Settings, subscriber: str | None) -> int:
    """Have what was given up tried again; return how many."""
    with ControlStore(settings.control_url) as control:
        return control.revive(subscriber=subscriber, at=datetime.now(UTC))
