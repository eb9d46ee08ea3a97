"""Connections to stores with TLS: encrypted, and only to a server that a trusted certificate stands for."""

from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
import redis

from bespoke.errors import ConfigError, Unavailable
from storage.control import ControlStore
from storage.features.address import RedisAddress, parse_address
from tests.support.certificates import Certificate, make_certificate
from tests.support.servers import PASSWORD, own_postgres, postgres_url, running_redis


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    """Return the servers' certificate."""
    return make_certificate(tmp_path_factory.mktemp("tls"))


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    """Return a certificate of somebody else."""
    return make_certificate(tmp_path_factory.mktemp("stranger"))


@pytest.fixture(scope="module")
def redis_with_tls(certificate: Certificate) -> Iterator[str]:
    """Return ``host:port`` of a Redis that speaks TLS only."""
    with running_redis(certificate) as server:
        yield server.address


@pytest.fixture(scope="module")
def postgres_with_tls(certificate: Certificate) -> Iterator[str]:
    """Return the address of a PostgreSQL that speaks TLS."""
    with own_postgres(certificate) as server:
        yield postgres_url(server)


def client(url: str) -> "redis.Redis":
    """Return the client that the online store makes for an address."""
    address = parse_address(url)
    assert isinstance(address, RedisAddress)
    return redis.Redis(**address.client_options)


def test_redis_with_tls_answers_who_trusts_it(redis_with_tls: str, certificate: Certificate) -> None:
    with client(f"rediss://{redis_with_tls}?ssl_ca_certs={certificate.public}") as trusting:
        assert trusting.ping()


def test_redis_whose_certificate_nobody_vouches_for_is_refused(redis_with_tls: str, stranger: Certificate) -> None:
    for trust in ("", f"?ssl_ca_certs={stranger.public}"):
        with client(f"rediss://{redis_with_tls}{trust}") as other, pytest.raises(redis.ConnectionError, match="CERTIF"):
            other.ping()
    with client(f"redis://{redis_with_tls}") as plain, pytest.raises(redis.ConnectionError):
        plain.ping()


def test_feast_is_told_whom_to_trust_in_redis(tmp_path: Path) -> None:
    address = parse_address("rediss://cache:6380?ssl_ca_certs=/etc/ssl/ca.pem")
    assert isinstance(address, RedisAddress)
    assert address.feast_string == 'cache:6380,db=0,ssl=true,ssl_ca_certs="/etc/ssl/ca.pem"'


@pytest.mark.parametrize("url", ["redis://cache:6379?ssl_ca_certs=/ca.pem", "rediss://cache:6379?ssl_cert_reqs=none"])
def test_options_that_would_not_protect_are_refused(url: str) -> None:
    with pytest.raises(ConfigError, match="rediss://HOST"):
        parse_address(url)


def test_postgres_connection_is_encrypted_and_its_server_known(
    postgres_with_tls: str, certificate: Certificate
) -> None:
    url = f"{postgres_with_tls}?sslmode=verify-full&sslrootcert={certificate.public}"
    with ControlStore(url) as control:
        assert control.list_keys() == []
    with psycopg.connect(url.replace("+psycopg", "")) as connection:
        row = connection.execute("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()").fetchone()
    assert row == (True,)


def test_postgres_that_is_somebody_else_gets_no_password(postgres_with_tls: str, stranger: Certificate) -> None:
    with pytest.raises(Unavailable, match="certificate verify failed") as caught:
        ControlStore(f"{postgres_with_tls}?sslmode=verify-full&sslrootcert={stranger.public}")
    assert PASSWORD not in str(caught.value)
