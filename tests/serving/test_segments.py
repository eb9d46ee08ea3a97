"""Segments over HTTP: names, meanings and sizes, from the file as it is now and from what was counted."""

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from bespoke.clock import FixedClock
from serving.applications import create_recommender
from storage.control import ControlStore
from storage.settings import Settings

ClientOf = Callable[[FastAPI], AbstractContextManager[httpx.Client]]
PATH = "/api/v1/segments"
SEGMENTS = """
[buyers]
meaning = "Bought something lately"
all = [{ feature = "orders_90d", at_least = 1 }, { trait = "city", is = "Bern" }]

[loyal]
all = [{ segment = "buyers" }, { feature = "recency_days", below = 7 }]
"""


class NoFeatures:
    """Nobody is known: these routes read no profile."""

    def read(self, user_ids: Any, *, service: str, at_ms: int) -> Any:
        return {}

    def ready(self) -> bool:
        return True


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """Return a folder of settings with two segments."""
    folder = tmp_path / "config"
    folder.mkdir()
    (folder / "segments.toml").write_text(SEGMENTS)
    return folder


@pytest.fixture
def site(
    settings: Settings, config: Path, client_of: ClientOf, new_key: Callable[[str], str], now: datetime
) -> Iterator[httpx.Client]:
    """Return a client with a key for profiles; sizes of three times are known, the last one being 3 and 1."""
    with ControlStore(settings.control_url) as control:
        for step in range(3):
            control.save_sizes({"buyers": 1 + step, "loyal": 1}, at=now + timedelta(minutes=10 * step))
    made = settings.model_copy(update={"config_dir": config})
    with client_of(create_recommender(made, features=NoFeatures(), clock=FixedClock(now))) as client:
        client.auth = (new_key("profiles"), "")
        yield client


def test_all_segments_are_listed_with_what_they_mean_and_their_sizes(site: httpx.Client) -> None:
    found = site.get(PATH).json()
    assert [(s["name"], s["meaning"], s["size"]) for s in found["segments"]] == [
        ("buyers", "Bought something lately", 3),
        ("loyal", "", 1),
    ]
    assert found["problem"] is None


def test_one_segment_says_how_its_size_went_and_what_it_reads(site: httpx.Client, now: datetime) -> None:
    found = site.get(f"{PATH}/loyal").json()
    assert found["reads"] == {
        "features": ["orders_90d", "recency_days"],
        "scores": [],
        "traits": ["city"],
        "segments": ["buyers"],
    }
    sizes = site.get(f"{PATH}/buyers").json()["sizes"]
    assert [(datetime.fromisoformat(s["at"]), s["members"]) for s in sizes] == [
        (now + timedelta(minutes=10 * step), 1 + step) for step in range(3)
    ]


def test_sizes_can_be_cut_and_the_present_one_stays(site: httpx.Client, now: datetime) -> None:
    since = (now + timedelta(minutes=10)).isoformat()
    assert [s["members"] for s in site.get(f"{PATH}/buyers", params={"since": since}).json()["sizes"]] == [2, 3]
    assert [s["members"] for s in site.get(f"{PATH}/buyers", params={"limit": "1"}).json()["sizes"]] == [3]
    later = site.get(f"{PATH}/buyers", params={"since": "2030-01-01"}).json()
    assert (later["sizes"], later["size"]) == ([], 3)


def test_a_segment_that_there_is_not_is_told_with_those_that_resemble_it(site: httpx.Client) -> None:
    answer = site.get(f"{PATH}/buyer")
    assert (answer.status_code, answer.json()["code"], answer.json()["near"]) == (404, "unknown_segment", ["buyers"])
    assert "did you mean buyers?" in answer.json()["message"]


def test_definitions_follow_the_file_and_a_broken_one_changes_nothing(site: httpx.Client, config: Path) -> None:
    before = site.get(f"{PATH}/buyers").json()["fingerprint"]
    rewrite(config, "[buyers]\nall = [{ feature = 'tarot', above = 1 }]\n")
    broken = site.get(PATH).json()
    assert len(broken["segments"]) == 2 and "tarot" in broken["problem"]
    assert site.get(f"{PATH}/buyers").json()["fingerprint"] == before
    rewrite(config, "[buyers]\nall = [{ feature = 'orders_90d', at_least = 2 }]\n")
    mended = site.get(PATH).json()
    assert ([s["name"] for s in mended["segments"]], mended["problem"]) == (["buyers"], None)
    assert site.get(f"{PATH}/buyers").json()["fingerprint"] != before


def rewrite(config: Path, text: str) -> None:
    """Write the file anew, with a time of its own."""
    path = config / "segments.toml"
    path.write_text(text)
    os.utime(path, ns=(0, path.stat().st_mtime_ns + 1))


def test_segments_that_were_never_counted_have_no_size(site: httpx.Client, config: Path) -> None:
    rewrite(config, '[fresh]\nall = [{ trait = "city", is = "Bern" }]\n')
    (fresh,) = site.get(PATH).json()["segments"]
    assert (fresh["size"], fresh["sizeAt"]) == (None, None)


def test_segments_need_a_key_for_profiles(site: httpx.Client, new_key: Callable[[str], str]) -> None:
    for path in (PATH, f"{PATH}/buyers"):
        assert site.get(path, auth=("nobody", "")).status_code == 401
        assert site.get(path, auth=(new_key("recommend"), "")).status_code == 403
