"""A client of Bespoke: recommendations, profiles and events over HTTP, typed, with retries that do no harm.

>>> with Bespoke("http://127.0.0.1:8000", "KEY") as bespoke:  # doctest: +SKIP
...     answer = bespoke.recommend("alice", num_results=20)
...     bespoke.track("alice", "Product Clicked", {"recommendation_id": answer.recommendation_id})
"""

from bespoke_client.client import Bespoke
from bespoke_client.errors import BespokeError, NoAnswer, Refused
from bespoke_client.events import Event, alias, group, identify, page, screen, track
from bespoke_client.options import Line, ListOptions, PersonOptions, Promotion
from bespoke_client.results import Assignment, Item, Profile, Receipt, Recommendations, Rejected

__all__ = [
    "Assignment",
    "Bespoke",
    "BespokeError",
    "Event",
    "Item",
    "Line",
    "ListOptions",
    "NoAnswer",
    "PersonOptions",
    "Profile",
    "Promotion",
    "Receipt",
    "Recommendations",
    "Refused",
    "Rejected",
    "alias",
    "group",
    "identify",
    "page",
    "screen",
    "track",
]
