"""Versions of a model that benchmarks publish: good ones that can be told apart in answers, and bad ones of each sort.

A good version is the first one with slightly other vectors, which calls some popular items by names of its own,
``swap-VERSION/N``: a list that holds such an item of one version under the name of another was mixed.
"""

import hashlib
import os
import shutil
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.serving_load import MARKER
from bespoke.models.als import Als
from bespoke.models.bundle import (
    ARRAYS,
    ITEMS,
    MANIFEST,
    NEAREST,
    VOCABULARY,
    Bundle,
    Manifest,
    read_bundle,
)
from bespoke.models.retrieval import codes_of
from bespoke.models.tensors import LENGTH_BYTES, write_arrays
from storage.bundles import BundleStore

NAME = "als"
NOISE = 0.01
MARKED = slice(5, 405)
"""The items that get other names, by popularity; not the first ones, which golden requests are about."""

Change = Callable[[Path], None]


def publish_good(store: BundleStore, base: Bundle, *, seed: int) -> str:
    """Publish a version like ``base`` with slightly other vectors and items of its own; return NAME@VERSION."""
    ids = [base.model.vocabulary.ids[row] for row in np.argsort(-base.model.popularity_I, kind="stable")[MARKED]]

    def write(folder: Path) -> None:
        _link(base.folder, folder)
        _write_vectors(folder, base, seed=seed)
        names = {str(id): f"{MARKER}{folder.name}/{number}" for number, id in enumerate(ids)}
        for name, column in ((VOCABULARY, "id"), (ITEMS, "item_id")):
            _rename(folder / name, column, names)
        _seal(folder, base.manifest)

    return f"{NAME}@{store.publish(NAME, write, at=datetime.now(UTC))}"


def publish_bad(store: BundleStore, base: Bundle, *, number: int) -> str:
    """Publish a version that must not serve: of each sort in turn; return NAME@VERSION."""
    spoil, seals = BAD[number % len(BAD)]

    def write(folder: Path) -> None:
        shutil.copytree(base.folder, folder, dirs_exist_ok=True)
        if seals:
            spoil(folder)
        _seal(folder, base.manifest)
        if not seals:
            spoil(folder)

    return f"{NAME}@{store.publish(NAME, write, at=datetime.now(UTC))}"


def _write_vectors(folder: Path, base: Bundle, *, seed: int) -> None:
    model = base.model
    assert isinstance(model, Als)
    rng = np.random.default_rng(seed)
    item_ID = model.item_ID * (1 + NOISE * rng.standard_normal(model.item_ID.shape, dtype=np.float32))
    arrays = {**model.arrays(), "item_factors": item_ID}
    changed = Als.from_arrays(arrays, vocabulary=model.vocabulary, users=model.users, config=model.config)
    _replace(folder / ARRAYS, lambda path: write_arrays(path, changed.arrays()))
    if (codes := codes_of(changed)) is not None:
        _replace(folder / NEAREST, lambda path: write_arrays(path, codes.arrays()))


def _rename(path: Path, column: str, names: Mapping[str, str]) -> None:
    table = pq.read_table(path)
    ids = [names.get(id, id) for id in table[column].to_pylist()]
    table = table.set_column(
        table.schema.get_field_index(column), column, pa.array(ids, table.schema.field(column).type)
    )
    _replace(path, lambda target: pq.write_table(table, target))


def _seal(folder: Path, before: Manifest) -> None:
    files = {path.name: digest(path) for path in sorted(folder.iterdir()) if path.name != MANIFEST}
    manifest = before.model_copy(update={"version": folder.name, "files": files, "parent": None})
    _replace(folder / MANIFEST, lambda path: path.write_text(manifest.model_dump_json(indent=2)))


def digest(path: Path) -> str:
    """Return the SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _replace(path: Path, write: Callable[[Path], object]) -> None:
    """Write a file anew, never through a link to another bundle's."""
    path.unlink(missing_ok=True)
    write(path)


def _link(source: Path, folder: Path) -> None:
    for path in source.iterdir():
        os.link(path, folder / path.name)


def _flip_a_byte(folder: Path) -> None:
    path = folder / ARRAYS
    content = bytearray(path.read_bytes())
    content[-100] ^= 0xFF
    path.write_bytes(content)


def _not_a_number(folder: Path) -> None:
    path = folder / ARRAYS
    content = bytearray(path.read_bytes())
    content[-4:] = np.array([np.nan], dtype=np.float32).tobytes()
    path.write_bytes(content)


def _wrong_shape(folder: Path) -> None:
    """Take away the last item from the vocabulary, so that there is a vector too many."""
    table = pq.read_table(folder / VOCABULARY)
    last = max(row for row, of in enumerate(table["of"].to_pylist()) if of == "items")
    kept = table.filter(pa.array([row != last for row in range(table.num_rows)]))
    pq.write_table(kept, folder / VOCABULARY)


def _all_alike(folder: Path) -> None:
    """Write zeros in the place of all numbers, which golden requests find."""
    path = folder / ARRAYS
    content = path.read_bytes()
    start = LENGTH_BYTES + int.from_bytes(content[:LENGTH_BYTES], "little")
    path.write_bytes(content[:start] + bytes(len(content) - start))
    # Codes of other vectors would be found before.
    (folder / NEAREST).unlink(missing_ok=True)


def _raises(folder: Path) -> None:
    """Write what is no table of items, so that reading raises."""
    (folder / ITEMS).write_bytes(orjson.dumps({"no": "table"}))


BAD: tuple[tuple[Change, bool], ...] = (
    (_flip_a_byte, False),
    (_not_a_number, True),
    (_wrong_shape, True),
    (_all_alike, True),
    (_raises, True),
)
"""What is done to a bundle, and whether its manifest is written after that, so that the hashes are right."""


def base_of(store: BundleStore) -> Bundle:
    """Return the first version, which is the one that was trained."""
    return read_bundle(store.path(NAME, store.versions(NAME)[0]))
