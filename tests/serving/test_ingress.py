"""The ingress for real: HAProxy, Serve's replica and what stands in front of both."""

import ssl
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from bespoke.errors import ConfigError
from serving.haproxy import STARTER, https_of, write_starter
from storage.settings import Settings
from tests.support.certificates import Certificate, make_certificate
from tests.support.servers import free_port

SITE = Path(__file__).resolve().parents[1] / "support" / "serve_site.py"
STEERING = (
    "X-Request-Timeout-Seconds",
    "X-Request-Disconnect-Disabled",
    "Serve_Multiplexed_Model_Id",
    "Serve-Multiplexed-Model-Id",
    "X-Session-Id",
    "X-Serve-Router-Target",
)

WRITTEN = """
defaults
    mode http
    timeout connect 1s
    timeout client 5s
    timeout server 5s
    errorfile 503 /nowhere/500.http
frontend prometheus
    bind :{metrics}
frontend http_frontend
    bind 127.0.0.1:{port}
    default_backend nobody
backend nobody
    server nobody 127.0.0.1:{closed}
"""
"""Of the form that Serve writes."""


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    """Return a certificate for this machine."""
    return make_certificate(tmp_path_factory.mktemp("tls"))


@pytest.fixture(scope="module")
def site(certificate: Certificate) -> Iterator[tuple[int, int]]:
    """Return the ports of an application behind Serve and HAProxy: without TLS and with it."""
    ports = free_port(), free_port()
    command = [sys.executable, str(SITE), *map(str, ports), str(certificate.both)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        yield ports


def test_headers_that_steer_serve_do_not_reach_it(site: tuple[int, int]) -> None:
    sent = {name: "0" for name in STEERING} | {"X-Request-Id": 'forged" line', "X-Shop": "kept"}
    answer = httpx.get(f"http://127.0.0.1:{site[0]}/seen", headers=sent)
    assert answer.status_code == 200, answer.text
    seen = answer.json()
    assert seen["headers"]["x-shop"] == "kept"
    assert not {name.lower() for name in STEERING} & set(seen["headers"])
    made = answer.headers["x-request-id"]
    assert len(made) == 32 and made.isalnum()
    assert seen["serve"] == {"request_id": made, "model": "", "session": ""}


def test_clients_own_request_id_stands_where_it_is_harmless(site: tuple[int, int]) -> None:
    answer = httpx.get(f"http://127.0.0.1:{site[0]}/seen", headers={"X-Request-Id": "Order_7-b"})
    assert answer.headers.get_list("x-request-id") == ["Order_7-b"]
    assert answer.json()["serve"]["request_id"] == "Order_7-b"


def test_what_an_application_raises_is_not_shown(site: tuple[int, int]) -> None:
    answer = httpx.get(f"http://127.0.0.1:{site[0]}/fail")
    assert answer.status_code == 500
    assert "alice" not in answer.text and "Error:" not in answer.text


def test_where_nothing_answers_haproxy_says_when_to_come_again(tmp_path: Path) -> None:
    port, metrics = free_port(), free_port()
    (tmp_path / "haproxy.cfg").write_text(WRITTEN.format(metrics=metrics, port=port, closed=free_port()))
    write_starter(tmp_path, http_port=port, https=None)
    with subprocess.Popen(
        [tmp_path / STARTER, "-db", "-f", tmp_path / "haproxy.cfg"], stderr=subprocess.PIPE
    ) as haproxy:
        try:
            with httpx.Client(transport=httpx.HTTPTransport(retries=6)) as client:
                answer = client.get(f"http://127.0.0.1:{port}/")
        finally:
            haproxy.terminate()
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
    assert answer.json()["code"] == "unavailable"
    assert f"bind 127.0.0.1:{metrics}\n" in (tmp_path / "haproxy.cfg").read_text()


def test_tls_listener_answers_as_the_other_one_does(site: tuple[int, int], certificate: Certificate) -> None:
    trust = ssl.create_default_context(cafile=certificate.public)
    with httpx.Client(verify=trust, base_url=f"https://localhost:{site[1]}") as client:
        assert client.get("/seen", headers={"X-Request-Id": "tls"}).json()["serve"]["request_id"] == "tls"
    with pytest.raises(httpx.ConnectError, match="certificate"):
        httpx.get(f"https://localhost:{site[1]}/seen")


def test_port_for_tls_needs_a_certificate_with_its_key(tmp_path: Path, certificate: Certificate) -> None:
    assert https_of(Settings()) is None
    with pytest.raises(ConfigError, match="BESPOKE_TLS_CERTIFICATE"):
        https_of(Settings(https_port=8443))
    with pytest.raises(ConfigError, match="key and certificate"):
        https_of(Settings(https_port=8443, tls_certificate=certificate.public))
    with pytest.raises(ConfigError, match="FileNotFoundError"):
        https_of(Settings(https_port=8443, tls_certificate=tmp_path / "none"))
