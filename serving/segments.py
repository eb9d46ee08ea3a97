"""Segments over HTTP: which there are, what they mean and read, and how many people are in them."""

import asyncio
import logging
import threading
from collections.abc import Callable
from datetime import datetime
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Protocol

from fastapi import APIRouter, Depends, Query

from bespoke.clock import utc
from bespoke.errors import BespokeError
from bespoke.segments import Segment, Segments
from serving.errors import RequestError
from serving.schemas import ErrorBody, SegmentInfo, SegmentReads, SegmentResponse, SegmentSize, SegmentsResponse
from storage.segments_file import load_segments, stamp_of

logger = logging.getLogger(__name__)

SIZES = 1_000
"""How many sizes an answer holds by default: a week of ten-minute steps."""
MAX_SIZES = 10_000


class SizeStore(Protocol):
    """Where sizes are kept: the control store."""

    def sizes(self, segment: str, *, since: datetime | None = None, limit: int = 1_000) -> list[tuple[datetime, int]]:
        """Return the newest sizes of a segment, oldest first."""


class SegmentBook:
    """The definitions as the file has them; a file that cannot be used leaves them as they were.

    Every method may block, and be called from any thread.
    """

    def __init__(self, config_dir: Path) -> None:
        self._config_dir = config_dir
        self._looking = threading.Lock()
        self._stamp: tuple[int, int] | None = None
        self._segments = Segments({})
        self._problem: str | None = None

    def look(self) -> tuple[Segments, str | None]:
        """Return the definitions, and what is wrong with the file if anything is."""
        with self._looking:
            stamp = stamp_of(self._config_dir)
            if stamp != self._stamp:
                self._stamp = stamp
                self._load()
            return self._segments, self._problem

    def names(self) -> tuple[str, ...]:
        """Return the names that are defined."""
        return self.look()[0].names

    def _load(self) -> None:
        try:
            self._segments, self._problem = load_segments(self._config_dir), None
        except BespokeError as error:
            logger.error("segments stay as they were: %s", error)
            self._problem = str(error)


def segment_routes(book: SegmentBook, sizes: SizeStore, *, check_key: Callable[..., Any]) -> APIRouter:
    """Return the routes ``GET /api/v1/segments`` and ``GET /api/v1/segments/{name}``.

    Args:
        book: the definitions.
        sizes: how many people are in each.
        check_key: lets only good keys pass; what is wrong with the file names its path, so nobody else may see it.
    """
    router = APIRouter(
        prefix="/api/v1",
        tags=["segments"],
        dependencies=[Depends(check_key)],
        responses={status: {"model": ErrorBody} for status in (401, 403, 503, 504)},
    )

    def listed() -> SegmentsResponse:
        segments, problem = book.look()
        infos = (_info(segment, sizes.sizes(name, limit=1)) for name, segment in segments.segments.items())
        return SegmentsResponse(segments=tuple(infos), problem=problem)

    def shown(name: str, since: datetime | None, limit: int) -> SegmentResponse:
        segment = named(book.look()[0], name)
        # The size is the newest there is, also where `since` leaves none.
        counted, newest = sizes.sizes(name, since=since, limit=limit), sizes.sizes(name, limit=1)
        return SegmentResponse(
            **_info(segment, newest).model_dump(),
            fingerprint=segment.fingerprint,
            sizes=tuple(SegmentSize(at=at, members=members) for at, members in counted),
            reads=SegmentReads(
                features=tuple(sorted(segment.features)),
                scores=tuple(sorted(segment.scores)),
                traits=tuple(sorted(segment.traits)),
                segments=tuple(sorted(segment.refers)),
            ),
        )

    @router.get("/segments", summary="All segments with their sizes")
    async def list_segments() -> SegmentsResponse:
        return await asyncio.to_thread(listed)

    @router.get(
        "/segments/{name}", summary="One segment, and its size over time", responses={404: {"model": ErrorBody}}
    )
    async def show_segment(
        name: str,
        since: Annotated[
            datetime | None, Query(description="Sizes from this time on; UTC where it names none.")
        ] = None,
        limit: Annotated[
            int, Query(ge=1, le=MAX_SIZES, description="How many sizes at most, the newest ones.")
        ] = SIZES,
    ) -> SegmentResponse:
        return await asyncio.to_thread(shown, name, None if since is None else utc(since), limit)

    return router


def named(segments: Segments, name: str) -> Segment:
    """Return a segment by its name.

    Raises:
        RequestError: there is none of that name; tells those that resemble it.
    """
    if name in segments.segments:
        return segments.segments[name]
    near = get_close_matches(name.lower(), segments.names)
    meant = f"did you mean {' or '.join(near)}?" if near else "GET /api/v1/segments lists those that there are"
    message = f"no segment {name[:64]!r}; {meant}"
    raise RequestError(404, "unknown_segment", message, details={"near": near})


def _info(segment: Segment, sizes: list[tuple[datetime, int]]) -> SegmentInfo:
    at, members = sizes[-1] if sizes else (None, None)
    return SegmentInfo(name=segment.name, meaning=segment.meaning, size=members, size_at=at)
