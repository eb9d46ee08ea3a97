"""What a decision followed from, in a form that is logged with it, so that it can be made again to the letter.

A decision follows from the request, the person's profile, the live catalog and the serving context: pipelines, rules
and model versions. The first is logged whole; of the others what names them: a version, a number, a fingerprint.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from bespoke.errors import InvalidEvent
from bespoke.events import ItemId, UserId
from bespoke.expressions import parse_expression
from bespoke.profiles import EMPTY, Profile, Recent
from bespoke.recommend import Filter, Promotion, Question, Request

FORMAT = 1
RECORD = "decision"
"""Under this name the record stands among the properties of `Recommendation Served`."""

_GIVEN = frozenset({"user_id", "at_ms", "recent", "seed", "skip"})
"""What the event says already, and what the record has entries of its own for."""
_DEFAULTS = {one.name: getattr(Request(None, 0), one.name) for one in fields(Request) if one.name not in _GIVEN}


@dataclass(frozen=True, slots=True)
class DecisionRecord:
    """What is logged of one decision."""

    asked: Mapping[str, Any] = field(default_factory=dict)
    """The fields of the request that are not as by default, as JSON."""
    own_lines: Sequence[Sequence[Any]] = ()
    """The lines of the request that are not in the profile, such as those of a session."""
    anonymous: bool = False
    """Whether models were told nobody's id."""
    profile_version: int | None = None
    """Of the profile that was read; None where nothing was, or nothing was there."""
    feature_service: str | None = None
    """Which of its columns were read."""
    stale: bool = False
    """Whether it was too old to be used."""
    context: str | None = None
    """Fingerprint of the serving context; None where it could not be kept."""
    pipeline: str = ""
    model: str | None = None
    """What the context calls the variant's model: a pointer or a ``name@version``."""
    catalog_seq: int = 0
    """The number of the last live change of an item."""
    skipped: tuple[str, ...] = ()
    """Stages and sources that were left out."""

    @classmethod
    def of(
        cls,
        request: Request,
        *,
        profile: Profile = EMPTY,
        profile_version: int | None = None,
        feature_service: str | None = None,
        stale: bool = False,
        context: str | None,
        pipeline: str,
        model: str | None,
        catalog_seq: int,
        skipped: Sequence[str],
    ) -> "DecisionRecord":
        """Return the record of what answered ``request``, which begins with the lines of ``profile`` or has none."""
        known = len(profile.recent) if request.recent[: len(profile.recent)] == profile.recent else 0
        return cls(
            asked=_asked(request),
            own_lines=tuple([list(line) for line in request.recent[known:]]),
            anonymous=request.user_id is None,
            # Where the lines are not the profile's, it plays no part.
            profile_version=profile_version if known or not profile.recent else None,
            feature_service=feature_service,
            stale=stale,
            context=context,
            pipeline=pipeline,
            model=model,
            catalog_seq=catalog_seq,
            skipped=tuple(skipped),
        )

    def to_properties(self) -> dict[str, Any]:
        """Return the record as JSON, without what is as by default: every event carries it."""
        said = {name: getattr(self, name) for name in _NOTHING_SAID}
        return {"format": FORMAT} | {name: value for name, value in said.items() if value != _NOTHING_SAID[name]}

    @classmethod
    def from_properties(cls, properties: Any) -> "DecisionRecord":
        """Read what :meth:`to_properties` wrote.

        Raises:
            InvalidEvent: it is no such record, or one of another format.
        """
        if not isinstance(properties, Mapping) or properties.get("format") != FORMAT:
            raise InvalidEvent(RECORD, properties, f"a record of format {FORMAT}, as it is kept since replays exist")
        known = {one.name for one in fields(cls)}
        read = {name: value for name, value in properties.items() if name in known}
        try:
            return cls(**{**read, "skipped": tuple(read.get("skipped", ()))})
        except TypeError as error:
            raise InvalidEvent(RECORD, sorted(read), "a record with what was asked") from error

    def request(self, profile: Profile, *, person: UserId, at_ms: int, seed: str) -> Request:
        """Return what was asked then.

        Args:
            profile: as it was at ``profile_version``, with the columns of ``feature_service``; empty where
                it was stale.
            person: the id that the event is keyed by.
            at_ms: when it was asked.
            seed: the recommendation's id.

        Raises:
            InvalidEvent: the record was made by another version, and says what this one does not know.
        """
        lines = tuple(Recent(*line) for line in self.own_lines)
        try:
            said = {name: _READERS.get(name, _same)(value) for name, value in self.asked.items()}
            return Request(
                None if self.anonymous else person,
                at_ms,
                recent=(*profile.recent, *lines),
                seed=seed,
                skip=frozenset(self.skipped),
                **said,
            )
        except (TypeError, ValueError, KeyError) as error:
            raise InvalidEvent(RECORD, sorted(self.asked), "what a request of this version can say") from error


_NOTHING_SAID = {one.name: getattr(DecisionRecord(), one.name) for one in fields(DecisionRecord)}


def _asked(request: Request) -> dict[str, Any]:
    said = {name: getattr(request, name) for name in _DEFAULTS}
    return {name: _WRITERS.get(name, _same)(value) for name, value in said.items() if value != _DEFAULTS[name]}


def _same(value: Any) -> Any:
    return value


def _filter_json(filter: Filter) -> dict[str, Any]:
    return {"expression": filter.expression.text, "values": dict(filter.values)}


def _filter(said: Mapping[str, Any]) -> Filter:
    return Filter(parse_expression(said["expression"]), said["values"])


def _promotion_json(one: Promotion) -> dict[str, Any]:
    return {"name": one.name, "filter": _filter_json(one.filter), "share": one.share}


def _promotion(said: Mapping[str, Any]) -> Promotion:
    return Promotion(said["name"], _filter(said["filter"]), said["share"])


_WRITERS: Mapping[str, Any] = {
    "question": str,
    "rank": list,
    "exclude": sorted,
    "segments": sorted,
    "context": dict,
    "shown": dict,
    "filter": _filter_json,
    "promotions": lambda promotions: [_promotion_json(one) for one in promotions],
}
_READERS: Mapping[str, Any] = {
    "question": Question,
    "rank": lambda items: tuple(map(ItemId, items)),
    "exclude": lambda items: frozenset(map(ItemId, items)),
    "segments": frozenset,
    "filter": _filter,
    "promotions": lambda promotions: tuple(map(_promotion, promotions)),
}
