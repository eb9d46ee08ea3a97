"""The client: one object per service, safe to share among threads, with connections that are kept.

A request that was not answered, or refused for want of time (429, 503), is sent again after the time that the service
names. That does no harm: lists carry an Idempotency-Key, so that a repeat is the same decision, and events a messageId.
"""

import random
import time
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Any, Self, Unpack
from urllib.parse import quote
from uuid import uuid4

import httpx

from bespoke_client import events
from bespoke_client.errors import NoAnswer, Refused
from bespoke_client.events import Event
from bespoke_client.options import Line, ListOptions, PersonOptions, body_of
from bespoke_client.results import Profile, Receipt, Recommendations

MAX_EVENTS = 1_000
"""Of one call of ``send``."""
AGAIN = frozenset({429, 502, 503, 504})
FIRST_WAIT_S = 0.1
"""Before the second try, where the service names no time; doubled before each further one."""
LISTS = "/api/v1/recommendations"


class Bespoke:
    """A service. Use as a context manager, or call ``close`` at the end."""

    def __init__(
        self,
        url: str,
        key: str,
        *,
        timeout_s: float = 2.0,
        retries: int = 2,
        longest_wait_s: float = 5.0,
        headers: Mapping[str, str] | None = None,
        transport: httpx.BaseTransport | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """Prepare calls; nothing is sent yet.

        Args:
            url: where the service listens, such as ``https://bespoke.example.org``.
            key: an API key with the scopes that the calls need: recommend, ingest, profiles.
            timeout_s: of one try, from connecting to the whole answer.
            retries: tries after the first one.
            longest_wait_s: where the service names a longer time to wait, the call fails at once.
            headers: of every request.
            transport: how requests travel; over sockets if absent.
            sleep: waits.
        """
        self._http = httpx.Client(
            base_url=url, auth=(key, ""), timeout=timeout_s, headers=dict(headers or {}), transport=transport
        )
        self._retries, self._longest_wait_s, self._sleep = retries, longest_wait_s, sleep

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def recommend(
        self, user_id: str | None = None, *, item_id: str | None = None, **options: Unpack[PersonOptions]
    ) -> Recommendations:
        """Return items for a person.

        Args:
            user_id: the person; or name ``anonymous_id``.
            item_id: the item that the list stands beside.
            options: see :class:`bespoke_client.options.PersonOptions`.

        Raises:
            Refused: the service will not answer this, such as for want of a scope.
            NoAnswer: it does not answer now.
        """
        return self._list("", {"user_id": user_id, "item_id": item_id, **options})

    def similar(self, item_id: str, *, user_id: str | None = None, **options: Unpack[PersonOptions]) -> Recommendations:
        """Return items like one item; raises as :meth:`recommend` does."""
        return self._list("/similar", {"item_id": item_id, "user_id": user_id, **options})

    def session(
        self, session: Sequence[Line], *, user_id: str | None = None, **options: Unpack[PersonOptions]
    ) -> Recommendations:
        """Return items for what a session did, oldest first; raises as :meth:`recommend` does."""
        return self._list("/session", {"session": session, "user_id": user_id, **options})

    def trending(self, **options: Unpack[ListOptions]) -> Recommendations:
        """Return what is popular now; raises as :meth:`recommend` does."""
        return self._list("/trending", dict(options))

    def rank(
        self, items: Sequence[str], *, user_id: str | None = None, **options: Unpack[PersonOptions]
    ) -> Recommendations:
        """Return the caller's own items in the best order for a person; raises as :meth:`recommend` does."""
        return self._list("/rank", {"items": items, "user_id": user_id, **options})

    def profile(self, user_id: str, *, after: str | None = None) -> Profile | None:
        """Return what is known of a person; None where nothing is. Raises as :meth:`recommend` does."""
        query = {} if after is None else {"after": after}
        try:
            found = self._ask("GET", f"/api/v1/profiles/{quote(user_id, safe='')}", params=query)
        except Refused as refused:
            if refused.status == 404:
                return None
            raise
        return Profile.from_json(found)

    def send(self, sent: Sequence[Event]) -> Receipt:
        """Send events, at most ``MAX_EVENTS``; once this returns they are durable.

        Raises:
            Refused: none of them is valid, or the key lacks the scope ingest.
            NoAnswer: the collector does not answer now; some may be stored all the same, and are not counted twice
                where the same events are sent again.
        """
        if not 0 < len(sent) <= MAX_EVENTS:
            raise ValueError(f"{len(sent)} events, expected 1 to {MAX_EVENTS}")
        return Receipt.from_json(
            self._ask("POST", "/collect/v1/batch", json={"batch": [event.to_json() for event in sent]})
        )

    def track(
        self,
        user_id: str | None,
        event: str,
        properties: Mapping[str, Any] | None = None,
        *,
        anonymous_id: str | None = None,
    ) -> Receipt:
        """Send one thing that somebody did; raises as :meth:`send` does."""
        return self.send([events.track(user_id, event, properties, anonymous_id=anonymous_id)])

    def identify(
        self, user_id: str | None, traits: Mapping[str, Any] | None = None, *, anonymous_id: str | None = None
    ) -> Receipt:
        """Send what is known of somebody; raises as :meth:`send` does."""
        return self.send([events.identify(user_id, traits, anonymous_id=anonymous_id)])

    def _list(self, path: str, asked: Mapping[str, Any]) -> Recommendations:
        headers = {"Idempotency-Key": str(uuid4())}
        return Recommendations.from_json(self._ask("POST", f"{LISTS}{path}", json=body_of(asked), headers=headers))

    def _ask(self, method: str, path: str, **request: Any) -> dict[str, Any]:
        """Send a request until it is answered, and return what the answer holds."""
        failure = "no try"
        for number in range(self._retries + 1):
            wait_s = FIRST_WAIT_S * 2**number * random.uniform(0.5, 1.5)
            try:
                answer = self._http.request(method, path, **request)
            except httpx.TransportError as error:
                failure = f"{type(error).__name__}: {error}"
            else:
                if answer.status_code not in AGAIN:
                    return _content(answer)
                failure, wait_s = f"{answer.status_code}: {_refused(answer).message}", _named_s(answer, wait_s)
            if number == self._retries or wait_s > self._longest_wait_s:
                break
            self._sleep(wait_s)
        raise NoAnswer(f"{method} {path}: no answer after {number + 1} tries; the last one: {failure}")


def _content(answer: httpx.Response) -> dict[str, Any]:
    if not answer.is_success:
        raise _refused(answer)
    return dict(answer.json())


def _refused(answer: httpx.Response) -> Refused:
    """Return what an answer without success says."""
    try:
        about = answer.json()
        return Refused(answer.status_code, about["code"], about["message"])
    except (ValueError, KeyError, TypeError):
        # Not the service's own words: a proxy's, most likely.
        return Refused(answer.status_code, "unknown", answer.reason_phrase)


def _named_s(answer: httpx.Response, otherwise_s: float) -> float:
    """Return the seconds that an answer asks to wait."""
    try:
        return max(float(answer.headers["Retry-After"]), 0.0)
    except (KeyError, ValueError):
        return otherwise_s
