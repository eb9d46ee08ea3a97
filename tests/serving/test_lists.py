"""What lists can be asked with besides a person, and how traffic is split on them."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from datetime import datetime
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI

from bespoke.clock import FixedClock
from bespoke.events import RECOMMENDATION_SHADOWED, Event, UserId
from bespoke.experiments import Experiment, ExperimentState, Variant
from bespoke.profiles import EMPTY
from bespoke.recommend import Request
from serving.applications import create_recommender
from serving.isolated import Apart, AskApart, IsolatedRanker
from storage.control import ControlStore
from storage.features import OnlineProfile
from storage.settings import Settings

ClientOf = Callable[[FastAPI], AbstractContextManager[httpx.Client]]
Publish = Callable[[str, dict[str, float]], str]
PATH = "/api/v1/recommendations"
ITEMS = {f"i{n}": 10.0 - n for n in range(8)}


class Nobody:
    """An online store that knows people without a past, who are in the segment `vip`."""

    def read(self, user_ids: list[UserId], *, service: str, at_ms: int) -> dict[UserId, OnlineProfile]:
        return {id: OnlineProfile(EMPTY, 1, segments=("vip",)) for id in user_ids}

    def ready(self) -> bool:
        return True


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """Return the folder of settings."""
    folder = tmp_path / "config"
    folder.mkdir()
    return folder


@pytest.fixture
def settings(tmp_path: Path, config: Path) -> Settings:
    """Return an installation with settings of its own."""
    return Settings(home=tmp_path / "var", config_dir=config)


@pytest.fixture
def control(settings: Settings, publish: Publish, now: datetime) -> Iterator[ControlStore]:
    """Return the control store of an installation whose champion ranks i0 first, and another version i7."""
    with ControlStore(settings.control_url) as store:
        store.set_pointer("champion", publish("test", ITEMS), by="test", reason="", at=now)
        other = publish("other", {item: -weight + 11 for item, weight in ITEMS.items()})
        store.set_pointer("challenger", other, by="test", reason="", at=now)
        yield store


@pytest.fixture
def open_site(
    settings: Settings, control: ControlStore, client_of: ClientOf, new_key: Callable[[str], str], now: datetime
) -> Iterator[Callable[..., httpx.Client]]:
    """Return what opens a client with a key of scope recommend."""
    from contextlib import ExitStack

    with ExitStack() as stack:

        def opened(ask_apart: AskApart | None = None) -> httpx.Client:
            app = create_recommender(settings, features=Nobody(), clock=FixedClock(now), ask_apart=ask_apart)  # type: ignore[arg-type]
            client = stack.enter_context(client_of(app))
            client.auth = (new_key("recommend"), "")
            return client

        yield opened


def asked(client: httpx.Client, path: str = "", **body: object) -> dict[str, object]:
    answer = client.post(PATH + path, json=body)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def ids(answer: dict[str, object]) -> list[str]:
    items = answer["items"]
    assert isinstance(items, list)
    return [item["itemId"] for item in items]


def run(control: ControlStore, now: datetime, *variants: Variant, name: str = "test", **more: str) -> None:
    """Put an experiment in force."""
    experiment = Experiment(name=name, salt=name, variants=variants, **more)
    state = ExperimentState.begin(experiment, at_ms=0, by="test")
    control.set_experiment(name, state.model_dump(mode="json"), by="test", at=now)


def test_a_filter_with_parameters_lets_only_matching_items_come(open_site: Callable[..., httpx.Client]) -> None:
    answer = asked(open_site(), userId="u", filter="item_id in $these", filterValues={"these": ["i5", "i3", "x"]})
    assert ids(answer) == ["i3", "i5"]


@pytest.mark.parametrize(
    "body",
    [
        {"filter": "price ="},
        {"filter": "item_id == $x"},
        {"filter": "price < $x", "filterValues": {"x": "cheap"}},
        {"page": "no-page"},
        {"promotions": [{"name": "p", "filter": "nonsense", "share": 0.5}]},
    ],
)
def test_what_cannot_be_read_is_told_and_nothing_breaks(
    open_site: Callable[..., httpx.Client], body: dict[str, object]
) -> None:
    answer = open_site().post(PATH, json={"userId": "u", **body})
    assert answer.status_code in (400, 422) and answer.json()["code"] in ("invalid_filter", "invalid_page")


def test_the_next_page_repeats_nothing_until_nothing_is_left(open_site: Callable[..., httpx.Client]) -> None:
    site, page, seen = open_site(), None, list[str]()
    while True:
        answer = asked(site, userId="u", numResults=3, page=page)
        seen += ids(answer)
        page = answer["nextPage"]
        if page is None:
            break
    assert seen == list(ITEMS)


def test_similar_trending_session_and_rank_answer(open_site: Callable[..., httpx.Client]) -> None:
    site = open_site()
    assert "i0" not in ids(asked(site, "/similar", itemId="i0"))
    assert ids(asked(site, "/trending", numResults=2)) == ["i0", "i1"]
    session = [{"itemId": "i6", "interaction": "purchase"}]
    assert ids(asked(site, "/session", session=session, numResults=2)) == ["i6", "i0"]
    assert ids(asked(site, "/rank", userId="u", items=["i5", "x", "i2"])) == ["i2", "i5"]


def test_rules_and_pipelines_act_without_a_restart(open_site: Callable[..., httpx.Client], config: Path) -> None:
    site = open_site()
    assert ids(asked(site, userId="u", numResults=2)) == ["i0", "i1"]
    (config / "rules.toml").write_text('[top]\nwhen = {segment = ["vip"]}\npin = {items = ["i7"], position = 1}\n')
    wait_until(lambda: ids(asked(site, userId="u", numResults=2)) == ["i7", "i0"])
    (config / "pipelines.toml").write_text("[default]\nfilter = \"item_id != 'i0'\"\n")
    wait_until(lambda: ids(asked(site, userId="u", numResults=2)) == ["i7", "i1"])
    (config / "rules.toml").write_text("[top]\npin = 5\n")
    wait_until(lambda: any("rules" in lack for lack in site.get("/readyz").json()["lacks"]))
    assert ids(asked(site, userId="u", numResults=2)) == ["i7", "i1"], "what was in force stays"


def test_a_tester_chooses_a_variant_with_a_key_that_may(
    open_site: Callable[..., httpx.Client],
    control: ControlStore,
    now: datetime,
    stored: Callable[[], list[Event]],
) -> None:
    run(control, now, Variant(name="a", share=1.0), Variant(name="b", share=0.0, model="challenger"))
    site = open_site()
    assert site.post(PATH, json={"userId": "u", "variants": {"test": "b"}}).status_code == 403
    _, secret = control.create_key("tester", ["recommend", "experiments"], now)
    site.auth = (secret, "")
    answer = asked(site, userId="u", variants={"test": "b"}, numResults=1)
    assert (ids(answer), answer["variant"]) == (["i7"], "b")
    assert site.post(PATH, json={"userId": "u", "variants": {"test": "c"}}).json()["code"] == "unknown_variant"
    wait_until(lambda: any(event.properties["assignments"] for event in stored()))
    (event,) = stored()
    assert event.properties["assignments"][0]["override"] is True


def test_a_shadow_computes_and_logs_but_never_answers(
    open_site: Callable[..., httpx.Client], control: ControlStore, now: datetime, stored: Callable[[], list[Event]]
) -> None:
    run(control, now, Variant(name="a", share=1.0), Variant(name="s", share=0.0, model="challenger", shadow=True))
    site = open_site()
    for n in range(20):
        assert ids(asked(site, userId=f"u{n}", numResults=1)) == ["i0"]
    wait_until(lambda: sum(event.name == RECOMMENDATION_SHADOWED for event in stored()) == 20)
    shadow = next(event for event in stored() if event.name == RECOMMENDATION_SHADOWED)
    assert shadow.properties["variant"] == "s" and shadow.properties["items"][0]["product_id"] == "i7"


def test_an_isolated_variant_is_answered_elsewhere_and_is_not_loaded_here(
    open_site: Callable[..., httpx.Client], control: ControlStore, settings: Settings, now: datetime
) -> None:
    run(control, now, Variant(name="b", share=1.0, model="challenger", isolation="process"))
    elsewhere = IsolatedRanker(settings)
    site = open_site(ask_apart=elsewhere.decide)
    answer = asked(site, userId="u", numResults=1)
    assert ids(answer) == ["i7"] and str(answer["modelVersion"]).startswith("other@")
    models = site.get("/api/v1/models").json()["models"]
    assert "challenger" not in {model["pointer"] for model in models}
    elsewhere.close()


def test_where_the_other_process_fails_the_champion_answers_and_says_so(
    open_site: Callable[..., httpx.Client], control: ControlStore, now: datetime
) -> None:
    run(control, now, Variant(name="b", share=1.0, model="challenger", isolation="process"))

    async def gone(placement: object, request: Request) -> Apart:
        raise ConnectionError

    answer = asked(open_site(ask_apart=gone), userId="u", numResults=1)
    assert ids(answer) == ["i0"] and answer["degraded"] == "variant_process_unavailable" and answer["variant"] == "b"


def test_an_assignment_is_kept_when_shares_change_and_people_sign_in(
    open_site: Callable[..., httpx.Client], control: ControlStore, now: datetime
) -> None:
    arms = (Variant(name="a", share=0.5), Variant(name="b", share=0.5, model="challenger"))
    run(control, now, *arms)
    site = open_site()
    before = {f"d{n}": asked(site, anonymousId=f"d{n}")["variant"] for n in range(30)}
    assert set(before.values()) == {"a", "b"}
    state = ExperimentState.model_validate(control.experiment("test")).ramped(at_ms=1, by="test", shares={"b": 0.9})
    control.set_experiment("test", state.model_dump(mode="json"), by="test", at=now)
    wait_until(lambda: asked(site, userId="new-1")["variant"] is not None)
    after = {device: asked(site, userId=f"user-{device}", anonymousId=device)["variant"] for device in before}
    assert after == before, "what a device was shown is kept for the person who signs in on it"


def wait_until(holds: Callable[[], bool]) -> None:
    """Return when something holds; fail after 10 seconds."""
    import time

    deadline = time.monotonic() + 10
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.05)
