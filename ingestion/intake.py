"""The intake: what becomes of an event between the log and the profile, and what is counted on the way."""

from collections.abc import Callable
from dataclasses import dataclass, field

from bespoke.duplicates import NearDuplicates
from bespoke.enrichment import Enrichment
from bespoke.errors import InvalidEvent
from bespoke.events import Event
from bespoke.profiles import Profile
from storage.eventlog.base import Record

DUPLICATE = "duplicate"
NEAR_DUPLICATE = "near_duplicate"
BOT = "bot"

Count = Callable[[Event, str], None]
"""Takes an event and what it is counted as."""


@dataclass(frozen=True, slots=True)
class Intake:
    """Enriches events, and leaves out those of bots and near-duplicates. All of them stay in the log."""

    enrichment: Enrichment = field(default_factory=Enrichment)
    near_duplicates: NearDuplicates = field(default_factory=NearDuplicates)
    count: Count = lambda event, what: None

    def enrich(self, event: Event) -> Event:
        """Return the event with what the enrichment adds."""
        return self.enrichment.apply(event)

    def leaves_out(self, event: Event, profile: Profile) -> bool:
        """Return whether the event is to change nothing, given the profile without it."""
        what = BOT if self.enrichment.is_bot(event) else None
        if what is None and self.near_duplicates.found(profile, event):
            what = NEAR_DUPLICATE
        if what is not None:
            self.count(event, what)
        return what is not None

    def repeated(self, record: Record) -> None:
        """Count a message whose id was applied before."""
        try:
            self.count(Event.from_payload(record.payload), DUPLICATE)
        except InvalidEvent:
            return
