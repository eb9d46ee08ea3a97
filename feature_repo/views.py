"""Views: the columns of users' states and of items.

Rows hold state, never aged values: bespoke.features derives the features from a state at the moment they are used. A
state therefore does not become wrong with time. It becomes a bad basis: what somebody liked years ago says little, and
data that nobody has a use for should not be served.
"""

from datetime import timedelta

from feast import FeatureView, Field
from feast.types import Array, Bool, FeastType, Float64, Int64, String

from bespoke.items import ITEM_COLUMNS
from bespoke.profiles import STATE_COLUMNS
from entities import item, user
from sources import events, items, user_state_push

STATE_TTL = timedelta(days=2 * 365)
"""How long a state is used after its newest event was received: online and for training alike. Two years hold every
yearly rhythm twice, so who comes back each Christmas is still known."""
ITEM_STATE_TTL = timedelta(days=60)
"""The same of an item: whoever counts its last 30 days has nothing left to count by then."""
UNTIL_REPLACED = timedelta(0)
"""What the catalog said of an item holds until it says something else."""
TYPES: dict[str, FeastType] = {
    "int": Int64,
    "float": Float64,
    "string": String,
    "ints": Array(Int64),
    "floats": Array(Float64),
    "strings": Array(String),
}

user_state = FeatureView(
    name="user_state",
    entities=[user],
    ttl=STATE_TTL,
    schema=[
        *(Field(name=name, dtype=TYPES[kind]) for name, kind in STATE_COLUMNS.items()),
        Field(name="version", dtype=Int64, description="Offset in the event log up to which events are folded."),
        Field(name="segments", dtype=Array(String), description="The segments that the person is in, by name."),
    ],
    source=user_state_push,
    description="What is known of a person: the columns of bespoke.profiles.STATE_COLUMNS.",
)
item_metadata = FeatureView(
    name="item_metadata",
    entities=[item],
    ttl=UNTIL_REPLACED,
    schema=[
        Field(name="name", dtype=String),
        Field(name="category", dtype=Array(String), description="From the broadest to the narrowest."),
        Field(name="brand", dtype=String),
        Field(name="price", dtype=Float64),
        Field(name="available", dtype=Bool),
    ],
    source=items,
    online=False,
    description="Items as the catalog described them. Online they are read from the model bundle, not from here.",
)
item_state = FeatureView(
    name="item_state",
    entities=[item],
    ttl=ITEM_STATE_TTL,
    schema=[
        *(Field(name=name, dtype=TYPES[kind]) for name, kind in ITEM_COLUMNS.items()),
        Field(name="version", dtype=Int64, description="Grows with what was counted."),
    ],
    source=events,
    description="What everybody together does with an item: the columns of bespoke.items.ITEM_COLUMNS. Pushed by the "
    "processor after people's states.",
)
