"""How long the best 100 of 100,000 and of 1,000,000 items take, d = 64, one thread, and what two replicas share.

Items and queries are of three kinds, and each figure is that of the worst: ``spherical`` (no structure that a search
could use), ``clustered`` (200 groups, near ties within each) and ``trained`` (a few directions hold most, lengths fall
off as popularity does, products rather than cosines). Vectors and codes are read as serving does, mapped from files.
Recall is against products in float64. ``matvec_ms`` calibrates: one float32 product of 100,000 x 64 with a vector.

``bundle_pss_ratio``: two processes read the same bundles (als and two_tower, 100,000 items and people, d = 64) and
touch every array; the proportional set size of the mapped bundle files, summed over both, against one process alone.
``private_mb`` is the memory of one process that is in no file, ``private_of_bundles_mb`` what of it came with them.
"""

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from threadpoolctl import threadpool_limits

from benchmarks.harness import Figures, main
from bespoke.catalog import Item
from bespoke.events import ItemId, UserId
from bespoke.models.als import Als, AlsConfig
from bespoke.models.als_epochs import in_own_basis
from bespoke.models.arrays import FloatArray
from bespoke.models.base import Model
from bespoke.models.bundle import Window, write_bundle
from bespoke.models.nearest import Codes, NearestItems
from bespoke.models.tensors import map_arrays, write_arrays
from bespoke.models.two_tower import TwoTower
from bespoke.models.two_tower_config import TwoTowerConfig
from bespoke.models.two_tower_tables import Sizes
from bespoke.vocabulary import Vocabulary

SIZES = {"100k": 100_000, "1m": 1_000_000}
D, K, QUERIES, CHECKED, WARM_UP = 64, 100, 300, 30, 20
ITEMS = PEOPLE = 100_000
DAY = datetime(2026, 1, 31, tzinfo=UTC)
Drawn = tuple[FloatArray, FloatArray]


def run() -> Figures:
    """Measure search, then memory."""
    figures: dict[str, float] = {}
    with threadpool_limits(1), tempfile.TemporaryDirectory() as folder:
        for name, rows in SIZES.items():
            of_kind = [_search(draw, rows, Path(folder)) for draw in (spherical, clustered, trained)]
            for figure, worst in (("p50_ms", max), ("p99_ms", max), ("recall", min), ("build_s", max)):
                figures[f"{figure}@{name}"] = worst(one[figure] for one in of_kind)
            figures[f"bytes_per_item@{name}"] = of_kind[0]["bytes_per_item"]
        figures["matvec_ms"] = _matvec_ms()
    return {**figures, **_memory()}


def spherical(random: np.random.Generator, rows: int) -> Drawn:
    """Draw vectors without any structure."""
    item_ID, query_QD = (random.standard_normal((count, D), dtype=np.float32) for count in (rows, QUERIES))
    return item_ID, query_QD


def clustered(random: np.random.Generator, rows: int) -> Drawn:
    """Draw groups around 200 centres."""
    centre_GD = random.standard_normal((200, D), dtype=np.float32)
    item_ID, query_QD = spherical(random, rows)
    for vector_ND in (item_ID, query_QD):
        vector_ND *= np.float32(0.3)
        vector_ND += centre_GD[random.integers(len(centre_GD), size=len(vector_ND))]
    return item_ID, query_QD


def trained(random: np.random.Generator, rows: int) -> Drawn:
    """Draw what factors look like: uneven directions, and lengths that fall off with the rank in popularity."""
    item_ID, query_QD = spherical(random, rows)
    uneven_D = np.exp(-np.arange(D, dtype=np.float32) / 12)
    item_ID *= uneven_D * ((1.0 + random.permutation(rows)) ** -0.35).astype(np.float32)[:, None]
    return item_ID, query_QD * uneven_D


def _search(draw: Callable[[np.random.Generator, int], Drawn], rows: int, folder: Path) -> Figures:
    vector_ID, query_QD = draw(np.random.default_rng(rows), rows)
    started = time.perf_counter()
    codes = Codes.of(vector_ID)
    build_s = time.perf_counter() - started
    files = {"vectors": {"vector": vector_ID}, "codes": codes.arrays()}
    for name, arrays in files.items():
        write_arrays(folder / name, arrays)
    vector_ID = map_arrays(folder / "vectors")["vector"]
    codes = Codes.from_arrays(map_arrays(folder / "codes"), vector_ID=vector_ID)
    nearest = NearestItems(vector_ID, codes=codes)
    times_s, hits = [], 0
    for number, query_D in enumerate((*query_QD[:WARM_UP], *query_QD), start=-WARM_UP):
        started = time.perf_counter()
        found = nearest.search(query_D, k=K)
        if number >= 0:
            times_s.append(time.perf_counter() - started)
        if 0 <= number < CHECKED:
            product_I = vector_ID @ query_D.astype(np.float64)
            hits += len(set(found.row_K.tolist()) & set(np.argpartition(-product_I, K)[:K].tolist()))
    p50, p99 = np.percentile(times_s, (50, 99)) * 1_000
    bytes_per_item = sum(array.nbytes for array in codes.arrays().values()) / rows
    return {
        "p50_ms": float(p50),
        "p99_ms": float(p99),
        "recall": hits / (K * CHECKED),
        "build_s": build_s,
        "bytes_per_item": bytes_per_item,
    }


def _matvec_ms() -> float:
    random, times_s = np.random.default_rng(0), []
    vector_ID, query_D = random.random((100_000, D), dtype=np.float32), random.random(D, dtype=np.float32)
    for _ in range(50):
        started = time.perf_counter()
        vector_ID @ query_D
        times_s.append(time.perf_counter() - started)
    return float(np.median(times_s)) * 1_000


def _memory() -> Figures:
    with tempfile.TemporaryDirectory() as home:
        folders = [_written(Path(home) / model.kind, model) for model in _models()]
        with ExitStack() as stack:
            one = stack.enter_context(_reader(folders))
            alone_mb = _mapped_mb(one.process.pid, Path(home))
            private_mb = _private_mb(one.process.pid)
            two = stack.enter_context(_reader(folders))
            both_mb = sum(_mapped_mb(reader.process.pid, Path(home)) for reader in (one, two))
    return {
        "bundle_pss_ratio": both_mb / alone_mb,
        "bundle_mapped_mb": alone_mb,
        "private_mb": private_mb,
        "private_of_bundles_mb": private_mb - one.before_mb,
    }


def _models() -> Iterator[Model]:
    random = np.random.default_rng(0)
    items = Vocabulary([ItemId(f"item-{row:06}") for row in range(ITEMS)])
    users = Vocabulary([UserId(f"person-{row:06}") for row in range(PEOPLE)])
    popularity_I = random.random(ITEMS, dtype=np.float32)
    user_UD, item_ID = in_own_basis(*(random.standard_normal((rows, D), dtype=np.float32) for rows in (PEOPLE, ITEMS)))
    config = AlsConfig(factors=D)
    yield Als(user_UD, item_ID, popularity_I, np.ones_like(popularity_I), users=users, vocabulary=items, config=config)
    shapes = {**Sizes(users, items, 0, D).shapes, "item_vectors": (ITEMS, D)}
    tables = {name: random.standard_normal(shape, dtype=np.float32) for name, shape in shapes.items()}
    tables["popularity"] = popularity_I
    yield TwoTower(tables, users=users, vocabulary=items, config=TwoTowerConfig(factors=D))


def _written(folder: Path, model: Model) -> Path:
    folder.mkdir()
    names = [f"product {row % 5_000}" for row in range(ITEMS)]
    items = [
        Item(item_id, name, (f"department {row % 30}", f"category {row % 300}"), f"brand {row % 1_000}", row % 97 / 4)
        for row, (item_id, name) in enumerate(zip(model.vocabulary.ids, names, strict=True))
    ]
    write_bundle(
        folder,
        model,
        items=items,
        name=model.kind,
        version="1",
        window=Window(since=DAY, until=DAY),
        fingerprint="none",
        metrics={},
        seed=0,
        feature_service=None,
        parent=None,
        git_revision=None,
        created_at=DAY,
    )
    return folder


class _Reader:
    """A process that holds bundles."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self.process = process
        self._wait_for("ready to read")
        self.before_mb = _private_mb(process.pid)
        self._go_on()
        self._wait_for("read")

    def _wait_for(self, said: str) -> None:
        assert self.process.stdout is not None
        line = self.process.stdout.readline().strip()
        assert line == said, f"the reader said {line!r}, expected {said!r}"

    def _go_on(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()


@contextmanager
def _reader(folders: list[Path]) -> Iterator[_Reader]:
    command = [sys.executable, "-m", "benchmarks.topk_reader", *map(str, folders)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield _Reader(process)
        finally:
            process.kill()


def _mapped_mb(pid: int, home: Path) -> float:
    """Return the proportional set size of the files under ``home`` that a process has mapped."""
    total_kb, inside = 0, False
    for line in Path(f"/proc/{pid}/smaps").read_text().splitlines():
        name, *rest = line.split()
        if not name.endswith(":"):
            inside = line.endswith(".safetensors") and str(home) in line
        elif inside and name == "Pss:":
            total_kb += int(rest[0])
    return total_kb / 1024


def _private_mb(pid: int) -> float:
    """Return the memory in no file: pages of files count as private while nobody else maps them."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("Anonymous:")) / 1024


if __name__ == "__main__":
    main("topk", run, runs=3, about=(__doc__ or "").strip())
