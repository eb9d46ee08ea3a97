"""The profile store in PostgreSQL keeps the contract, and comes back by itself after a restart of the server."""

import threading
from collections.abc import Iterator

import psycopg
import pytest

from bespoke.errors import ConfigError, Unavailable
from storage.profiles import ProfileStore
from storage.sql import Superseded
from tests.contracts.profiles import ProfileStoreContract, batch, stored
from tests.support.servers import PASSWORD, free_port, fresh_schema, own_postgres, postgres_url


class TestPostgresProfileStore(ProfileStoreContract):
    """The store for several machines."""

    @pytest.fixture
    def url(self, postgres_server: str) -> Iterator[str]:
        with fresh_schema(postgres_server) as url:
            yield url


@pytest.fixture
def url(postgres_server: str) -> Iterator[str]:
    with fresh_schema(postgres_server) as url:
        yield url


def plain(url: str) -> str:
    """Return an SQLAlchemy address as the driver takes it."""
    return url.replace("+psycopg", "")


def test_of_two_that_commit_the_same_offsets_one_is_superseded(url: str) -> None:
    stores, outcomes = [ProfileStore(url) for _ in range(2)], []
    together = threading.Barrier(2)

    def commit(store: ProfileStore) -> None:
        together.wait()
        try:
            store.commit(batch(0, 3, stored("u1", 3)))
            outcomes.append("stored")
        except Superseded:
            outcomes.append("superseded")

    threads = [threading.Thread(target=commit, args=(store,)) for store in stores]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["stored", "superseded"]
    assert stores[0].states_pending(0) == (1, 0, 3)
    for store in stores:
        store.close()


def test_a_lock_held_past_the_timeout_stores_nothing(url: str) -> None:
    store = ProfileStore(url, busy_timeout_s=0.05)
    store.commit(batch(0, 1, stored("u1", 1)))
    with psycopg.connect(plain(url)) as other:
        other.execute("LOCK TABLE partitions")
        with pytest.raises(Unavailable, match="lock timeout; another transaction has held"):
            store.commit(batch(1, 2, stored("u1", 2)))
        other.rollback()
    assert store.committed(0) == 1
    store.commit(batch(1, 2, stored("u1", 2)))
    store.close()


def test_a_connection_that_was_cut_is_replaced_without_an_error(url: str) -> None:
    store = ProfileStore(url)
    store.commit(batch(0, 1, stored("u1", 1)))
    with psycopg.connect(plain(url), autocommit=True) as other:
        other.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE pid <> pg_backend_pid() AND backend_type = 'client backend'"
        )
    assert store.committed(0) == 1
    store.close()


def test_a_server_that_is_down_is_unavailable_until_it_is_back() -> None:
    with own_postgres() as server:
        store = ProfileStore(postgres_url(server), busy_timeout_s=2)
        store.commit(batch(0, 1, stored("u1", 1)))
        server.stop()
        for call in (lambda: store.committed(0), lambda: store.commit(batch(1, 2, stored("u1", 2)))):
            with pytest.raises(
                Unavailable, match=rf"{server.address}/postgres: .*; check that the server runs"
            ) as down:
                call()
            assert PASSWORD not in str(down.value)
        server.start()
        assert store.committed(0) == 1
        store.commit(batch(1, 2, stored("u1", 2)))
        assert store.committed(0) == 2
        store.close()


def test_a_transaction_whose_connection_breaks_is_unavailable(url: str) -> None:
    store = ProfileStore(url)
    with (
        psycopg.connect(plain(url)) as blocking,
        psycopg.connect(plain(url), autocommit=True) as ending,
        pytest.raises(Unavailable, match="terminating connection"),
    ):
        blocking.execute("LOCK TABLE partitions")
        ender = threading.Thread(target=_end_who_waits, args=(ending,))
        ender.start()
        try:
            store.commit(batch(0, 1, stored("u1", 1)))
        finally:
            ender.join()
    assert store.committed(0) == 0
    store.close()


def _end_who_waits(connection: "psycopg.Connection[tuple[object, ...]]") -> None:
    ended: object = None
    while ended is None:
        ended = connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
        ).fetchone()


def test_a_wrong_password_is_unavailable_and_shows_no_password(postgres_server: str) -> None:
    with pytest.raises(Unavailable, match="password authentication failed") as refused:
        ProfileStore(postgres_server.replace(PASSWORD, "geheim"))
    assert "geheim" not in str(refused.value)


def test_nobody_listening_is_unavailable() -> None:
    with pytest.raises(Unavailable, match=r"127\.0\.0\.1:\d+/db: .*check that the server runs") as refused:
        ProfileStore(f"postgresql+psycopg://ada:geheim@127.0.0.1:{free_port()}/db?sslpassword=geheim")
    assert "geheim" not in str(refused.value)


@pytest.mark.parametrize("url", ["mysql://ada:geheim@host/db", "postgresql+psycopg://ada:geheim@host:port/db"])
def test_an_address_that_cannot_be_read_is_refused_without_its_password(url: str) -> None:
    with pytest.raises(ConfigError, match="expected sqlite:///PATH or postgresql") as refused:
        ProfileStore(url)
    assert "geheim" not in str(refused.value)


def test_push_marks_are_not_synced_and_commits_are(url: str) -> None:
    store = ProfileStore(url)
    from storage.sql import writing

    settings = []
    for durable in (True, False, True):
        with writing(store._engine, durable=durable) as connection:
            settings.append(connection.exec_driver_sql("SHOW synchronous_commit").scalar_one())
    assert settings == ["on", "off", "on"]
    store.close()
