"""Batches from file to file: people from Parquet or CSV, lists made by Ray Data, a folder that is whole or absent."""

import logging
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import asdict, dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any, Literal
from uuid import uuid4

import orjson
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq

from bespoke.errors import ConfigError, shown
from bespoke.events import ANONYMOUS
from bespoke.experiments import CHAMPION
from bespoke.parsing import MAX_ID_CHARS
from bespoke.recommend import DEFAULT
from serving.batch import LISTS, BatchPlan, BatchRecommender, plan_batch
from storage.durable import make_folder, sync, sync_tree
from storage.lake import Lake
from storage.lock import OwnerLock
from storage.settings import Settings

COLUMN = "user_id"
PEOPLE_PER_BLOCK = 1_000
ROWS_PER_FILE = 1_000_000
REJECTED = pa.schema([("row", pa.int64()), ("user_id", pa.string()), ("reason", pa.string())])
REJECTED_FILE = "_rejected.parquet"
"""Readers of Parquet folders pass by what begins with an underscore."""
ABOUT_FILE = "_about.json"

Source = Literal["online", "lake"]


@dataclass(frozen=True, slots=True)
class BatchRequest:
    """Whose lists to make, and where to put them."""

    users: Path
    """Parquet or CSV with a column ``user_id``, or a folder of Parquet files."""
    out: Path
    """A folder that does not exist yet."""
    num_results: int = 20
    model: str = CHAMPION
    """A pointer or a ``name@version``."""
    pipeline: str = DEFAULT
    states: Source = "online"
    """Where people's states come from."""
    workers: int | None = None
    """How many processes make lists; half of Ray's CPUs where None."""


@dataclass(frozen=True, slots=True)
class BatchDone:
    """What a batch did."""

    out: Path
    people: int
    """Who got a list."""
    rows: int
    rejected: int
    model_version: str
    pipeline: str
    catalog_version: int
    at: datetime
    seconds: float


OnProgress = Callable[[int, int], None]
"""People done, people in all."""


def recommend_to_folder(
    request: BatchRequest,
    settings: Settings,
    *,
    at: datetime,
    session: Callable[[], AbstractContextManager[None]] = nullcontext,
    on_progress: OnProgress = lambda done, total: None,
) -> BatchDone:
    """Make the lists of everybody in a file; ``out`` is there at the end and whole, or not at all.

    People whose rows are bad are kept apart in ``_rejected.parquet``, each with the reason.

    Args:
        request: whose lists.
        settings: the installation.
        at: the time that they are made for.
        session: gives Ray for as long as it takes; entered once file, model and pipeline are found good.
        on_progress: told how many people are done.

    Raises:
        ConfigError: the file cannot be read or lacks the column, or ``out`` is there already.
        NotFound: there is no such model or pipeline.
        Unavailable: a store cannot be reached.
    """
    started = time.perf_counter()
    if request.out.exists() and (not request.out.is_dir() or any(request.out.iterdir())):
        raise ConfigError(f"{request.out}: it is there already; name a folder that is not")
    people, rejected = read_people(request.users)
    plan = plan_batch(settings, model=request.model, pipeline=request.pipeline, num_results=request.num_results, at=at)
    with session(), _becoming(request.out) as folder:
        lists = _Lists(folder, rejected)
        for answers in _answered(request, settings, plan, people):
            lists.write(answers)
            on_progress(lists.people + lists.refused, people.num_rows)
        done = BatchDone(
            out=request.out,
            people=lists.people,
            rows=lists.rows,
            rejected=lists.close(),
            model_version=plan.model_version,
            pipeline=plan.pipeline,
            catalog_version=plan.overlay.seq,
            at=at,
            seconds=round(time.perf_counter() - started, 3),
        )
        (folder / ABOUT_FILE).write_bytes(orjson.dumps({**asdict(done), "out": str(done.out)}))
    return done


def read_people(path: Path) -> tuple[pa.Table, pa.Table]:
    """Return the people of a file, columns ``row`` and ``user_id``, and the rows that name none, of schema REJECTED.

    Raises:
        ConfigError: the file cannot be read, or lacks the column.
    """
    column = _read_column(path)
    table = pa.table({"row": pa.array(range(len(column)), pa.int64()), COLUMN: column})
    reasons, seen = [], set[str]()
    for user_id in column.to_pylist():
        reason = _refused(user_id) or ("it comes twice; the first one counts" if user_id in seen else None)
        reasons.append(reason)
        seen.add(user_id or "")
    table = table.append_column("reason", pa.array(reasons, pa.string()))
    bad = pc.is_valid(table["reason"])
    return table.filter(pc.invert(bad)).drop_columns("reason"), table.filter(bad).cast(REJECTED)


def _read_column(path: Path) -> pa.ChunkedArray:
    if not path.exists():
        raise ConfigError(f"no file at {path}")
    try:
        if path.is_dir() or path.suffix == ".parquet":
            names = pq.ParquetDataset(path).schema.names
            table = pq.read_table(path, columns=[COLUMN]) if COLUMN in names else None
        else:
            convert = pa.csv.ConvertOptions(column_types={COLUMN: pa.string()}, strings_can_be_null=True)
            table = pa.csv.read_csv(path, convert_options=convert)
            names = table.column_names
    except (pa.ArrowException, OSError, UnicodeError) as error:
        raise ConfigError(f"{path} cannot be read as Parquet or CSV: {shown(str(error), limit=300)}") from error
    if table is None or COLUMN not in names:
        raise ConfigError(f"{path} has no column {COLUMN}; it has: {', '.join(names)[:500]}")
    return pc.cast(table[COLUMN], pa.string())


def _refused(user_id: str | None) -> str | None:
    own = (user_id or "").removeprefix(ANONYMOUS)
    if not own.strip():
        return "no id"
    if len(own) > MAX_ID_CHARS:
        return f"an id has at most {MAX_ID_CHARS} characters"
    return None if own.isprintable() else "an id is printable"


def _answered(request: BatchRequest, settings: Settings, plan: BatchPlan, people: pa.Table) -> Iterator[pa.Table]:
    """Yield the answers of everybody, in the order of the file, block by block as they are ready."""
    import ray
    import ray.data

    if not people.num_rows:
        return
    # Its own words stand between ours otherwise; importing it has set them louder.
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    states = ray.put(Lake(settings.lake_dir).latest_states()) if request.states == "lake" else None
    blocks = [people.slice(start, PEOPLE_PER_BLOCK) for start in range(0, people.num_rows, PEOPLE_PER_BLOCK)]
    wanted = request.workers or max(int(_cpus()) // 2, 1)
    given = _Given(uuid4().hex, settings.absolute(), ray.put(plan), states)
    dataset = ray.data.from_arrow(blocks)
    dataset.context.execution_options.preserve_order = True
    answers = dataset.map_batches(
        partial(_answer, given=given),
        batch_size=PEOPLE_PER_BLOCK,
        batch_format="pyarrow",
        concurrency=min(wanted, len(blocks)),
        num_cpus=1,
    )
    yield from answers.iter_batches(batch_size=None, batch_format="pyarrow")


def _cpus() -> float:
    import ray

    resources: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
    return resources.get("CPU", 2.0)


@dataclass(frozen=True, slots=True)
class _Given:
    """What every process of a batch is given."""

    key: str
    """Tells batches apart."""
    settings: Settings
    """As the command had them: a cluster's processes have another environment."""
    plan: Any
    """A reference to the plan."""
    states: Any
    """A reference to the lake's states, or None."""


_held: dict[str, BatchRecommender] = {}
"""The recommender of the batch that this process works for; a process of Ray does one task after the other."""


def _answer(people: pa.Table, *, given: _Given) -> pa.Table:
    """Answer a block of people in a process of Ray."""
    import ray

    if given.key not in _held:
        _held.clear()
        states = None if given.states is None else ray.get(given.states)
        _held[given.key] = BatchRecommender.of(given.settings, ray.get(given.plan), states=states)
    return _held[given.key](people)


class _Lists:
    """Writes lists into numbered files, and rejected rows into their own."""

    def __init__(self, folder: Path, rejected: pa.Table) -> None:
        self._folder, self._rejected = folder, [rejected]
        self._writer: pq.ParquetWriter | None = None
        self._files = self._in_file = 0
        self.rows = self.people = self.refused = 0

    def write(self, answers: pa.Table) -> None:
        """Add the answers of some people."""
        is_list = pc.is_null(answers["reason"])
        lists, refused = answers.filter(is_list).select(LISTS.names), answers.filter(pc.invert(is_list))
        self._rejected.append(refused.select(REJECTED.names).cast(REJECTED))
        self.refused += refused.num_rows
        self.people += pc.sum(pc.equal(lists["position"], 1)).as_py() or 0
        self.rows += lists.num_rows
        if self._writer is None or self._in_file >= ROWS_PER_FILE:
            self._next_file()
        assert self._writer is not None
        self._writer.write_table(lists.cast(LISTS))
        self._in_file += lists.num_rows

    def close(self) -> int:
        """End the files; return how many rows were rejected."""
        if self._writer is None:
            self._next_file()
        assert self._writer is not None
        self._writer.close()
        rejected = pa.concat_tables(self._rejected).sort_by("row")
        if rejected.num_rows:
            pq.write_table(rejected, self._folder / REJECTED_FILE)
        return int(rejected.num_rows)

    def _next_file(self) -> None:
        if self._writer is not None:
            self._writer.close()
        path = self._folder / f"part-{self._files:05d}.parquet"
        self._writer = pq.ParquetWriter(path, LISTS, compression="zstd")
        self._files, self._in_file = self._files + 1, 0


@contextmanager
def _becoming(out: Path) -> Iterator[Path]:
    """Yield a folder that takes the place of ``out`` when all went well; what a killed command left is cleared away."""
    out = out.resolve()
    make_folder(out.parent)
    half = out.with_name(f".{out.name}.partial")
    with OwnerLock(out.with_name(f".{out.name}.lock")):
        shutil.rmtree(half, ignore_errors=True)
        make_folder(half)
        try:
            yield half
            sync_tree(half)
            if out.is_dir():
                out.rmdir()
            os.rename(half, out)
            sync(out.parent)
        finally:
            shutil.rmtree(half, ignore_errors=True)
            out.with_name(f".{out.name}.lock").unlink(missing_ok=True)
