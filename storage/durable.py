"""Files that are whole or absent: written under a temporary name in the same folder, synced, then renamed."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

TEMPORARY_SUFFIX = ".tmp"


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path to write; on success it takes the place of ``path``, synced; on an exception it is gone.

    Its name starts with a dot and ends with ``.tmp``: Arrow and Spark readers pass such files by, and after a crash a
    leftover is known for what it is.
    """
    make_folder(path.parent)
    temporary = path.with_name(f".{path.name}.{uuid4().hex[:8]}{TEMPORARY_SUFFIX}")
    try:
        yield temporary
        sync(temporary)
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync(path.parent)


def sync(path: Path) -> None:
    """Put a file's content, or a folder's entries, on disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sync_tree(folder: Path) -> None:
    """Put everything below ``folder`` on disk."""
    for path in [*folder.rglob("*"), folder]:
        sync(path)


def make_folder(folder: Path) -> None:
    """Create a folder and those above it, on disk before this returns."""
    if folder.is_dir():
        return
    make_folder(folder.parent)
    folder.mkdir(mode=0o700, exist_ok=True)
    sync(folder.parent)
