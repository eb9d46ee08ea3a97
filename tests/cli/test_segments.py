"""`bespoke segments`: what is defined, who is in it and why, as tables for people and as JSON for scripts."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import orjson
import pytest
from typer.testing import CliRunner

from bespoke.clock import to_ms
from bespoke.errors import BespokeError
from bespoke.events import UserId
from bespoke.profiles import Profile, Trait
from cli.main import app
from storage.control import ControlStore, Delivery
from storage.profiles import Commit, Membership, ProfileStore, StoredProfile
from storage.settings import Settings

AT = datetime(2026, 3, 1, 12, tzinfo=UTC)
SEGMENTS = """
[bernese]
meaning = "Live in Bern"
all = [{ trait = "city", is = "Bern" }]

[elsewhere]
not = { segment = "bernese" }
"""


@pytest.fixture(autouse=True)
def house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An installation with three people, of whom two live in Bern, and whose sizes were counted twice."""
    config = tmp_path / "config"
    config.mkdir()
    (config / "segments.toml").write_text(SEGMENTS)
    monkeypatch.setenv("BESPOKE_HOME", str(tmp_path / "var"))
    monkeypatch.setenv("BESPOKE_CONFIG_DIR", str(config))
    settings = Settings()
    settings.home.mkdir()
    people = [person("u1", "Bern", "bernese"), person("u2", "Bern", "bernese"), person("u3", "Basel", "elsewhere")]
    inside = [Membership(one.user_id, one.segments[0], 0, True, 1, to_ms(AT)) for one in people]
    store = ProfileStore(settings.profiles_url)
    store.commit(Commit(0, 0, 3, people, [], [], memberships=inside))
    store.close()
    with ControlStore(settings.control_url) as control:
        for day, members in ((0, 1), (1, 2)):
            control.save_sizes({"bernese": members}, at=AT + timedelta(days=day))
    return config


def person(user: str, city: str, segment: str) -> StoredProfile:
    profile = Profile(traits={"city": Trait(to_ms(AT), f'"{city}"')})
    return StoredProfile(UserId(user), profile, 1, 0, (segment,))


def run(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, ("segments", *arguments))
    if isinstance(result.exception, BespokeError):
        return 1, str(result.exception)
    return result.exit_code, result.output


def found(*arguments: str) -> Any:
    code, output = run(*arguments, "--json")
    assert code == 0, output
    return orjson.loads(output)


def test_segments_are_listed_with_their_sizes() -> None:
    assert found("list")["segments"] == [
        {"name": "bernese", "members": 2, "meaning": "Live in Bern"},
        {"name": "elsewhere", "members": 1, "meaning": ""},
    ]
    assert "Live in Bern" in run("list")[1]


def test_a_file_is_checked_and_said_in_words(house: Path) -> None:
    code, output = run("check")
    assert (code, output.splitlines()[:4]) == (
        0,
        ["bernese: Live in Bern", "  all of", '    trait city is "Bern"', "elsewhere"],
    )
    assert [one["name"] for one in found("check", str(house / "segments.toml"))["segments"]] == ["bernese", "elsewhere"]


def test_what_is_wrong_in_a_file_is_told(house: Path) -> None:
    other = house.parent / "mine.toml"
    other.write_text('[x]\nall = [{ feature = "revenu", above = 1 }]\n')
    code, output = run("check", str(other))
    assert code == 1 and "mine.toml" in output and "'revenue'" in output
    assert run("check", str(house / "none.toml"))[0] == 1


def test_scores_may_be_named_in_a_file_where_the_installation_has_them(house: Path) -> None:
    (house / "scores").mkdir()
    (house / "scores" / "churn.toml").write_text("")
    other = house.parent / "mine.toml"
    other.write_text('[x]\nall = [{ score = "churn", above = 0.5 }]\n')
    assert "score churn above 0.5" in run("check", str(other))[1]


def test_sizes_are_counted_now_and_over_time() -> None:
    (bernese,) = found("count", "bernese")["segments"]
    assert (bernese["members"], [size["members"] for size in bernese["sizes"]]) == (2, [1, 2])
    (later,) = found("count", "bernese", "--since", "2026-03-02")["segments"]
    assert [size["members"] for size in later["sizes"]] == [2]
    assert [one["members"] for one in found("count")["segments"]] == [2, 1]
    assert "bernese: 2 now" in run("count")[1]


def test_a_name_that_is_none_is_told_with_what_was_meant() -> None:
    for command in (("count", "bernes"), ("members", "bernes"), ("explain", "u1", "bernes")):
        code, output = run(*command)
        assert code == 1 and "did you mean bernese?" in output


def test_members_come_by_pages() -> None:
    (first,) = found("members", "bernese", "--limit", "1")["members"]
    assert (first["id"], datetime.fromisoformat(first["since"]), first["ordinal"]) == ("u1", AT, 1)
    assert [one["id"] for one in found("members", "bernese", "--after", "u1")["members"]] == ["u2"]
    assert "--after u1" in run("members", "bernese", "--limit", "1")[1]


def test_why_somebody_is_in_or_not_is_explained_as_a_tree() -> None:
    code, output = run("explain", "u3")
    assert (code, output.splitlines()[0]) == (0, "bernese: not in")
    assert '    no  trait city is "Bern": "Basel"' in output
    assert "elsewhere: in" in output
    (why,) = found("explain", "u1", "bernese")["segments"]
    assert (why["inside"], why["kept"], why["why"]["parts"][0]["found"]) == (True, True, '"Bern"')


def test_where_the_processor_has_not_looked_yet_is_said(house: Path) -> None:
    (house / "segments.toml").write_text('[bernese]\nall = [{ trait = "city", is = "Basel" }]\n')
    assert "bernese: not in (the processor has them in until it looks again)" in run("explain", "u1", "bernese")[1]


def test_nobody_can_be_explained_who_is_not_known() -> None:
    code, output = run("explain", "nobody")
    assert code == 1 and "'nobody'" in output


def test_what_was_given_up_is_listed_without_the_person_and_tried_again() -> None:
    with ControlStore(Settings().control_url) as control:
        control.put_off([Delivery("crm", "segment-1", "u1", b"{}", 3, None, "answered 500")])
    assert found("undelivered")["undelivered"] == []
    [row] = found("undelivered", "--dead")["undelivered"]
    assert row == {"subscriber": "crm", "messageId": "segment-1", "attempts": 3, "next": None, "error": "answered 500"}
    assert found("undelivered", "--retry") == {"revived": 1}
    assert [row["messageId"] for row in found("undelivered")["undelivered"]] == ["segment-1"]
