"""Enrichment: what is added to an event, or made coarser in it, before it is folded into a profile.

Steps work on a draft of the event. They are quick, and take any content that JSON can carry: what a step does not
understand it leaves alone, or drops where leaving it would tell too much.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Protocol

from bespoke.catalog import Catalog, Item
from bespoke.events import Event, EventType, Line

MAX_AGENT_CHARS = 1_000
"""Longer user agents are cut: whoever sends one is no browser."""
AGENTS_REMEMBERED = 20_000
BOT = "bot"
_TABLETS = ("ipad", "tablet", "kindle", "galaxy tab", "nexus 7", "nexus 9", "nexus 10", "sm-t", "sm-x", "playbook")
_TVS = ("tv", "roku", "chromecast", "aftt", "afts", "aftm", "aftb", "bravia", "playstation", "xbox", "web0s", "crkey")
_DESKTOPS = ("windows", "mac os x", "linux", "chrome os", "ubuntu", "fedora", "debian", "freebsd", "openbsd")
_PHONES = ("ios", "android", "windows phone", "kaios", "blackberry os", "harmonyos", "tizen", "firefox os")


@dataclass(slots=True)
class Draft:
    """The parts of an event that steps may replace; the mappings themselves belong to the event and never change."""

    type: EventType
    context: Mapping[str, Any]
    traits: Mapping[str, Any]
    lines: tuple[Line, ...]


class Step(Protocol):
    """One thing that is done to every event."""

    def apply(self, draft: Draft) -> None:
        """Replace what changes; leave alone what does not, so that an event that stays as it is costs little."""


@dataclass(frozen=True, slots=True)
class Enrichment:
    """The steps of an installation, in order, and who counts as a bot."""

    steps: Sequence[Step] = ()
    bots: tuple[str, ...] = ()
    """What user agents of further bots contain, in lower case."""

    def apply(self, event: Event) -> Event:
        """Return ``event`` as it is kept: without the sender's address, and with what the steps add.

        Doing it again changes nothing. It raises on no content that :func:`bespoke.parsing.parse_event` lets pass.
        """
        context, traits, lines = event.context, event.traits, event.lines
        draft = Draft(event.type, context, traits, lines)
        if "ip" in context:
            draft.context = {name: value for name, value in context.items() if name != "ip"}
        for step in self.steps:
            step.apply(draft)
        if draft.context is context and draft.traits is traits and draft.lines is lines:
            return event
        return replace(event, context=draft.context, traits=draft.traits, lines=draft.lines)

    def is_bot(self, event: Event) -> bool:
        """Return whether a bot sent it, by the device type or the user agent of its context."""
        context = event.context
        if not context:
            return False
        device = context.get("device")
        if isinstance(device, dict) and device.get("type") == BOT:
            return True
        agent = context.get("userAgent")
        return isinstance(agent, str) and device_type(agent[:MAX_AGENT_CHARS], self.bots) == BOT


@dataclass(frozen=True, slots=True)
class DeviceStep:
    """``context.device.type`` from the user agent, where the sender names none."""

    bots: tuple[str, ...] = ()

    def apply(self, draft: Draft) -> None:
        """See :meth:`Step.apply`."""
        agent = draft.context.get("userAgent")
        if not isinstance(agent, str):
            return
        device = draft.context.get("device")
        known = device if isinstance(device, dict) else {}
        if known.get("type") is None:
            found = device_type(agent[:MAX_AGENT_CHARS], self.bots)
            draft.context = {**draft.context, "device": {**known, "type": found}}


@dataclass(frozen=True, slots=True)
class LocationStep:
    """``context.location`` made coarse: latitude and longitude to some decimals, without what is no place on Earth."""

    decimals: int = 2
    """Two are about one kilometre."""

    def apply(self, draft: Draft) -> None:
        """See :meth:`Step.apply`."""
        location = draft.context.get("location")
        if not isinstance(location, dict) or not ("latitude" in location or "longitude" in location):
            return
        latitude, longitude = _degrees(location.get("latitude"), 90), _degrees(location.get("longitude"), 180)
        rest = {name: value for name, value in location.items() if name not in ("latitude", "longitude")}
        if latitude is not None and longitude is not None:
            rest["latitude"], rest["longitude"] = round(latitude, self.decimals), round(longitude, self.decimals)
        if rest != location:
            draft.context = {**draft.context, "location": rest}


@dataclass(frozen=True, slots=True)
class CatalogStep:
    """Category, brand and price of lines that lack them, from the catalog."""

    catalog: Callable[[], Catalog]
    """Returns the present catalog; asked for every event with lines, so it must be at hand."""
    fields: Collection[str] = ("category", "brand", "price")
    category_level: int = -1
    """Which part of an item's category lines get: 0 the broadest, -1 the narrowest."""

    def apply(self, draft: Draft) -> None:
        """See :meth:`Step.apply`."""
        for line in draft.lines:
            if line.category is None or line.brand is None or line.price is None:
                catalog = self.catalog()
                joined = tuple([self._joined(line, catalog.get(line.item_id)) for line in draft.lines])
                if joined != draft.lines:
                    draft.lines = joined
                return

    def _joined(self, line: Line, item: Item | None) -> Line:
        if item is None:
            return line
        category, brand, price = line.category, line.brand, line.price
        if category is None and item.category and "category" in self.fields:
            category = item.category[max(-len(item.category), min(self.category_level, len(item.category) - 1))]
        if brand is None and "brand" in self.fields:
            brand = item.brand
        if price is None and "price" in self.fields:
            price = item.price
        return Line(line.item_id, line.quantity, price, category, brand)


class Lookup(Protocol):
    """A reference table at hand."""

    def row(self, key: str) -> Mapping[str, Any] | None:
        """Return what the table says of ``key``."""


@dataclass(frozen=True, slots=True)
class TableStep:
    """Traits of ``identify`` messages that follow from another trait, by a reference table."""

    key: str
    """The trait that is looked up."""
    table: Lookup

    def apply(self, draft: Draft) -> None:
        """See :meth:`Step.apply`. What the sender says stands."""
        if draft.type is not EventType.IDENTIFY:
            return
        value = draft.traits.get(self.key)
        row = self.table.row(key_text(value)) if value.__class__ in (str, int, float) else None
        if row and (added := {name: told for name, told in row.items() if name not in draft.traits}):
            draft.traits = {**draft.traits, **added}


def key_text(value: Any) -> str:
    """Return a key of a reference table as text, so that 8010, 8010.0 and " 8010" are one.

    >>> key_text(8010.0), key_text(" 8010")
    ('8010', '8010')
    """
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value).strip()


@lru_cache(maxsize=AGENTS_REMEMBERED)
def device_type(agent: str, bots: tuple[str, ...] = ()) -> str:
    """Return what a user agent runs on: mobile, tablet, desktop, tv, bot or other.

    A desktop that stands in for an iPad (Safari asks for desktop pages there) cannot be told from a Mac.

    >>> device_type("Mozilla/5.0 (iPad; CPU OS 15_5 like Mac OS X) AppleWebKit/605.1.15 Mobile/15E148 Safari/604.1")
    'tablet'

    Args:
        agent: the ``User-Agent``.
        bots: what further bots' names contain, in lower case.
    """
    # Imported here: it takes a moment that other commands need not wait for.
    from ua_parser import parse

    # Half a surrogate is text in JSON and none in UTF-8, which the parser takes.
    found = parse(agent.encode("utf-8", "replace").decode())
    text = agent.lower()
    device = ""
    if found.device is not None:
        device = f"{found.device.family} {found.device.brand} {found.device.model}".lower()
    system = "" if found.os is None else found.os.family.lower()
    if device.startswith("spider") or "headless" in text or any(bot in text for bot in bots):
        return BOT
    if any(word in device or word in system for word in _TVS) or "smart-tv" in text or "xbox" in text:
        return "tv"
    # Browsers say "Mobile" on Android phones and leave it out on tablets; apps do not say it on either.
    browser = text.startswith("mozilla/")
    if any(word in device for word in _TABLETS) or (system == "android" and browser and "mobile" not in text):
        return "tablet"
    if "mobile" in text or system in _PHONES:
        return "mobile"
    return "desktop" if system in _DESKTOPS else "other"


def _degrees(value: Any, limit: int) -> float | None:
    return value if value.__class__ in (int, float) and -limit <= value <= limit else None
