"""The tables of the profile store, and the form in which a profile's state rests in them."""

from collections.abc import Sequence

import orjson
import pyarrow as pa
from sqlalchemy import BigInteger, Boolean, Column, Index, Integer, LargeBinary, MetaData, String, Table, text

from bespoke.profiles import Profile, from_row, to_row

metadata = MetaData()

partitions = Table(
    "partitions",
    metadata,
    Column("partition", Integer, primary_key=True, autoincrement=False),
    Column("committed", BigInteger, nullable=False),
    Column("states_from", BigInteger, nullable=False),
    Column("events_from", BigInteger, nullable=False),
    comment="How far each partition of the event log has been applied, and its states and events taken to the lake.",
)

profiles = Table(
    "profiles",
    metadata,
    Column("user_id", String, primary_key=True),
    Column("partition", Integer, nullable=False),
    Column("version", BigInteger, nullable=False),
    Column("pushed_version", BigInteger, nullable=False, default=0),
    Column("due_ms", BigInteger),
    Column("state", LargeBinary, nullable=False),
    comment="due_ms is when time alone may change the segments of a person.",
)
_unpushed = text("pushed_version < version")
# Holds only the profiles that wait for their push, so finding them costs nothing when there are none.
Index(
    "profiles_unpushed",
    profiles.c.partition,
    profiles.c.version,
    sqlite_where=_unpushed,
    postgresql_where=_unpushed,
)

_due = text("due_ms IS NOT NULL")
Index("profiles_due", profiles.c.partition, profiles.c.due_ms, sqlite_where=_due, postgresql_where=_due)
Index("profiles_of_partition", profiles.c.partition, profiles.c.user_id)

memberships = Table(
    "memberships",
    metadata,
    Column("user_id", String, primary_key=True),
    Column("segment", String, primary_key=True),
    Column("partition", Integer, nullable=False),
    Column("inside", Boolean, nullable=False),
    Column("ordinal", Integer, nullable=False),
    Column("since_ms", BigInteger, nullable=False),
    comment="Of everybody who was ever in a segment: whether still, and how many transitions there were.",
    sqlite_with_rowid=False,
)
_inside = text("inside")
Index("members", memberships.c.segment, memberships.c.user_id, sqlite_where=_inside, postgresql_where=_inside)

segment_reviews = Table(
    "segment_reviews",
    metadata,
    Column("partition", Integer, primary_key=True, autoincrement=False),
    Column("fingerprint", String, nullable=False),
    Column("reached", String),
    comment="How far everybody was held against the definitions of that fingerprint; NULL where all were.",
)

item_states = Table(
    "item_states",
    metadata,
    Column("partition", Integer, primary_key=True, autoincrement=False),
    Column("item_id", String, primary_key=True),
    Column("version", BigInteger, nullable=False),
    Column("pushed_version", BigInteger, nullable=False, default=0),
    Column("state", LargeBinary, nullable=False),
    comment="What the people of a partition together did with each item, up to the offset version or later.",
    sqlite_with_rowid=False,
)
Index("item_states_of_item", item_states.c.item_id)
Index(
    "item_states_unpushed",
    item_states.c.partition,
    item_states.c.version,
    sqlite_where=_unpushed,
    postgresql_where=_unpushed,
)

applied_messages = Table(
    "applied_messages",
    metadata,
    Column("partition", Integer, primary_key=True, autoincrement=False),
    Column("message_id", String, primary_key=True),
    Column("received_ms", BigInteger, nullable=False, index=True),
    sqlite_with_rowid=False,
)

skipped_messages = Table(
    "skipped_messages",
    metadata,
    Column("partition", Integer, primary_key=True, autoincrement=False),
    Column("offset", BigInteger, primary_key=True, autoincrement=False),
    comment="Messages that caused nothing, repeated ones mostly, until the lake is past them.",
    sqlite_with_rowid=False,
)

state_outbox = Table(
    "state_outbox",
    metadata,
    Column("partition", Integer, primary_key=True, autoincrement=False),
    Column("version", BigInteger, primary_key=True, autoincrement=False),
    Column("user_id", String, primary_key=True),
    Column("state", LargeBinary, nullable=False),
    comment="State rows on their way to the lake.",
)

event_outbox = Table(
    "event_outbox",
    metadata,
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True),
    Column("key", String, nullable=False),
    Column("message_id", String, nullable=False),
    Column("received_ms", BigInteger, nullable=False),
    Column("payload", LargeBinary, nullable=False),
    comment="System events on their way to the event log.",
    sqlite_autoincrement=True,
)

# Measured on 1,300 states of 15 kB each: 2.3 kB and 45 ms; zlib at its fastest takes 2.8 kB and 100 ms.
_CODEC = pa.Codec("zstd", 1)
_LENGTH_BYTES = 4


def encode_state(profile: Profile, segments: Sequence[str] = ()) -> bytes:
    """Return the form in which a profile rests: the JSON of its row and its segments, compressed, after its length."""
    return pack(orjson.dumps({**to_row(profile), "segments": list(segments)}))


def decode_state(state: bytes) -> tuple[Profile, tuple[str, ...]]:
    """Return the profile and the segments that :func:`encode_state` wrote."""
    row = orjson.loads(unpack(state))
    return from_row(row), tuple(row["segments"])


def pack(row_json: bytes) -> bytes:
    """Compress the JSON of a state row."""
    packed: bytes = _CODEC.compress(row_json, asbytes=True)
    return len(row_json).to_bytes(_LENGTH_BYTES, "little") + packed


def unpack(state: bytes) -> bytes:
    """Return the JSON that :func:`pack` compressed."""
    length = int.from_bytes(state[:_LENGTH_BYTES], "little")
    row_json: bytes = _CODEC.decompress(memoryview(state)[_LENGTH_BYTES:], length, asbytes=True)
    return row_json
