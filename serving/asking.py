"""From the forms of requests to what is asked: one shape for all kinds of lists."""

from dataclasses import dataclass
from datetime import datetime
from typing import Self

from bespoke.errors import ConfigError
from bespoke.events import ItemId, UserId, person_id
from bespoke.profiles import Recent
from bespoke.recommend import Filter, Promotion, Question, Request
from serving.errors import RequestError
from serving.paging import from_page
from serving.people import PersonState
from serving.recommendation_forms import (
    AskedForPerson,
    AskedList,
    RankRequest,
    RecommendationRequest,
    SessionRequest,
    SimilarRequest,
    to_filter,
)
from serving.tokens import from_token


@dataclass(frozen=True, slots=True)
class Ask:
    """One request, read and checked."""

    form: AskedList
    question: Question
    person: UserId | None
    """Whose list it is; None where nobody was named."""
    filter: Filter | None
    promotions: tuple[Promotion, ...]
    shown: frozenset[ItemId]
    """What stood on the pages before."""
    after: dict[int, int] | None
    session: tuple[Recent, ...] = ()

    @classmethod
    def of(cls, form: AskedList, *, at: datetime) -> Self:
        """Read a form.

        Raises:
            RequestError: a filter, a page or a token is none.
        """
        named = form if isinstance(form, AskedForPerson) else None
        known = named is not None and (named.user_id is not None or named.anonymous_id is not None)
        after = None if named is None or named.after is None else from_token(named.after)
        try:
            filter = None if form.filter is None else to_filter(form.filter, form.filter_values)
            promotions = form.to_promotions()
        except ConfigError as error:
            raise RequestError(422, "invalid_filter", str(error)) from None
        return cls(
            form,
            _question(form),
            person_id(named.user_id, named.anonymous_id) if known and named is not None else None,
            filter,
            promotions,
            from_page(form.page),
            after,
            form.to_lines(at) if isinstance(form, SessionRequest) else (),
        )

    @property
    def ids(self) -> tuple[str | None, str | None]:
        """User id and anonymous id."""
        form = self.form
        return (form.user_id, form.anonymous_id) if isinstance(form, AskedForPerson) else (None, None)

    @property
    def item_id(self) -> ItemId | None:
        """The item that the list stands beside."""
        form = self.form
        item_id = form.item_id if isinstance(form, RecommendationRequest | SimilarRequest) else None
        return None if item_id is None else ItemId(item_id)

    def request(self, state: PersonState, *, at_ms: int, seed: str) -> Request:
        """Return what the engine takes, with what is known of the person."""
        form = self.form
        return Request(
            user_id=self.person,
            at_ms=at_ms,
            num_results=form.num_results,
            question=self.question,
            recent=(*state.profile.recent, *self.session) if self.session else state.profile.recent,
            item_id=self.item_id,
            rank=tuple(map(ItemId, form.items)) if isinstance(form, RankRequest) else (),
            exclude=frozenset(map(ItemId, form.exclude)) | self.shown,
            exclude_seen=isinstance(form, AskedForPerson) and form.exclude_seen,
            filter=self.filter,
            promotions=self.promotions,
            segments=frozenset(state.segments),
            surface=form.surface,
            channel=form.channel,
            context=form.context,
            seed=seed,
            degraded=state.degraded,
        )


def _question(form: AskedList) -> Question:
    match form:
        case RankRequest():
            return Question.RANK
        case SimilarRequest():
            return Question.SIMILAR
        case RecommendationRequest() | SessionRequest():
            return Question.PERSON
    return Question.TRENDING
