"""The ingress for real: HAProxy, Serve's replica and what stands in front of both."""

import asyncio
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import httpx
import pytest
import uvicorn
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from bespoke.errors import ConfigError
from serving import haproxy_config
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

WITH_RECOMMENDER = """
global
    log 127.0.0.1:514 local0 info
    nbthread 1
defaults
    mode http
    timeout connect 1s
    timeout client 30s
    timeout server 30s
    errorfile 503 /nowhere/500.http
frontend http_frontend
    bind 127.0.0.1:{port}
    acl is_http-recommender path_beg /
    use_backend http-recommender if is_http-recommender
backend http-recommender
    http-reuse always
    option httpchk GET /-/healthz
    http-check expect status 200
    default-server fastinter 1s downinter 250ms fall 2 rise 2 inter 5s check
    # Servers in this backend
    server SERVE_REPLICA_one 127.0.0.1:{server} check observe layer4 error-limit 3 on-error mark-down
    server SERVE_PROXY_ACTOR-fallback 127.0.0.1:{closed} check backup
"""


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


@contextmanager
def completed_haproxy(folder: Path, written: str, *, port: int) -> Iterator[None]:
    """Run HAProxy as Serve would, with a configuration of Serve's."""
    (folder / "haproxy.cfg").write_text(written)
    write_starter(folder, http_port=port, https=None)
    command = (str(folder / STARTER), "-db", "-f", str(folder / "haproxy.cfg"))
    with subprocess.Popen(command, stderr=subprocess.PIPE) as haproxy:
        try:
            yield
        finally:
            haproxy.terminate()


def test_where_nothing_answers_haproxy_says_when_to_come_again(tmp_path: Path) -> None:
    port, metrics = free_port(), free_port()
    written = WRITTEN.format(metrics=metrics, port=port, closed=free_port())
    with (
        completed_haproxy(tmp_path, written, port=port),
        httpx.Client(transport=httpx.HTTPTransport(retries=6)) as client,
    ):
        answer = client.get(f"http://127.0.0.1:{port}/")
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
    assert answer.json()["code"] == "unavailable"
    assert f"bind 127.0.0.1:{metrics}\n" in (tmp_path / "haproxy.cfg").read_text()


@asynccontextmanager
async def served_at(app: ASGIApp, *, port: int) -> AsyncIterator[None]:
    """Serve an application in this loop."""
    server = uvicorn.Server(uvicorn.Config(app, port=port, lifespan="off", log_level="error"))
    task = asyncio.ensure_future(server.serve())
    try:
        yield
    finally:
        server.should_exit = True
        await task


async def until_answered(client: httpx.AsyncClient, path: str) -> None:
    """Wait until an answer comes that is none of HAProxy's own."""
    while True:
        try:
            if (await client.get(path)).status_code == 200:
                return
        except httpx.TransportError:
            pass
        await asyncio.sleep(0.02)


class HeldReplica:
    """Answers decisions only once it may, and everything else at once."""

    def __init__(self) -> None:
        self.may_answer = asyncio.Event()
        self.at_work = self.most_at_work = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"].startswith(haproxy_config.PATH):
            self.at_work += 1
            self.most_at_work = max(self.most_at_work, self.at_work)
            await self.may_answer.wait()
            self.at_work -= 1
        await PlainTextResponse("ok")(scope, receive, send)


def test_decisions_wait_in_haproxy_and_those_too_many_are_refused_there(tmp_path: Path) -> None:
    asyncio.run(_more_decisions_than_may_wait(tmp_path))


async def _more_decisions_than_may_wait(tmp_path: Path) -> None:
    port, server = free_port(), free_port()
    written = WITH_RECOMMENDER.format(port=port, server=server, closed=free_port())
    replica = HeldReplica()
    async with asyncio.timeout(60), served_at(replica, port=server):
        with completed_haproxy(tmp_path, written, port=port):
            limits, url = httpx.Limits(max_connections=None), f"http://127.0.0.1:{port}"
            async with httpx.AsyncClient(base_url=url, limits=limits, timeout=30) as client:
                await until_answered(client, "/readyz")
                room = haproxy_config.AT_WORK + haproxy_config.BURST
                asked = [asyncio.ensure_future(client.post(haproxy_config.PATH)) for _ in range(room + 6)]
                refused = [await done for _, done in zip(range(6), asyncio.as_completed(asked), strict=False)]
                # While decisions are held, all else is answered.
                assert (await client.get("/readyz")).status_code == 200
                replica.may_answer.set()
                answers = await asyncio.gather(*asked)
    assert "log 127.0.0.1:514 local0 notice\n" in (tmp_path / "haproxy.cfg").read_text()
    assert sorted(answer.status_code for answer in answers) == [200] * room + [503] * 6
    assert replica.most_at_work == haproxy_config.AT_WORK
    for answer in refused:
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
        assert answer.json()["code"] == "overloaded" and answer.headers["x-request-id"]


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
