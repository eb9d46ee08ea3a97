"""What a bundle keeps, and everything that it refuses."""

import hashlib
import json
import mmap
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from safetensors.numpy import save_file

from bespoke.catalog import Item
from bespoke.errors import BundleError
from bespoke.events import ItemId
from bespoke.models.als import AlsConfig
from bespoke.models.arrays import AnyArray
from bespoke.models.base import Interactions
from bespoke.models.blend import Blend, BlendConfig
from bespoke.models.bundle import Window, checked_manifest, read_bundle, read_manifest, seal, write_bundle
from bespoke.models.history import History
from bespoke.models.nearest import Codes
from bespoke.models.registry import MODELS
from bespoke.models.tensors import map_arrays, write_arrays

DAY = datetime(2026, 1, 31, tzinfo=UTC)
ITEMS = [
    Item(ItemId("i0"), name="Ice", category=("GROCERY", "FRZN ICE"), brand="National", price=1.5),
    Item(ItemId("i1"), available=False, text="cold", rebuy_after_days=7.0),
]
DETAILS: dict[str, Any] = {
    "name": "als",
    "version": "20260131T000000Z-1",
    "window": Window(since=datetime(2026, 1, 1, tzinfo=UTC), until=DAY),
    "fingerprint": "f00d",
    "metrics": {"ndcg@20": 0.25},
    "seed": 0,
    "feature_service": "als",
    "parent": None,
    "git_revision": "abc",
    "created_at": DAY,
    "items": ITEMS,
}


@pytest.fixture
def model(checkerboard: Interactions, at_ms: int) -> Blend:
    return Blend.fit(checkerboard, config=BlendConfig(factors=4), at_ms=at_ms)


@pytest.fixture
def folder(model: Blend, tmp_path: Path) -> Path:
    write_bundle(tmp_path, model, **DETAILS)
    return tmp_path


def rehash(folder: Path, name: str) -> None:
    """Make the manifest agree with an altered file, so that only the content can give it away."""
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["files"][name] = hashlib.sha256((folder / name).read_bytes()).hexdigest()
    (folder / "manifest.json").write_text(json.dumps(manifest))


def test_what_was_written_is_read(folder: Path, model: Blend, history_of: Callable[..., History]) -> None:
    bundle = read_bundle(folder)
    history = history_of("i1", user="u01")
    np.testing.assert_array_equal(bundle.model.scores(history), model.scores(history))
    assert [bundle.table.item(row) for row in range(len(bundle.table))] == ITEMS
    assert bundle.manifest.kind == "blend" and bundle.manifest.metrics == {"ndcg@20": 0.25}
    assert bundle.manifest.window.until == DAY and bundle.manifest == read_manifest(folder)
    assert bundle.popular[0] == "i0" and len(bundle.popular) == 10


@pytest.mark.parametrize("kind", MODELS)
def test_every_kind_of_model_fits_in_a_bundle(
    kind: str, checkerboard: Interactions, at_ms: int, tmp_path: Path, history_of: Callable[..., History]
) -> None:
    model = MODELS[kind].fit(checkerboard, at_ms=at_ms)
    write_bundle(tmp_path, model, **DETAILS)
    read = read_bundle(tmp_path).model
    assert read.kind == kind and read.config == model.config
    np.testing.assert_array_equal(read.scores(history_of("i3")), model.scores(history_of("i3")))


def test_the_reference_is_part_of_the_bundle(model: Blend, tmp_path: Path) -> None:
    reference = pa.table({"recency_days": [1.0, None]})
    write_bundle(tmp_path, model, **DETAILS, reference=reference)
    assert "reference.parquet" in read_bundle(tmp_path).manifest.files
    assert pq.read_table(tmp_path / "reference.parquet").equals(reference)


def test_arrays_stay_in_the_file(folder: Path) -> None:
    for array in map_arrays(folder / "model.safetensors").values():
        base: Any = array
        while isinstance(base, np.ndarray):
            base = base.base
        assert isinstance(base, mmap.mmap) and not array.flags.writeable


@pytest.mark.parametrize("name", ["model.safetensors", "vocabulary.parquet", "popular.json", "items.parquet"])
def test_an_altered_file_is_refused(folder: Path, name: str) -> None:
    content = bytearray((folder / name).read_bytes())
    content[len(content) // 2] ^= 1
    (folder / name).write_bytes(content)
    with pytest.raises(BundleError, match=f"{name} was altered"):
        read_bundle(folder)


@pytest.mark.parametrize("name", ["model.safetensors", "manifest.json", "items.parquet"])
def test_a_missing_file_is_refused(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(BundleError, match=name):
        read_bundle(folder)


@pytest.mark.parametrize("named", [False, True])
def test_a_file_that_does_not_belong_is_refused_even_if_the_manifest_names_it(folder: Path, named: bool) -> None:
    (folder / "model.pkl").write_bytes(b"\x80\x04.")
    if named:
        rehash(folder, "model.pkl")
    with pytest.raises(BundleError, match=r"model\.pkl"):
        read_bundle(folder)


def test_a_link_out_of_the_folder_is_refused(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    outside = tmp_path_factory.mktemp("outside") / "popular.json"
    (folder / "popular.json").rename(outside)
    (folder / "popular.json").symlink_to(outside)
    with pytest.raises(BundleError, match="not a plain file"):
        read_bundle(folder)


@pytest.mark.parametrize(
    ("change", "said"),
    [({"format": 2}, "format"), ({"kind": "oracle"}, "oracle"), ({"colour": "green"}, "colour")],
)
def test_a_manifest_of_another_kind_is_refused(folder: Path, change: dict[str, Any], said: str) -> None:
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps(manifest | change))
    with pytest.raises(BundleError, match=said):
        read_bundle(folder)


def _with(name: str, change: Callable[[AnyArray], AnyArray]) -> Callable[[dict[str, AnyArray]], dict[str, AnyArray]]:
    return lambda arrays: {**arrays, name: change(arrays[name])}


@pytest.mark.parametrize(
    "alter",
    [
        _with("item_factors", lambda array: np.full_like(array, np.nan)),
        _with("item_factors", lambda array: array[:-1].copy()),
        _with("popularity", lambda array: array.astype(np.float64)),
        lambda arrays: {**arrays, "more": np.zeros(1, dtype=np.float32)},
        lambda arrays: {name: array for name, array in arrays.items() if name != "source_weights"},
    ],
    ids=["nan", "shape", "type", "one too many", "one too few"],
)
def test_arrays_that_cannot_be_served_are_refused(
    folder: Path, model: Blend, alter: Callable[[dict[str, AnyArray]], dict[str, AnyArray]]
) -> None:
    save_file(alter(model.arrays()), str(folder / "model.safetensors"))
    rehash(folder, "model.safetensors")
    with pytest.raises(BundleError):
        read_bundle(folder)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff" * 16,
        (9).to_bytes(8, "little") + b"not json!",
        (2).to_bytes(8, "little") + b"[]",
        b'\x3a\0\0\0\0\0\0\0{"a":{"dtype":"F32","shape":[9],"data_offsets":[0,36]}}   ' + bytes(8),
        b'\x3a\0\0\0\0\0\0\0{"a":{"dtype":"F32","shape":[-1],"data_offsets":[8,4]}}   ' + bytes(8),
    ],
)
def test_a_file_that_is_no_safetensors_file_is_refused(folder: Path, content: bytes) -> None:
    (folder / "model.safetensors").write_bytes(content)
    rehash(folder, "model.safetensors")
    with pytest.raises(BundleError):
        read_bundle(folder)


@pytest.mark.parametrize("popular", ['["i0", "i0"]', "[1]", "{}", "["])
def test_a_popular_list_that_is_no_list_of_ids_is_refused(folder: Path, popular: str) -> None:
    (folder / "popular.json").write_text(popular)
    rehash(folder, "popular.json")
    with pytest.raises(BundleError):
        read_bundle(folder)


@pytest.mark.parametrize(
    "ids",
    [
        pa.table({"of": ["items"] * 2, "id": ["i0", "i0"]}),
        pa.table({"of": ["items"] * 2, "id": ["i0", None]}),
        pa.table({"of": ["items"], "id": [1]}),
        pa.table({"id": ["i0"]}),
    ],
    ids=["twice", "missing", "number", "column"],
)
def test_a_vocabulary_that_does_not_fit_is_refused(folder: Path, ids: pa.Table) -> None:
    pq.write_table(ids, folder / "vocabulary.parquet")
    rehash(folder, "vocabulary.parquet")
    with pytest.raises(BundleError):
        read_bundle(folder)


def test_codes_of_other_vectors_are_refused(folder: Path, model: Blend) -> None:
    codes = Codes.of(model.als.item_ID[::-1].copy())
    write_arrays(folder / "nearest.safetensors", codes.arrays())
    rehash(folder, "nearest.safetensors")
    with pytest.raises(BundleError, match="of other vectors"):
        read_bundle(folder)


def test_what_searches_look_at_stays_in_the_file(folder: Path) -> None:
    model = read_bundle(folder).model
    assert isinstance(model, Blend)
    for array in (model.nearest.codes.code_IW, model.nearest.vector_ID, model.als.user_UD):
        assert not array.flags.owndata and not array.flags.writeable


def test_a_model_that_did_not_train_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="NaN"):
        write_arrays(tmp_path / "arrays", {"a": np.array([np.nan], dtype=np.float32)})
    assert not list(tmp_path.iterdir())


def test_metrics_that_are_no_numbers_are_not_written(model: Blend, tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="ndcg"):
        write_bundle(tmp_path, model, **(DETAILS | {"metrics": {"ndcg@20": float("nan")}}))


def test_a_bundle_is_written_once(folder: Path, model: Blend) -> None:
    with pytest.raises(BundleError, match="not empty"):
        write_bundle(folder, model, **DETAILS)


def test_the_config_comes_back_typed(folder: Path) -> None:
    config = read_bundle(folder).model.config
    assert isinstance(config, AlsConfig) and config.factors == 4


def test_whatever_is_sealed_is_checked_by_the_same_rules(tmp_path: Path) -> None:
    (tmp_path / "rule.txt").write_text("if")
    origin = {name: value for name, value in DETAILS.items() if name != "items"}
    sealed = seal(tmp_path, kind="rule", config=AlsConfig(), libraries=(), **origin)
    wanted: dict[str, Any] = {"kinds": ("rule",), "required": frozenset({"rule.txt"})}
    assert checked_manifest(tmp_path, **wanted) == sealed
    with pytest.raises(BundleError, match="of kind 'rule', expected popularity or"):
        read_bundle(tmp_path)
    with pytest.raises(BundleError, match=r"names the files \['rule.txt'\]"):
        checked_manifest(tmp_path, kinds=("rule",), required=frozenset({"other.txt"}))
    (tmp_path / "rule.txt").write_text("of")
    with pytest.raises(BundleError, match=r"rule\.txt was altered"):
        checked_manifest(tmp_path, **wanted)
