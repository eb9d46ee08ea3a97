"""Lists for many people are those that each of them would get over HTTP."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import httpx
import pyarrow as pa
import pytest
from fastapi import FastAPI

from bespoke.clock import DAY_MS, FixedClock, to_ms
from bespoke.errors import ConfigError, NotFound
from bespoke.events import ItemId, UserId
from bespoke.profiles import Profile, Recent, to_row
from serving.applications import create_recommender
from serving.batch import BatchRecommender, plan_batch
from serving.batch_files import read_people
from storage.control import ControlStore
from storage.features import OnlineFeatures, apply_feature_repo
from storage.item_changes import ItemChange
from storage.lake import Lake
from storage.profiles import StoredProfile
from storage.settings import Settings

Publish = Callable[[str, dict[str, float]], str]
ClientOf = Callable[[FastAPI], AbstractContextManager[httpx.Client]]
BOUGHT = {"u1": "i7", "u2": "i3", "anonymous:a1": "i5"}
EVERYBODY = [*BOUGHT, "stranger", "stale"]


@pytest.fixture
def installed(settings: Settings, publish: Publish, now: datetime, tmp_path: Path) -> Settings:
    """Return an installation that knows some people, online and in the lake."""
    made = settings.model_copy(update={"config_dir": tmp_path / "config"})
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "pipelines.toml").write_text("[other]\nfilter = \"item_id != 'i7'\"\n")
    version = publish("test", {f"i{n}": float(10 - n) for n in range(10)})
    with ControlStore(made.control_url) as control:
        control.set_pointer("champion", version, by="t", reason="t", at=now)
        control.change_items([ItemChange(ItemId("i1"), {"available": False}, whole=False)], by="t", at=now)
    apply_feature_repo(made)
    online = OnlineFeatures(made)
    people = {
        user_id: Profile(recent=(Recent(to_ms(now), ItemId(item_id), "purchase", 1.0),), received_ms=to_ms(now))
        for user_id, item_id in BOUGHT.items()
    }
    people["stale"] = replace(people["u1"], received_ms=to_ms(now) - 4_000 * DAY_MS)
    online.push([StoredProfile(UserId(id), profile, version=1, partition=0) for id, profile in people.items()])
    online.close()
    Lake(made.lake_dir).write_states(
        0, 0, 9, [{"user_id": id, "version": 1, **to_row(one)} for id, one in people.items()]
    )
    return made


def lists(answers: pa.Table) -> dict[str, list[tuple[str, str, str | None]]]:
    """Return item, source and degraded of each person's list."""
    found: dict[str, list[tuple[str, str, str | None]]] = {}
    for row in answers.to_pylist():
        assert row["reason"] is None
        found.setdefault(row["user_id"], []).append((row["item_id"], row["source"], row["degraded"]))
    return found


def people(*user_ids: str) -> pa.Table:
    return pa.table({"row": list(range(len(user_ids))), "user_id": list(user_ids)})


def test_one_list_of_many_is_the_list_of_one_over_http_from_either_store(
    installed: Settings, client_of: ClientOf, new_key: Callable[[str], str], now: datetime
) -> None:
    plan = plan_batch(installed, num_results=6, at=now)
    online = lists(BatchRecommender.of(installed, plan)(people(*EVERYBODY)))
    lake = Lake(installed.lake_dir).latest_states()
    assert lists(BatchRecommender.of(installed, plan, states=lake)(people(*EVERYBODY))) == online
    assert lists(BatchRecommender.of(installed, plan, states=lake)(people("stranger")))["stranger"]
    http = {}
    with client_of(create_recommender(installed, clock=FixedClock(now))) as site:
        site.auth = (new_key("recommend"), "")
        for user_id in EVERYBODY:
            name = "anonymousId" if user_id.startswith("anonymous:") else "userId"
            asked = {name: user_id.removeprefix("anonymous:"), "numResults": 6}
            answer = site.post("/api/v1/recommendations", json=asked)
            assert answer.status_code == 200, answer.text
            body = answer.json()
            http[user_id] = [(item["itemId"], item["source"], body["degraded"]) for item in body["items"]]
    assert online == http
    assert [online[user_id][0][0] for user_id in BOUGHT] == list(BOUGHT.values())
    assert online["stale"][0][2] == "features_stale"
    assert not any(row[0] == "i1" for rows in online.values() for row in rows)


def test_a_pipeline_and_a_version_can_be_named(installed: Settings, publish: Publish, now: datetime) -> None:
    version = publish("other", {"x": 2.0, "i7": 1.0})
    plan = plan_batch(installed, model=version, pipeline="other", num_results=3, at=now)
    answers = BatchRecommender.of(installed, plan)(people("u1"))
    assert answers["item_id"].to_pylist()[0] == "x"
    assert "i7" not in answers["item_id"].to_pylist()
    assert set(answers["model_version"].to_pylist()) == {version}


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ({"model": "challenger"}, "model 'challenger': no such pointer"),
        ({"model": "test@20200101T000000Z-1"}, "no such version"),
        ({"pipeline": "nope"}, "pipeline 'nope': no such pipeline; config/pipelines.toml has: default, other"),
    ],
)
def test_what_there_is_not_is_said_before_anything_is_made(
    installed: Settings, now: datetime, wanted: dict[str, str], message: str
) -> None:
    with pytest.raises(NotFound, match=message):
        BatchRecommender.of(installed, plan_batch(installed, num_results=3, at=now, **wanted))


def test_rows_that_name_nobody_are_told_with_the_reason(tmp_path: Path) -> None:
    path = tmp_path / "people.csv"
    path.write_text('user_id,more\nu1,1\n,2\n007,3\nu1,4\n"a\tb",5\nanonymous:,6\n' + "x" * 300 + ",7\n")
    good, bad = read_people(path)
    assert good.to_pylist() == [{"row": 0, "user_id": "u1"}, {"row": 2, "user_id": "007"}]
    assert [(row["row"], row["reason"]) for row in bad.to_pylist()] == [
        (1, "no id"),
        (3, "it comes twice; the first one counts"),
        (4, "an id is printable"),
        (5, "no id"),
        (6, "an id has at most 256 characters"),
    ]


@pytest.mark.parametrize("text", ["who\nu1\n", "", "user_id\n\xff\n"])
def test_a_file_without_people_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "people.csv"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(ConfigError, match=r"people\.csv"):
        read_people(path)
