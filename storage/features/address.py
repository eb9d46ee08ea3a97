"""The address of the online store: which engine it names, and how Feast is told the same."""

import getpass
import json
import re
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from bespoke.errors import ConfigError

EXPECTED = "redis://HOST:PORT, rediss://HOST:PORT[?ssl_ca_certs=FILE] for TLS, or postgresql://USER:PASSWORD@HOST:PORT/DATABASE"
TIMEOUT_S = 2
"""How long a server may take to connect or to answer: serving degrades, and the processor pushes again."""
_SEARCH_PATH = re.compile(r"search_path\s*=\s*([A-Za-z0-9_]+)")


@dataclass(frozen=True, slots=True)
class RedisAddress:
    """One Redis."""

    host: str
    port: int
    database: int
    username: str | None
    password: str | None
    tls: bool
    ca: str | None = None
    """PEM file of whom to trust instead of the system's list."""

    @property
    def client_options(self) -> dict[str, Any]:
        """Return what the client is made with."""
        options: dict[str, Any] = {"host": self.host, "port": self.port, "db": self.database, "ssl": self.tls}
        trust = {} if self.ca is None else {"ssl_ca_certs": self.ca}
        return options | trust | {"username": self.username, "password": self.password}

    @property
    def feast_string(self) -> str:
        """Return Feast's form of the address, whose parts end at commas and are read as JSON."""
        parts: dict[str, Any] = {"db": self.database, "ssl": self.tls}
        parts |= {"username": self.username, "password": self.password, "ssl_ca_certs": self.ca}
        said = [f"{name}={_json(value)}" for name, value in parts.items() if value is not None]
        return ",".join([f"{self.host}:{self.port}", *said])


@dataclass(frozen=True, slots=True)
class PostgresAddress:
    """One database of a PostgreSQL server, and the schema in it."""

    parameters: dict[str, str]
    """As libpq names them."""
    schema: str

    @property
    def feast_options(self) -> dict[str, Any]:
        """Return what Feast's own store is configured with."""
        given = self.parameters
        return {
            "host": given.get("host", "localhost"),
            "port": int(given.get("port", 5432)),
            "database": given.get("dbname", given["user"]),
            "user": given["user"],
            "password": given.get("password", ""),
            "sslmode": given.get("sslmode", "prefer"),
            "db_schema": self.schema,
            **{f"{name}_path": given[name] for name in ("sslrootcert", "sslcert", "sslkey") if name in given},
        }


Address = RedisAddress | PostgresAddress | None
"""Where online features rest; None is the SQLite file of the installation."""


def parse_address(url: str | None) -> Address:
    """Return what an address names.

    Raises:
        ConfigError: no engine knows such an address. The message does not repeat it, since it may hold a password.
    """
    if url is None:
        return None
    scheme = url.partition("://")[0]
    try:
        if scheme in ("redis", "rediss"):
            return _redis(url)
        if scheme in ("postgresql", "postgres", "postgresql+psycopg"):
            return _postgres(url)
    except ValueError:
        raise ConfigError(f"online_url: cannot be read as an address of {scheme}, expected {EXPECTED}") from None
    raise ConfigError(f"online_url: no engine is called {scheme[:20]!r}, expected {EXPECTED}; none at all is SQLite")


def _redis(url: str) -> RedisAddress:
    parts = urlsplit(url)
    options = dict(parse_qsl(parts.query))
    ca = options.pop("ssl_ca_certs", None)
    if not parts.hostname or options or (ca is not None and parts.scheme != "rediss"):
        raise ValueError("no host, or options that are not known")
    return RedisAddress(
        host=parts.hostname,
        port=parts.port or 6379,
        database=int(parts.path.strip("/") or 0),
        username=unquote(parts.username) if parts.username else None,
        password=unquote(parts.password) if parts.password else None,
        tls=parts.scheme == "rediss",
        ca=ca,
    )


def _postgres(url: str) -> PostgresAddress:
    from psycopg import ProgrammingError
    from psycopg.conninfo import conninfo_to_dict

    try:
        given = {name: str(value) for name, value in conninfo_to_dict(url.replace("+psycopg", "", 1)).items()}
    except ProgrammingError:
        raise ValueError("libpq cannot read it") from None
    given.setdefault("user", getpass.getuser())
    named = _SEARCH_PATH.search(given.get("options", ""))
    return PostgresAddress(given, named.group(1) if named else "public")


def _json(value: Any) -> str:
    return json.dumps(value).replace(",", "\\u002c")
