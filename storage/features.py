"""Features: profiles' states in Feast, online for serving and as they were at any time for training.

The profile store is the truth; what is online is its served view. Order is kept by versions before the push: Feast's
stores keep whatever arrives last. A state has no time to live, here or online, because features age it when they are
derived (see feature_repo/views.py).

``import feast`` takes seconds, so it waits until something is read, pushed or applied.
"""

import importlib
import os
import shutil
import sqlite3
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any, NamedTuple

import pyarrow as pa
import yaml

from bespoke.clock import from_ms
from bespoke.errors import Unavailable
from bespoke.events import UserId
from bespoke.profiles import EMPTY, STATE_COLUMNS, Profile, from_row, to_row
from storage.lake_tables import STATES
from storage.profiles import StoredProfile
from storage.settings import Settings
from storage.sqlite import open_sqlite

if TYPE_CHECKING:
    from feast import FeatureStore, FeatureView, RepoConfig

FEATURE_REPO = Path(__file__).resolve().parents[1] / "feature_repo"
VIEW = "user_state"
JOIN_KEY = "user_id"

_VALUE_FIELD = {
    "int": "int64_val",
    "string": "string_val",
    "ints": "int64_list_val",
    "floats": "double_list_val",
    "strings": "string_list_val",
}


@dataclass(frozen=True, slots=True)
class OnlineProfile:
    """A profile as the online store has it."""

    profile: Profile
    version: int


def apply_feature_repo(settings: Settings) -> None:
    """Register the definitions of feature_repo/ and create the online tables; what exists already stays.

    Does what ``feast apply`` does, in this process. The registry is replaced as a whole, so that readers never see half
    of it. Call it before the processes that read features start: it changes the import path while it runs.
    """
    from feast import FeatureStore

    settings.feast_dir.mkdir(parents=True, exist_ok=True)
    registry = _registry_path(settings)
    beside = registry.with_suffix(".new")
    beside.unlink(missing_ok=True)
    if registry.exists():
        shutil.copyfile(registry, beside)
    FeatureStore(config=_config(settings, registry=beside)).apply(_definitions(settings))
    os.replace(beside, registry)
    if settings.redis_url is None:
        # Write-ahead mode, which the file remembers: readers and the writer do not wait for each other.
        open_sqlite(_online_path(settings)).close()


class OnlineFeatures:
    """The latest pushed state of each profile. Connects at the first use; safe to share between threads."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._connecting = Lock()
        self._connection: _Connection | None = None
        # Feast shares one SQLite connection between threads; Redis clients bring their own pool.
        self._turn: AbstractContextManager[Any] = Lock() if settings.redis_url is None else nullcontext()

    def push(self, rows: Sequence[StoredProfile]) -> None:
        """Make ``rows`` the states that readers see, all of them in one transaction or pipeline.

        Raises:
            Unavailable: the store cannot be reached; nothing or a part was written, so push the rows again.
        """
        with _unavailable_on_failure():
            store, view = self._connected()
            written = [_written(row) for row in rows]
            with self._turn:
                store.provider.online_write_batch(store.config, view, written, None)

    def read(self, user_ids: Sequence[UserId], *, service: str = "als") -> dict[UserId, OnlineProfile]:
        """Return the states of ``user_ids`` in one call, with the columns of feature service ``service``.

        People without a state are absent.

        Raises:
            Unavailable: the store cannot be reached, or the definitions were never applied.
        """
        with _unavailable_on_failure():
            store, view = self._connected()
            columns = self._columns(service)
            keys = [_entity_key(user_id) for user_id in user_ids]
            with self._turn:
                # Feast appends to the list of columns that it is given.
                found = store.provider.online_read(store.config, view, keys, [*columns])
        return {
            user_id: _online_profile(values)
            for user_id, (_, values) in zip(user_ids, found, strict=True)
            # Feast's Redis store answers for the unknown with values that hold nothing.
            if values is not None and values["version"].WhichOneof("val") is not None
        }

    def marked(self) -> bool:
        """Return whether the store holds the mark: if not, it is new or has lost what it held.

        Raises:
            Unavailable: the store cannot be reached, or the definitions were never applied.
        """
        return _MARK in self.read([_MARK])

    def mark(self) -> None:
        """Leave the mark, once everything is pushed.

        Raises:
            Unavailable: the store cannot be reached.
        """
        self.push([StoredProfile(_MARK, EMPTY, version=1, partition=0)])

    def ready(self) -> bool:
        """Return whether a read would succeed now."""
        try:
            self.read([UserId("")])
        except Unavailable:
            return False
        return True

    def _connected(self) -> "tuple[FeatureStore, FeatureView]":
        with self._connecting:
            if self._connection is None:
                self._connection = _connect(self._settings)
        return self._connection.store, self._connection.view

    def _columns(self, service: str) -> Sequence[str]:
        assert self._connection is not None
        columns = self._connection.columns_of_service
        if service not in columns:
            found = self._connection.store.get_feature_service(service, allow_cache=True)
            columns[service] = _columns_of_view(found)
        return columns[service]


_MARK = UserId("\0mark")
"""Stands in the store for "nothing was lost". No person has such an id: people's ids are printable."""


class _Connection(NamedTuple):
    store: "FeatureStore"
    view: "FeatureView"
    columns_of_service: dict[str, Sequence[str]]


def _connect(settings: Settings) -> _Connection:
    store = _store(settings)
    return _Connection(store, store.get_feature_view(VIEW), {})


def historical_features(settings: Settings, people: pa.Table, *, service: str) -> pa.Table:
    """Return the state of each person at each time, from the lake: the newest one received by then.

    Args:
        settings: the installation, its definitions applied.
        people: columns ``user_id`` (string) and ``event_timestamp`` (UTC timestamp), one row per question.
        service: the feature service whose columns to return.

    Returns:
        ``people`` with the service's columns, row by row in the same order; nulls where nothing was received by then.

    Raises:
        Unavailable: the definitions were never applied, or the lake's files changed while they were read.
    """
    with _unavailable_on_failure():
        store = _store(settings)
        found = store.get_feature_service(service)
    schema = pa.schema([STATES.field(name) for name in _columns_of_view(found)])
    if people.num_rows == 0 or not any((settings.lake_dir / "states").glob("**/*.parquet")):
        states = pa.table([pa.nulls(people.num_rows, field.type) for field in schema], schema=schema)
    else:
        states = _joined(store, found, people, schema)
    return pa.table([*people.columns, *states.columns], names=[*people.column_names, *schema.names])


def _joined(store: "FeatureStore", service: Any, people: pa.Table, schema: pa.Schema) -> pa.Table:
    """Return the states of ``people``, in their order. Feast answers in an order of its own, equal questions once."""
    import duckdb

    asked = people.select([JOIN_KEY, "event_timestamp"]).to_pandas().drop_duplicates()
    try:
        answers = store.get_historical_features(entity_df=asked, features=service).to_arrow()
    except duckdb.Error as error:
        raise Unavailable(f"states in the lake: {error}; files may have been merged meanwhile, try again") from error
    row_of = {question: row for row, question in enumerate(_questions(answers))}
    return answers.select(schema.names).cast(schema).take([row_of[question] for question in _questions(people)])


def _questions(table: pa.Table) -> Iterator[tuple[str, int]]:
    at_ms = table["event_timestamp"].cast(pa.timestamp("ms", "UTC")).cast(pa.int64())
    return zip(table[JOIN_KEY].to_pylist(), at_ms.to_pylist(), strict=True)


def _store(settings: Settings) -> "FeatureStore":
    registry = _registry_path(settings)
    if not registry.exists():
        raise Unavailable(f"no feature registry at {registry}; `bespoke up` creates it")
    from feast import FeatureStore

    return FeatureStore(config=_config(settings, registry=registry))


def _config(settings: Settings, *, registry: Path) -> "RepoConfig":
    """Return the repository's own settings with the places of this installation in them."""
    from feast import RepoConfig

    name = "feature_store.yaml" if settings.redis_url is None else "feature_store.redis.yaml"
    raw = yaml.safe_load((FEATURE_REPO / name).read_text())
    raw["registry"]["path"] = str(registry.resolve())
    online = raw["online_store"]
    if settings.redis_url is None:
        online["path"] = str(_online_path(settings).resolve())
    else:
        online["connection_string"] = online["connection_string"].replace("${BESPOKE_REDIS_URL}", settings.redis_url)
    return RepoConfig(**raw, repo_path=FEATURE_REPO)


def _registry_path(settings: Settings) -> Path:
    return settings.feast_dir / "registry.db"


def _online_path(settings: Settings) -> Path:
    return settings.feast_dir / "online.db"


def _definitions(settings: Settings) -> list[Any]:
    """Return every Feast object of feature_repo/. Feast's own loader would change the working directory instead."""
    from feast import Entity, FeatureService, FeatureView
    from feast.data_source import DataSource

    kinds = (Entity, DataSource, FeatureView, FeatureService)
    names = sorted(path.stem for path in FEATURE_REPO.glob("*.py"))
    with _importable(FEATURE_REPO, names, home=settings.home.resolve()):
        modules = [importlib.import_module(name) for name in names]
    found = {id(value): value for module in modules for value in vars(module).values() if isinstance(value, kinds)}
    return list(found.values())


@contextmanager
def _importable(folder: Path, names: Iterable[str], *, home: Path) -> Iterator[None]:
    """Let bare sibling imports work and ``BESPOKE_HOME`` be ``home``, and leave no trace."""
    hidden = {name: sys.modules.pop(name) for name in names if name in sys.modules}
    earlier_home, wrote_bytecode = os.environ.get("BESPOKE_HOME"), sys.dont_write_bytecode
    sys.path.insert(0, str(folder))
    os.environ["BESPOKE_HOME"] = str(home)
    sys.dont_write_bytecode = True
    try:
        yield
    finally:
        sys.path.remove(str(folder))
        sys.dont_write_bytecode = wrote_bytecode
        if earlier_home is None:
            del os.environ["BESPOKE_HOME"]
        else:
            os.environ["BESPOKE_HOME"] = earlier_home
        for name in names:
            sys.modules.pop(name, None)
        sys.modules.update(hidden)


def _columns_of_view(service: Any) -> Sequence[str]:
    return [
        feature.name
        for projection in service.feature_view_projections
        if projection.name == VIEW
        for feature in projection.features
    ]


def _entity_key(user_id: UserId) -> Any:
    from feast.protos.feast.types.EntityKey_pb2 import EntityKey
    from feast.protos.feast.types.Value_pb2 import Value

    return EntityKey(join_keys=[JOIN_KEY], entity_values=[Value(string_val=user_id)])


def _written(row: StoredProfile) -> tuple[Any, Any, datetime, datetime | None]:
    """Return ``row`` as Feast's stores take it: key, values by column, time, no creation time."""
    state = to_row(row.profile)
    values = {name: _value(kind, state[name]) for name, kind in STATE_COLUMNS.items()}
    values["version"] = _value("int", row.version)
    return _entity_key(row.user_id), values, from_ms(row.profile.received_ms or 0), None


def _value(kind: str, content: Any) -> Any:
    from feast.protos.feast.types.Value_pb2 import Value

    if content is None:
        return Value()
    field: Any = {_VALUE_FIELD[kind]: {"val": content} if isinstance(content, list) else content}
    return Value(**field)


def _online_profile(values: Mapping[str, Any]) -> OnlineProfile:
    row = {name: _content(value) for name, value in values.items()}
    return OnlineProfile(from_row(row), row["version"])


def _content(value: Any) -> Any:
    field = value.WhichOneof("val")
    if field is None:
        return None
    content = getattr(value, field)
    return list(content.val) if field.endswith("_list_val") else content


@contextmanager
def _unavailable_on_failure() -> Iterator[None]:
    """Turn what Feast and its stores raise when they cannot be reached into :class:`Unavailable`."""
    from feast.errors import FeastError
    from google.protobuf.message import DecodeError
    from redis.exceptions import RedisError

    try:
        yield
    except (sqlite3.Error, RedisError, FeastError, DecodeError, OSError) as error:
        raise Unavailable(f"features: {error}") from error
