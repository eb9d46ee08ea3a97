"""Alerts: on, told once, acknowledged, off; told by signed post and by mail to servers that are real."""

import hmac
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from socketserver import StreamRequestHandler, TCPServer

import orjson
import pytest

from bespoke.errors import ConfigError
from monitoring.alert_rules import Alerting, AlertRule, Measured, changes, load_alerts
from monitoring.telling import Teller
from storage.control import Alert

AT = datetime(2026, 3, 1, 12, tzinfo=UTC)
RULE = AlertRule(name="drift", metric="drift", above=0)
OFF, FINE = Measured("drift", "age", 2.0, "age moved"), Measured("drift", "age", 0.0)


def look(
    measured: list[Measured], on: list[Alert], *, at: datetime = AT, rule: AlertRule = RULE
) -> tuple[list[Alert], int, int]:
    """Return the alerts that are on after a look, how many were told, and how many went off."""
    found = list(changes([rule], measured, on, metrics=[one.metric for one in measured], at=at))
    told, ended = sum(change.tell for change in found), sum(change.rule is None for change in found)
    return [change.alert for change in found if change.rule is not None], told, ended


def test_an_alert_is_told_once_and_goes_off_when_all_is_well() -> None:
    on, told, _ = look([OFF], [])
    assert told == 1
    on, told, _ = look([OFF], on, at=AT + timedelta(hours=1))
    assert (len(on), told) == (1, 0)
    assert on[0].since == AT
    on, told, _ = look([OFF], on, at=AT + timedelta(hours=6))
    assert told == 1
    assert look([FINE], on)[2] == 1


def test_what_could_not_be_measured_stays_as_it_is() -> None:
    on, _, _ = look([OFF], [])
    assert look([], on) == ([], 0, 0)


def test_whoever_acknowledged_is_told_no_more() -> None:
    on = [Alert("drift", "age", AT, AT, 1.0, "", AT, acknowledged_by="ada")]
    assert look([OFF], on, at=AT + timedelta(days=2))[1] == 0


def test_an_alert_whose_rule_is_gone_goes_off() -> None:
    on = [Alert("gone", "", AT, AT, 1.0, "", AT)]
    assert look([FINE], on)[2] == 1


def test_subjects_are_told_apart_and_chosen() -> None:
    rule = AlertRule(name="worse", metric="variant_worse", above=0, subject="hero/*")
    measured = [Measured("variant_worse", subject, 1.0) for subject in ("hero/b", "hero/c", "side/b")]
    assert [alert.subject for alert in look(measured, [], rule=rule)[0]] == ["hero/b", "hero/c"]


def test_below_is_as_good_as_above() -> None:
    rule = AlertRule(name="fewer", metric="outcome_change", below=-0.2)
    measured = [Measured("outcome_change", "conversion", value) for value in (-0.3,)]
    assert len(look(measured, [], rule=rule)[0]) == 1
    assert look([Measured("outcome_change", "conversion", -0.1)], [], rule=rule)[0] == []


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('[alert.x]\nmetric = "mood"\nabove = 1\n', "metric"),
        ('[alert.x]\nmetric = "drift"\n', "either above or below"),
        ('[alert.x]\nmetric = "drift"\nabove = 1\nnotify = ["team"]\n', "nobody is called 'team'"),
        ('[notify.a]\nurl = "http://x"\n', "secret_env"),
        ('[notify.a]\nsmtp_host = "x"\n', "sender"),
        ('[notify.a]\nsmtp_host = "x"\nsender = "a@b"\nto = ["c@d"]\nuser = "u"\npassword_env = "P"\n', "starttls"),
        ('[alert.x]\nmetric = "drift"\nabove = 1\naction = { job = "dance" }\n', "job"),
    ],
)
def test_mistakes_are_named(tmp_path: Path, text: str, told: str) -> None:
    (tmp_path / "alerts.toml").write_text(text)
    with pytest.raises(ConfigError, match=told):
        load_alerts(tmp_path)


def test_no_file_means_no_alerts(tmp_path: Path) -> None:
    assert load_alerts(tmp_path) == Alerting()


class _Hook(BaseHTTPRequestHandler):
    got: list[tuple[dict[str, str], bytes]]

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        type(self).got.append((dict(self.headers), body))
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


class _Mail(StreamRequestHandler):
    """A mail server that takes one message."""

    got: list[str]

    def handle(self) -> None:
        self._say("220 here")
        in_mail = False
        lines: list[str] = []
        for raw in self.rfile:
            line = raw.decode().rstrip("\r\n")
            if in_mail and line == ".":
                type(self).got.append("\n".join(lines))
                in_mail = False
                self._say("250 taken")
            elif in_mail:
                lines.append(line)
            elif line.upper() == "DATA":
                in_mail = True
                self._say("354 go on")
            else:
                self._say("221 bye" if line.upper() == "QUIT" else "250 yes")

    def _say(self, text: str) -> None:
        self.wfile.write(f"{text}\r\n".encode())


@pytest.fixture
def hook() -> Iterator[HTTPServer]:
    _Hook.got = []
    server = HTTPServer(("127.0.0.1", 0), _Hook)
    with _serving(server):
        yield server


@pytest.fixture
def mail() -> Iterator[TCPServer]:
    _Mail.got = []
    server = TCPServer(("127.0.0.1", 0), _Mail)
    with _serving(server):
        yield server


@contextmanager
def _serving(server: TCPServer) -> Iterator[None]:
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield
    server.shutdown()
    thread.join()
    server.server_close()


def teller(tmp_path: Path, text: str) -> tuple[Teller, AlertRule]:
    (tmp_path / "alerts.toml").write_text(f'{text}\n[alert.drift]\nmetric = "drift"\nabove = 0\nnotify = ["team"]\n')
    found = load_alerts(tmp_path)
    return Teller(found.channels), found.rules[0]


ALERT = Alert("drift", "age", AT, AT, 2.0, "age moved by 0.2", AT)


def test_posts_are_signed(tmp_path: Path, hook: HTTPServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOOK_SECRET", "s3cret")
    one, rule = teller(
        tmp_path, f'[notify.team]\nurl = "http://127.0.0.1:{hook.server_port}/x"\nsecret_env = "HOOK_SECRET"'
    )
    assert one.tell(rule, ALERT, at=AT) == []
    ((headers, body),) = _Hook.got
    seconds = int(AT.timestamp())
    expected = hmac.new(b"s3cret", f"{seconds}.".encode() + body, "sha256").hexdigest()
    assert headers["Bespoke-Signature"] == f"t={seconds},v1={expected}"
    assert orjson.loads(body)["words"] == "age moved by 0.2"


def test_mails_say_what_is_wrong(tmp_path: Path, mail: TCPServer) -> None:
    port = mail.server_address[1]
    one, rule = teller(
        tmp_path, f'[notify.team]\nsmtp_host = "127.0.0.1"\nsmtp_port = {port}\nsender = "b@x.org"\nto = ["a@x.org"]'
    )
    assert one.tell(rule, ALERT, at=AT) == []
    (text,) = _Mail.got
    assert "Subject: Bespoke: drift (age)" in text and "age moved by 0.2" in text


def test_who_cannot_be_told_is_said_and_nothing_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HOOK_SECRET", raising=False)
    one, rule = teller(tmp_path, '[notify.team]\nurl = "http://127.0.0.1:9/x"\nsecret_env = "HOOK_SECRET"')
    assert "HOOK_SECRET is not set" in one.tell(rule, ALERT, at=AT)[0]
    monkeypatch.setenv("HOOK_SECRET", "s")
    assert "ConnectError" in one.tell(rule, ALERT, at=AT)[0]
