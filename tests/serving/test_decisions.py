"""What is logged of a decision gives the request back, to the letter."""

from dataclasses import fields

import orjson
import pytest

from bespoke.errors import InvalidEvent
from bespoke.events import ItemId, UserId
from bespoke.expressions import parse_expression
from bespoke.profiles import EMPTY, Profile, Recent
from bespoke.recommend import Filter, Promotion, Question, Request
from serving.decisions import DecisionRecord

PERSON = UserId("u1")
BOUGHT, VIEWED = Recent(1, ItemId("tea"), "purchase", 2.0), Recent(3, ItemId("mug"), "view", 1.0)
PROFILE = Profile(recent=(BOUGHT,))
CHEAP = Filter(parse_expression("category == $c and price < 5"), {"c": ["TEA", "MUGS"]})
FULL = Request(
    PERSON,
    at_ms=9,
    num_results=7,
    question=Question.RANK,
    recent=(BOUGHT, VIEWED),
    item_id=ItemId("mug"),
    rank=(ItemId("b"), ItemId("a")),
    exclude=frozenset({ItemId("x"), ItemId("y")}),
    exclude_seen=True,
    filter=CHEAP,
    promotions=(Promotion("spring", CHEAP, 0.25),),
    segments=frozenset({"loyal", "new"}),
    surface="home",
    channel="web",
    context={"device": "phone", "n": 3, "share": 0.5, "is_new": True},
    shown={ItemId("tea"): 4},
    seed="r1",
    degraded="features_stale",
    skip=frozenset({"diversify"}),
)


def recorded(request: Request, profile: Profile = PROFILE, **about: object) -> DecisionRecord:
    """Return a record as it comes back from the log."""
    given: dict[str, object] = {"context": "c", "pipeline": "default", "model": "champion", "catalog_seq": 3}
    given |= {"profile_version": 7, "feature_service": "als", "skipped": sorted(request.skip), **about}
    record = DecisionRecord.of(request, profile=profile, **given)  # type: ignore[arg-type]
    return DecisionRecord.from_properties(orjson.loads(orjson.dumps(record.to_properties())))


def asked_again(record: DecisionRecord, profile: Profile = PROFILE) -> Request:
    return record.request(profile, person=PERSON, at_ms=9, seed="r1")


def test_a_request_with_everything_in_it_comes_back() -> None:
    nothing = Request(None, 0)
    assert [one.name for one in fields(Request) if getattr(FULL, one.name) == getattr(nothing, one.name)] == []
    again = asked_again(recorded(FULL))
    assert again.filter is not None
    assert str(again.filter.expression) == str(CHEAP.expression)
    assert again == FULL


def test_a_plain_request_takes_little_room() -> None:
    record = DecisionRecord.of(
        Request(PERSON, 9), context="c", pipeline="default", model="champion", catalog_seq=0, skipped=()
    )
    assert record.to_properties() == {"format": 1, "context": "c", "pipeline": "default", "model": "champion"}
    assert asked_again(DecisionRecord.from_properties(record.to_properties()), EMPTY) == Request(PERSON, 9, seed="r1")


def test_lines_of_the_profile_are_left_to_the_profile_and_others_are_kept() -> None:
    record = recorded(FULL)
    assert (record.profile_version, record.own_lines) == (7, [list(VIEWED)])


def test_a_request_whose_lines_are_not_the_profile_s_needs_no_profile() -> None:
    request = Request(None, 9, recent=(VIEWED,), seed="r1")
    record = recorded(request)
    assert record.profile_version is None
    assert asked_again(record, EMPTY) == request


@pytest.mark.parametrize("properties", [None, {}, {"format": 2, "asked": {}}, {"format": 1, "asked": {"new_field": 1}}])
def test_what_this_version_cannot_read_is_refused(properties: object) -> None:
    with pytest.raises(InvalidEvent, match="decision: got"):
        asked_again(DecisionRecord.from_properties(properties))
