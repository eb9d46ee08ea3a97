"""The bundle store: published model versions, one folder each, whole or absent."""

import os
import re
import shutil
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

from bespoke.clock import utc
from bespoke.errors import BundleError, ConfigError, NotFound
from storage.durable import make_folder, sync, sync_tree
from storage.lock import OwnerLock
from storage.sqlite import reachable

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")
_VERSION = re.compile(r"(\d{8}T\d{6}Z)-(\d+)")
_PUBLISHING = ".publishing"
_LOCK_TIMEOUT_S = 600.0


class BundleStore:
    """Versions of named models under one folder: ``ROOT/NAME/VERSION/``."""

    def __init__(self, root: Path) -> None:
        """Use the folder ``root``; it is created by the first publication."""
        self._root = root

    def publish(self, name: str, write: Callable[[Path], None], *, at: datetime) -> str:
        """Publish a new version; readers see it whole or not at all.

        Args:
            name: of the model, such as ``als``.
            write: fills the folder that it is given. That folder's own name is the version, so that what is written
                can state it.
            at: when it is published; part of the version.

        Returns:
            The version, such as ``20261123T061500Z-1``: the time, and a number that tells apart those of one second.

        Raises:
            ConfigError: the name cannot name a folder.
            BundleError: ``write`` left the folder empty.
            Unavailable: the folder cannot be written, or another publication of this name does not end.
        """
        home = self._home(name)
        with OwnerLock(home / ".lock", timeout_s=_LOCK_TIMEOUT_S):
            folder = home / _PUBLISHING / self._next_version(name, at)
            try:
                _make_empty(folder)
                write(folder)
                _reveal(folder, home / folder.name)
            finally:
                shutil.rmtree(folder.parent, ignore_errors=True)
        return folder.name

    def _next_version(self, name: str, at: datetime) -> str:
        second = utc(at).strftime("%Y%m%dT%H%M%SZ")
        numbers = [number for found, number in map(_order, self.versions(name)) if found == second]
        return f"{second}-{max(numbers, default=0) + 1}"

    def path(self, name: str, version: str) -> Path:
        """Return the folder of a published version.

        Raises:
            NotFound: there is no such version; the message says which there are.
        """
        versions = self.versions(name)
        if version not in versions:
            known = ", ".join(versions[-5:]) or "none; train and publish one first"
            raise NotFound(f"bundle {name}@{version}: no such version; the latest are: {known}")
        return self._home(name) / version

    def versions(self, name: str) -> list[str]:
        """Return the published versions of ``name``, oldest first."""
        home = self._home(name)
        found = [path.name for path in home.iterdir()] if home.is_dir() else []
        return sorted(filter(_VERSION.fullmatch, found), key=_order)

    def names(self) -> list[str]:
        """Return the names that have a published version, sorted."""
        found = [path.name for path in self._root.iterdir()] if self._root.is_dir() else []
        return sorted(name for name in found if _NAME.fullmatch(name) and self.versions(name))

    def _home(self, name: str) -> Path:
        if not _NAME.fullmatch(name):
            raise ConfigError(f"bundle name: got {name!r}, expected letters, digits, '_', '.' and '-', at most 100")
        return self._root / name


def _make_empty(folder: Path) -> None:
    with reachable(folder):
        # Whatever is there was left by a killed publisher: the lock lets in one at a time.
        shutil.rmtree(folder.parent, ignore_errors=True)
        make_folder(folder)


def _reveal(folder: Path, published: Path) -> None:
    if not any(folder.iterdir()):
        raise BundleError(f"bundle {published}: nothing was written; write at least one file")
    with reachable(published):
        sync_tree(folder)
        os.rename(folder, published)
        sync(published.parent)


def _order(version: str) -> tuple[str, int]:
    second, _, number = version.rpartition("-")
    return second, int(number)
