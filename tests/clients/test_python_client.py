"""The Python client against the real service over a socket, and what it does when the service has no time."""

from collections.abc import Iterator

import httpx
import pytest

from bespoke_client import Bespoke, Line, NoAnswer, Promotion, Refused, track
from tests.clients.conftest import Service


@pytest.fixture
def bespoke(service: Service) -> Iterator[Bespoke]:
    """Return a client of the service."""
    with Bespoke(service.url, service.key, timeout_s=10.0) as client:
        yield client


def test_a_list_comes_back_typed(bespoke: Bespoke) -> None:
    answer = bespoke.recommend("somebody", num_results=3)
    assert answer.item_ids == ("p0", "p1", "p2")
    assert answer.items[0].name == "P0"
    assert answer.model_version is not None and answer.model_version.startswith("buy_again@")
    assert len(answer.recommendation_id) == 32


def test_a_filter_with_a_parameter_holds(bespoke: Bespoke) -> None:
    answer = bespoke.recommend("somebody", filter="price < $most", filter_values={"most": 3})
    assert set(answer.item_ids) == {"p8", "p9"}


def test_the_next_page_repeats_nothing(bespoke: Bespoke) -> None:
    first = bespoke.recommend("somebody", num_results=4)
    assert first.next_page is not None
    second = bespoke.recommend("somebody", num_results=4, page=first.next_page)
    assert set(first.item_ids).isdisjoint(second.item_ids)


def test_a_promotion_has_its_place(bespoke: Bespoke) -> None:
    cheap = Promotion("cheap", "price < 2", share=0.25)
    assert "p9" in bespoke.recommend("somebody", num_results=4, promotions=[cheap]).item_ids


def test_own_items_come_back_in_order(bespoke: Bespoke) -> None:
    assert bespoke.rank(["p7", "p2", "p5"], user_id="somebody").item_ids == ("p2", "p5", "p7")


def test_trending_and_session_need_no_person(bespoke: Bespoke) -> None:
    assert bespoke.trending(num_results=2).item_ids == ("p0", "p1")
    assert bespoke.session([Line("p6", "purchase")], num_results=1).item_ids == ("p6",)


def test_similar_items_leave_out_the_item(bespoke: Bespoke) -> None:
    assert "p0" not in bespoke.similar("p0", num_results=5).item_ids


def test_a_profile_is_typed_and_a_stranger_has_none(bespoke: Bespoke) -> None:
    found = bespoke.profile("alice")
    assert found is not None and found.segments == ("vip",) and found.version == 3
    assert bespoke.profile("nobody/at all") is None


def test_events_are_stored_once_though_sent_twice(bespoke: Bespoke, service: Service) -> None:
    events = [track("carol", "Product Viewed", {"product_id": f"p{n}"}) for n in range(5)]
    first, second = bespoke.send(events), bespoke.send(events)
    assert first.accepted == second.accepted == 5
    stored = {event.message_id for event in service.stored() if event.user_id == "carol"}
    assert stored == {event.message_id for event in events}


def test_a_bad_event_is_named_and_the_others_are_stored(bespoke: Bespoke) -> None:
    bad = track("dave", "Order Completed", {"products": [{"product_id": "p1", "price": "much"}]})
    receipt = bespoke.send([track("dave", "Product Viewed", {"product_id": "p1"}), bad])
    assert receipt.accepted == 1
    assert [one.message_id for one in receipt.rejected] == [bad.message_id]


def test_a_wrong_key_is_refused_at_once(service: Service) -> None:
    with Bespoke(service.url, "wrong", sleep=never) as client, pytest.raises(Refused) as refused:
        client.recommend("alice")
    assert refused.value.status == 401


def test_a_bad_filter_says_what_is_wrong(bespoke: Bespoke) -> None:
    with pytest.raises(Refused, match="422"):
        bespoke.recommend("alice", filter="price <")


def never(wait_s: float) -> None:
    """Stand for a wait that must not happen."""
    raise AssertionError(f"it waited {wait_s} s")


def refusing(times: int, status: int, headers: dict[str, str], seen: list[httpx.Request]) -> httpx.MockTransport:
    """Return a way to a service that has no time so often, and then answers."""

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        if len(seen) <= times:
            return httpx.Response(status, headers=headers, json={"code": "overloaded", "message": "try again"})
        return httpx.Response(200, json={"accepted": 1, "token": "t"})

    return httpx.MockTransport(answer)


@pytest.mark.parametrize("status", [429, 503])
def test_it_waits_as_long_as_the_service_says(status: int) -> None:
    waits: list[float] = []
    seen: list[httpx.Request] = []
    transport = refusing(2, status, {"Retry-After": "3"}, seen)
    with Bespoke("http://test", "key", transport=transport, sleep=waits.append) as client:
        assert client.track("alice", "Product Viewed").accepted == 1
    assert waits == [3.0, 3.0]
    assert len({request.content for request in seen}) == 1, "a repeat is the same message"


def test_it_gives_up_where_the_wait_is_too_long() -> None:
    transport = refusing(1, 503, {"Retry-After": "60"}, [])
    with Bespoke("http://test", "key", transport=transport, sleep=never) as client, pytest.raises(NoAnswer):
        client.track("alice", "Product Viewed")


def test_a_repeated_list_is_the_same_decision() -> None:
    seen: list[httpx.Request] = []
    transport = refusing(2, 503, {"Retry-After": "0"}, seen)
    with Bespoke("http://test", "key", transport=transport) as client, pytest.raises(KeyError):
        client.recommend("alice")
    assert len(seen) == 3
    assert len({request.headers["Idempotency-Key"] for request in seen}) == 1


def test_nobody_there_is_no_answer() -> None:
    with Bespoke("http://127.0.0.1:1", "key", retries=1, sleep=lambda _: None) as client, pytest.raises(NoAnswer):
        client.trending()


def test_an_event_is_somebodys() -> None:
    with pytest.raises(ValueError, match="user_id"):
        track(None, "Product Viewed")
