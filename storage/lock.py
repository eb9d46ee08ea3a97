"""One owner at a time: a lock that a file holds, which ends with its process however that ends."""

import fcntl
import os
import socket
import time
from pathlib import Path
from types import TracebackType

from bespoke.errors import Unavailable
from storage.sqlite import reachable

_POLL_S = 0.01


class Held(Unavailable):
    """Another owner holds the lock."""


class OwnerLock:
    """Holds a file for this process: ``with OwnerLock(home / "owner.lock"): ...``.

    The operating system ends it with the process, SIGKILL included, so no stale lock can remain. The file stays and
    names its last owner. A forked child shares the lock: it ends when both have.
    """

    def __init__(self, path: Path, *, timeout_s: float = 0.0) -> None:
        """Prepare the lock.

        Args:
            path: the file; it and its folder are created where they are missing.
            timeout_s: how long to wait for another owner to end.
        """
        self._path = path
        self._timeout_s = timeout_s
        self._file: int | None = None

    def acquire(self) -> None:
        """Take the lock.

        Raises:
            Held: another owner holds it, who is named.
            Unavailable: the file cannot be written.
        """
        if self._file is not None:
            raise Unavailable(f"{self._path}: this lock is held already by this very object; release it first")
        with reachable(self._path):
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
            try:
                self._wait_for(file)
                os.ftruncate(file, 0)
                os.pwrite(file, f"process {os.getpid()} on {socket.gethostname()}".encode(), 0)
            except BaseException:
                os.close(file)
                raise
        self._file = file

    def _wait_for(self, file: int) -> None:
        give_up_at = time.monotonic() + self._timeout_s
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            except BlockingIOError:
                if time.monotonic() >= give_up_at:
                    owner = os.pread(file, 200, 0).decode(errors="replace") or "another process"
                    raise Held(f"{self._path}: held by {owner}; end that one first") from None
                time.sleep(_POLL_S)

    def release(self) -> None:
        """Let go; releasing twice is allowed."""
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def __enter__(self) -> "OwnerLock":
        """Take the lock."""
        self.acquire()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Let go."""
        self.release()
