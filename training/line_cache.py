"""Lines that were read before: what training keeps of the lake, so that the next training reads only what is new.

A folder with an index and parts. The index says which lake files each part holds, with their sizes and times of change.
Where a file is gone or has changed, by compaction or because somebody was erased, everything is read anew.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from uuid import uuid4

import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from storage.durable import make_folder, replacing
from storage.lock import OwnerLock

INDEX = "index.json"
MOST_PARTS = 8
_LOCK_TIMEOUT_S = 600.0

Stamp = list[int]
"""Size in bytes and time of the last change in nanoseconds."""
Read = Callable[[Sequence[Path]], list[pa.Table]]


class LineCache:
    """The lines of lake files, in ``folder``."""

    def __init__(self, folder: Path) -> None:
        """Use ``folder``; it is created by the first reading."""
        self._folder = folder

    def read(self, files: Sequence[Path], read: Read) -> pa.Table:
        """Return the lines of ``files``, of which there is one at least, reading only those that are new.

        Args:
            files: of the lake.
            read: returns the lines of files.

        Raises:
            FileNotFoundError: a file vanished meanwhile.
        """
        make_folder(self._folder)
        with OwnerLock(self._folder / ".lock", timeout_s=_LOCK_TIMEOUT_S):
            now = {str(path): _stamp(path) for path in files}
            parts = self._parts_that_hold(now)
            known = _files_of(parts)
            tables = [pq.read_table(self._folder / name) for name in parts]
            if new := [path for path in files if str(path) not in known]:
                tables += read(new)
                self._keep(tables, parts, {str(path): now[str(path)] for path in new})
            return pa.concat_tables(tables)

    def _parts_that_hold(self, now: dict[str, Stamp]) -> dict[str, dict[str, Stamp]]:
        """Return the parts and their files, or none where a file is no longer as it was."""
        try:
            parts: dict[str, dict[str, Stamp]] = orjson.loads((self._folder / INDEX).read_bytes())
        except (FileNotFoundError, orjson.JSONDecodeError):
            return {}
        same = all(now.get(path) == stamp for path, stamp in _files_of(parts).items())
        return parts if same and all((self._folder / name).exists() for name in parts) else {}

    def _keep(self, tables: list[pa.Table], parts: dict[str, dict[str, Stamp]], new: dict[str, Stamp]) -> None:
        """Write the new tables as a part, or all as one where there are too many parts."""
        merge = len(parts) >= MOST_PARTS
        # A name of its own: until the index names it, a part does not count.
        name = f"lines-{uuid4().hex}.parquet"
        with replacing(self._folder / name) as temporary:
            pq.write_table(pa.concat_tables(tables if merge else tables[len(parts) :]), temporary, compression="zstd")
        held = {name: {**_files_of(parts), **new}} if merge else {**parts, name: new}
        with replacing(self._folder / INDEX) as temporary:
            temporary.write_bytes(orjson.dumps(held))
        for path in self._folder.glob("lines-*.parquet"):
            if path.name not in held:
                path.unlink()


def _files_of(parts: dict[str, dict[str, Stamp]]) -> dict[str, Stamp]:
    return {path: stamp for stamps in parts.values() for path, stamp in stamps.items()}


def _stamp(path: Path) -> Stamp:
    about = path.stat()
    return [about.st_size, about.st_mtime_ns]
