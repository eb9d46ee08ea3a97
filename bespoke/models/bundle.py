"""A model bundle: what a trained model is on disk, as a folder of plain files that are checked before use.

manifest.json        what it is, what it was trained on, and the SHA-256 of every other file
model.safetensors    the arrays
reference.parquet    features at training time, to compare later ones with (optional)

and of a recommender, also

vocabulary.parquet   item ids and user ids, by row
popular.json         the most popular item ids, best first: what is left when all else fails
items.parquet        item metadata
nearest.safetensors  the codes that searches look at, of models with item vectors

Whatever else is bundled is sealed with :func:`seal` and checked with :func:`checked_manifest`.
"""

import hashlib
import platform
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version as library_version
from pathlib import Path
from typing import Any, Literal, NotRequired, TypedDict, Unpack

import orjson
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pydantic import AwareDatetime, BaseModel, ConfigDict, FiniteFloat

from bespoke.catalog import ITEM_SCHEMA, Item, ItemTable
from bespoke.errors import BespokeError, BundleError, shown
from bespoke.events import ItemId, UserId
from bespoke.models.base import Model
from bespoke.models.index import top_k
from bespoke.models.registry import MODELS, model_of_kind
from bespoke.models.retrieval import codes_of, warm, with_codes
from bespoke.models.tensors import map_arrays, write_arrays
from bespoke.models.verdict import Verdict
from bespoke.vocabulary import Vocabulary

FORMAT: Literal[1] = 1
POPULAR_ITEMS = 1_000

MANIFEST = "manifest.json"
ARRAYS = "model.safetensors"
VOCABULARY = "vocabulary.parquet"
POPULAR = "popular.json"
ITEMS = "items.parquet"
REFERENCE = "reference.parquet"
NEAREST = "nearest.safetensors"
REQUIRED = frozenset({ARRAYS, VOCABULARY, POPULAR, ITEMS})
"""What the bundle of a recommender holds."""
OPTIONAL = frozenset({REFERENCE, NEAREST})
"""What it may hold besides."""

LIBRARIES = ("numpy", "scipy", "numba", "torch", "lightgbm", "safetensors", "pyarrow")
VOCABULARY_SCHEMA = pa.schema([("of", pa.string()), ("id", pa.string())])
"""``of`` is OF_ITEMS or OF_USERS; the ids of either are in the order of their rows."""
OF_ITEMS, OF_USERS = "items", "users"


class Window(BaseModel):
    """The events that were trained on: from ``since`` up to, but without, ``until``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    since: AwareDatetime
    until: AwareDatetime


class Manifest(BaseModel):
    """What a bundle says of itself."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[1] = FORMAT
    name: str
    version: str
    kind: str
    window: Window
    fingerprint: str
    """Digest of the training data."""
    segment: str | None = None
    """The segment whose members' events alone were trained on; None: everybody's."""
    config: dict[str, Any]
    seed: int
    feature_service: str | None
    metrics: dict[str, FiniteFloat]
    measured: Window | None = None
    """What the model saw that ``metrics`` were measured on: of the same config, up to an earlier cut."""
    gate: Verdict | None = None
    """None: made without a gate."""
    parent: str | None
    """The version that this one started from."""
    git_revision: str | None
    created_at: AwareDatetime
    libraries: dict[str, str]
    files: dict[str, str]
    """SHA-256 of every other file, by name."""


class Origin(TypedDict):
    """Where a model comes from: the part of a manifest that is known before its files are written."""

    name: str
    version: str
    window: Window
    fingerprint: str
    segment: NotRequired[str | None]
    metrics: Mapping[str, float]
    measured: NotRequired[Window | None]
    gate: NotRequired[Verdict | None]
    seed: int
    feature_service: str | None
    parent: str | None
    git_revision: str | None
    created_at: AwareDatetime


@dataclass(frozen=True, slots=True)
class Bundle:
    """A bundle that was read and checked."""

    folder: Path
    manifest: Manifest
    model: Model
    popular: tuple[ItemId, ...]
    """The most popular items of the training window, best first."""
    table: ItemTable
    """Its items, as they were known when it was made."""


def write_bundle(
    folder: Path, model: Model, *, items: Sequence[Item], reference: pa.Table | None = None, **origin: Unpack[Origin]
) -> Manifest:
    """Write ``model`` into ``folder``, which exists and is empty; the manifest comes last.

    Raises:
        BundleError: the folder is not empty, or an array or a metric is not finite.
    """
    require_empty(folder)
    write_arrays(folder / ARRAYS, model.arrays())
    pq.write_table(_vocabulary_table(model), folder / VOCABULARY)
    _write_json(folder / POPULAR, [model.vocabulary.ids[row] for row in top_k(model.popularity_I, k=POPULAR_ITEMS)])
    pq.write_table(ItemTable.of(items).arrow, folder / ITEMS)
    if (codes := codes_of(model)) is not None:
        write_arrays(folder / NEAREST, codes.arrays())
    if reference is not None:
        pq.write_table(reference, folder / REFERENCE)
    return seal(folder, kind=model.kind, config=model.config, **origin)


def require_empty(folder: Path) -> None:
    """Raise BundleError where ``folder`` holds anything."""
    if any(folder.iterdir()):
        raise BundleError(f"folder {folder} is not empty; a bundle is written once")


def seal(
    folder: Path,
    *,
    kind: str,
    config: BaseModel,
    libraries: Collection[str] = LIBRARIES,
    **origin: Unpack[Origin],
) -> Manifest:
    """Write the manifest of the files in ``folder``, whatever they are: the last step of writing a bundle.

    Raises:
        BundleError: a metric is not finite.
    """
    try:
        manifest = Manifest(
            **{**origin, "metrics": dict(origin["metrics"])},
            kind=kind,
            config=config.model_dump(mode="json"),
            libraries={"python": platform.python_version()} | {name: library_version(name) for name in libraries},
            files={path.name: _digest(path) for path in sorted(folder.iterdir())},
        )
    except ValueError as error:
        raise BundleError(f"bundle {origin['name']}@{origin['version']}: {error}") from None
    (folder / MANIFEST).write_text(manifest.model_dump_json(indent=2))
    return manifest


def read_bundle(folder: Path) -> Bundle:
    """Read the bundle of a recommender; its arrays stay on disk, memory-mapped.

    Raises:
        BundleError: a file is missing, altered, unknown or unreadable, its content does not fit, or it is of something
            that recommends nothing.
    """
    with reading(folder):
        manifest = checked_manifest(folder, kinds=MODELS, required=REQUIRED, optional=OPTIONAL)
        return Bundle(
            folder=folder,
            manifest=manifest,
            model=_read_model(folder, manifest),
            popular=Vocabulary(_ids(orjson.loads((folder / POPULAR).read_bytes()))).ids,
            table=ItemTable.from_arrow(_read_table(folder / ITEMS, ITEM_SCHEMA)),
        )


@contextmanager
def reading(folder: Path) -> Iterator[None]:
    """Turn whatever an unfit file raises into a BundleError that names ``folder``."""
    try:
        yield
    except BundleError as error:
        raise BundleError(f"bundle {folder}: {error}") from error
    except (BespokeError, OSError, ValueError, KeyError, TypeError, pa.ArrowException) as error:
        raise BundleError(f"bundle {folder} cannot be read: {error}") from error


def checked_manifest(
    folder: Path,
    *,
    kinds: Collection[str],
    required: frozenset[str],
    optional: frozenset[str] = frozenset({REFERENCE}),
) -> Manifest:
    """Return the manifest of a bundle whose files are those expected, and as they were written.

    Args:
        folder: the bundle.
        kinds: those that are expected.
        required: the files that such a bundle holds.
        optional: those that it may hold.

    Raises:
        BundleError: it is of another kind, or a file is missing, altered, unknown or no plain file.
    """
    manifest = read_manifest(folder)
    if manifest.kind not in kinds:
        raise BundleError(f"it is of kind {shown(manifest.kind)}, expected {' or '.join(kinds)}")
    _check_files(folder, manifest, required=required, optional=optional)
    return manifest


def read_manifest(folder: Path) -> Manifest:
    """Read what a bundle says of itself, without checking that it is true.

    Raises:
        BundleError: there is no manifest, or it is of another format.
    """
    try:
        return Manifest.model_validate_json((folder / MANIFEST).read_bytes())
    except FileNotFoundError:
        raise BundleError(f"no {MANIFEST} in {folder}; a bundle has one") from None
    except ValueError as error:
        raise BundleError(f"{MANIFEST} is not a manifest of format {FORMAT}: {error}") from None


def _read_model(folder: Path, manifest: Manifest) -> Model:
    family = model_of_kind(manifest.kind)
    ids = _read_table(folder / VOCABULARY, VOCABULARY_SCHEMA)
    model = family.from_arrays(
        map_arrays(folder / ARRAYS),
        vocabulary=Vocabulary[ItemId].from_arrow(_ids_of(ids, OF_ITEMS)),
        users=Vocabulary[UserId].from_arrow(_ids_of(ids, OF_USERS)),
        config=family.Config.model_validate(manifest.config),
    )
    if NEAREST in manifest.files:
        model = with_codes(model, map_arrays(folder / NEAREST))
    warm(model)
    return model


def _check_files(folder: Path, manifest: Manifest, *, required: frozenset[str], optional: frozenset[str]) -> None:
    named, found = set(manifest.files), {path.name for path in folder.iterdir()} - {MANIFEST}
    if not required <= named <= required | optional:
        raise BundleError(f"the manifest names the files {shown(sorted(named))}, expected {shown(sorted(required))}")
    if found != named:
        raise BundleError(f"missing files: {sorted(named - found)}, files that do not belong: {sorted(found - named)}")
    for name, expected in manifest.files.items():
        path = folder / name
        if path.is_symlink() or not path.is_file():
            raise BundleError(f"{name} is not a plain file")
        if (digest := _digest(path)) != expected:
            raise BundleError(f"{name} was altered: SHA-256 is {digest}, the manifest says {expected}")


def _vocabulary_table(model: Model) -> pa.Table:
    items, users = model.vocabulary.ids, model.users.ids
    of = pa.concat_arrays([pa.repeat(OF_ITEMS, len(items)), pa.repeat(OF_USERS, len(users))])
    return pa.table([of, pa.array([*items, *users], pa.string())], schema=VOCABULARY_SCHEMA)


def _ids_of(ids: pa.Table, of: str) -> pa.ChunkedArray:
    return ids["id"].filter(pc.equal(ids["of"], of))


def _read_table(path: Path, schema: pa.Schema) -> pa.Table:
    """Read a table of exactly ``schema``, on this thread: a server has other work for the cores."""
    with pq.ParquetFile(path) as file:
        table = file.read(use_threads=False)
    if not table.schema.equals(schema):
        raise BundleError(f"{path.name} has the columns {shown(table.schema.names)}, expected {schema.names}")
    return table


def _ids(values: Any) -> tuple[ItemId, ...]:
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise BundleError(f"got {shown(values)}, expected a list of ids")
    return tuple(values)


def _write_json(path: Path, value: Any) -> None:
    path.write_bytes(orjson.dumps(value))


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
