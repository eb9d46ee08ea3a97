"""The console: behind a key, says what the stores say, escapes what it shows, and looks right in a real browser."""

import os
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import numpy as np
import pytest
import uvicorn

from bespoke.clock import DAY_MS, HOUR_MS, to_ms
from bespoke.events import RECOMMENDATION_SERVED, Event, EventType, MessageId, lines_of
from bespoke.experiments import ExperimentState, Health, parse_experiment
from monitoring.console.app import COOKIE, create_console
from monitoring.console.charts import Interval, band_chart, intervals_chart
from monitoring.console.data import READOUT
from monitoring.console.sessions import MAX_TRIES
from storage.control import Alert, ControlStore, Observation
from storage.control_traffic import Served, ServedHealth
from storage.lake import Lake
from storage.settings import Settings

NOW = datetime.now(UTC)
METRICS = """
[conversion]
kind = "conversion"
event = "purchase"

[orders]
kind = "mean"
event = "purchase"
guardrail = true
"""
NASTY = "<script>alert(1)</script>"


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    home = tmp_path_factory.mktemp("console")
    (home / "config").mkdir()
    (home / "config" / "metrics.toml").write_text(METRICS)
    settings = Settings(home=home / "var", config_dir=home / "config")
    with ControlStore(settings.control_url) as control:
        fill(control)
    live(settings)
    return settings


def fill(control: ControlStore) -> None:
    control.set_pointer("champion", "als@1", by="ada", reason="", at=NOW)
    variants = [{"name": "old", "share": 0.5}, {"name": "new", "share": 0.5, "pipeline": "diverse"}]
    begun = NOW - timedelta(days=10)
    state = ExperimentState.begin(
        parse_experiment("hero", {"salt": "s", "variants": variants}), at_ms=to_ms(begun), by="ada"
    )
    control.set_experiment("hero", state.model_dump(mode="json"), by="ada", at=begun)
    latency = Health(90, 3, 0, tuple(90 if n == 10 else 0 for n in range(53)))
    now = datetime.now(UTC)
    control.save_health("r1", [ServedHealth(Served("als@1"), now - timedelta(seconds=30), latency)], at=now)
    control.raise_alert(Alert("stale", "", NOW, NOW, 3.0, f"nothing came {NASTY}", NOW), at=NOW)
    control.enqueue("drift", {}, by="schedule", at=NOW)
    control.observe(
        [Observation("drift", "orders", NOW, 0.2, True, "moved"), Observation("drift", "age", NOW, 0.01, False)]
    )
    control.observe(
        [
            Observation(
                READOUT,
                "hero/new/conversion",
                NOW - timedelta(days=9 - n),
                0.1 + 0.02 * n,
                False,
                f"[{-0.4 / (n + 1)}, {0.3}]",
            )
            for n in range(9)
        ]
    )


def live(settings: Settings) -> None:
    """Have 4,000 people be shown the variants, and more of the new one's buy."""
    random = np.random.default_rng(0)
    events: list[Event] = []
    for number in range(4_000):
        variant = int(random.random() < 0.5)
        at_ms = to_ms(NOW - timedelta(days=9)) + int(random.integers(5 * DAY_MS))
        shown = {"experiment": "hero", "variant": ("old", "new")[variant], "phase": 1, "override": False}
        items = [{"product_id": "milk", "position": 1, "source": "als", "score": 0.5, "propensity": 1.0}]
        list_of = {
            "recommendation_id": f"r{number}",
            "assignments": [shown],
            "items": items,
            "experiment": "hero",
            "variant": shown["variant"],
            "model_version": "als@1",
            "degraded": None,
            "surface": "home",
        }
        told = [(RECOMMENDATION_SERVED, at_ms, list_of)]
        if random.random() < (0.2, 0.3)[variant]:
            told.append(("Order Completed", at_ms + HOUR_MS, {"products": [{"product_id": "milk", "price": 2.0}]}))
        for name, when, properties in told:
            id, lines = MessageId(f"m{len(events)}"), lines_of(EventType.TRACK, name, properties)
            events.append(Event(id, EventType.TRACK, name, f"u{number}", None, when, when, properties, lines=lines))
    Lake(settings.lake_dir).write_events(0, 0, len(events), events)


def key(settings: Settings, *scopes: str) -> str:
    with ControlStore(settings.control_url) as control:
        return control.create_key("ada", scopes, NOW)[1]


@pytest.fixture(scope="module")
def url(settings: Settings) -> Iterator[str]:
    server = uvicorn.Server(uvicorn.Config(create_console(settings), port=0, log_level="warning"))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        assert thread.is_alive()
        time.sleep(0.01)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    server.should_exit = True
    thread.join()


@pytest.fixture
def client(url: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=url, timeout=60) as client:
        yield client


@pytest.fixture
def ada(client: httpx.Client, settings: Settings) -> httpx.Client:
    """Logged in with a key that may see people."""
    answer = client.post("/login", data={"key": key(settings, "experiments", "profiles")})
    assert (answer.status_code, answer.headers["location"]) == (303, "/")
    return client


@pytest.mark.parametrize("path", ["/", "/experiments/hero", "/segments/x", "/reports/x", "/people"])
def test_nobody_sees_a_page_without_a_key(client: httpx.Client, path: str) -> None:
    for cookies in ({}, {COOKIE: "made-up"}):
        client.cookies.update(cookies)
        answer = client.get(path)
        assert (answer.status_code, answer.headers["location"]) == (303, "/login")


def test_keys_of_other_scopes_and_unknown_ones_do_not_open_it(client: httpx.Client, settings: Settings) -> None:
    for secret in ("nonsense", "", key(settings, "ingest")):
        assert client.post("/login", data={"key": secret}).status_code == 403
    assert client.post("/login", content=b"key=" + b"x" * 100_000).status_code == 413


def test_the_cookie_is_for_this_site_alone_and_no_key(client: httpx.Client, settings: Settings) -> None:
    secret = key(settings, "experiments")
    cookie = client.post("/login", data={"key": secret}).headers["set-cookie"]
    assert "HttpOnly" in cookie and "SameSite=strict" in cookie
    assert secret not in cookie


def test_whoever_logs_out_is_out(ada: httpx.Client) -> None:
    token = ada.cookies[COOKIE]
    assert ada.get("/").status_code == 200
    ada.post("/logout")
    ada.cookies.set(COOKIE, token)
    assert ada.get("/").status_code == 303


def test_a_revoked_key_ends_its_sessions(settings: Settings) -> None:
    from bespoke.errors import Unauthorized
    from monitoring.console.sessions import LOOK_AGAIN_S, Sessions

    seconds = iter([0.0, 1.0, 1.0 + LOOK_AGAIN_S])
    with ControlStore(settings.control_url) as control:
        info, secret = control.create_key("bob", ["experiments"], NOW)
        sessions = Sessions(control, now_s=lambda: next(seconds))
        token = sessions.log_in(secret)
        assert sessions.of(token).name == "bob"
        control.revoke_key(info.key_id, NOW)
        with pytest.raises(Unauthorized, match="revoked"):
            sessions.of(token)


def test_guessing_is_slowed_down(settings: Settings) -> None:
    from bespoke.errors import Unauthorized
    from monitoring.console.sessions import Sessions, TooManyTries

    with ControlStore(settings.control_url) as control:
        sessions = Sessions(control, now_s=lambda: 0.0)
        for _ in range(MAX_TRIES):
            with pytest.raises(Unauthorized):
                sessions.log_in("guess")
        with pytest.raises(TooManyTries):
            sessions.log_in("guess")


def test_the_overview_says_what_is_on_and_escapes_it(ada: httpx.Client) -> None:
    answer = ada.get("/")
    text = answer.text
    assert "&lt;script&gt;" in text and NASTY not in text
    for told in ("als@1", "3.3%", "hero", "new 50.0%", "1 of 2 columns moved", "queued", "champion"):
        assert told in text, told
    assert "script-src" not in answer.headers["content-security-policy"]
    assert "default-src 'none'" in answer.headers["content-security-policy"]


def test_an_experiments_page_has_the_readout_in_words_and_pictures(ada: httpx.Client) -> None:
    text = ada.get("/experiments/hero").text
    assert "better:" in text and "guardrail" in text
    assert text.count("<svg") == 2
    assert "new/conversion over time" in text
    assert ada.get("/experiments/none").status_code == 404


def test_a_persons_page_needs_the_scope_and_shows_what_was_shown(
    ada: httpx.Client, url: str, settings: Settings
) -> None:
    from storage.features import apply_feature_repo

    apply_feature_repo(settings)
    text = ada.get("/people", params={"id": "u7"}).text
    assert "hero: " in text and "milk" in text and "Nothing is known" in text
    with httpx.Client(base_url=url) as other:
        other.post("/login", data={"key": key(settings, "experiments")})
        assert other.get("/people", params={"id": "u7"}).status_code == 403


def test_reports_are_served_apart_from_the_console(ada: httpx.Client, settings: Settings) -> None:
    settings.reports_dir.mkdir(parents=True, exist_ok=True)
    (settings.reports_dir / "drift-x.html").write_text("<html>report</html>")
    (settings.reports_dir / "secret.txt").write_text("no")
    answer = ada.get("/reports/drift-x.html")
    assert answer.text == "<html>report</html>" and "sandbox" in answer.headers["content-security-policy"]
    for name in ("secret.txt", "..%2fcontrol.db", "drift-y.html"):
        assert ada.get(f"/reports/{name}").status_code == 404


def test_a_store_that_is_away_is_a_page_and_no_trace(settings: Settings, ada: httpx.Client) -> None:
    text = ada.get("/people", params={"id": "x" * 600})
    assert text.status_code == 422
    assert "Traceback" not in ada.get("/nowhere").text


def test_charts_hold_their_marks_inside_the_picture() -> None:
    chart = intervals_chart([Interval("a & b", -0.5, 0.1, 0.9), Interval("c", -0.1, -0.05, -0.01, "worse")])
    assert chart.count("<circle") == 2 and "a &amp; b" in chart
    assert intervals_chart([]) == "" and band_chart([("one", 0.0, 0.1, 0.2)]) == ""


@pytest.mark.skipif(
    shutil.which("chromium") is None and os.environ.get("CI") != "true", reason="no chromium on this machine"
)
def test_it_looks_right_in_a_real_browser(url: str, settings: Settings, tmp_path: Path) -> None:
    """The log-in page draws; pages behind it are drawn from the HTML that a logged-in client gets."""
    with httpx.Client(base_url=url, timeout=60) as client:
        client.post("/login", data={"key": key(settings, "experiments", "profiles")})
        pages = {name: client.get(path).text for name, path in (("overview", "/"), ("experiment", "/experiments/hero"))}
    for name, text in pages.items():
        (tmp_path / f"{name}.html").write_text(text)
    widths = {name: scrolled(tmp_path / f"{name}.html", tmp_path) for name in pages}
    assert widths == {"overview": 0, "experiment": 0}


def scrolled(page: Path, folder: Path) -> int:
    """Return by how many pixels a page is wider than a window of 1,000."""
    probe = folder / f"probe-{page.name}"
    script = "<script>document.title = document.documentElement.scrollWidth - window.innerWidth</script>"
    probe.write_text(page.read_text().replace("</body>", f"{script}</body>"))
    chromium = [
        "chromium",
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--window-size=1000,2000",
        f"--user-data-dir={folder}/profile",
    ]
    subprocess.run(
        [*chromium, f"--screenshot={page.with_suffix('.png')}", str(page)], check=True, capture_output=True, timeout=120
    )
    assert page.with_suffix(".png").stat().st_size > 10_000
    done = subprocess.run(
        [*chromium, "--dump-dom", str(probe)], check=True, capture_output=True, text=True, timeout=120
    )
    return max(int(done.stdout.split("<title>")[1].split("<")[0]), 0)
