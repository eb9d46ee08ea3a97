"""Decisions made again: everything that one followed from is put together as it was then, and asked once more."""

import logging
import threading
from collections import OrderedDict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from typing import Any, Protocol

from bespoke.errors import BespokeError, BundleError, InvalidEvent, NotFound
from bespoke.events import Event, ItemId, UserId
from bespoke.models.bundle import Bundle, read_bundle
from bespoke.profiles import EMPTY, Profile, from_row
from bespoke.recommend import MODEL_FAILED, Decision, Engine, Request
from bespoke.recommend.settings import parse_pipeline
from bespoke.rules import load_rules
from serving.decisions import RECORD, DecisionRecord
from serving.explaining import Explanation, differences, explain
from serving.kit import Kit, reference
from serving.people import FeatureReader
from serving.pipelines import Recipes
from storage.bundles import BundleStore
from storage.decision_log import DecisionLog, TooFresh
from storage.item_changes import LiveItem
from storage.live_catalog import Overlay

logger = logging.getLogger(__name__)

KITS_KEPT = 2
"""So many put-together pasts are kept: whoever explains one decision explains its neighbours next."""


class NotReplayable(BespokeError):
    """Something that the decision followed from is no longer kept, so it cannot be made again."""


class PastStore(Protocol):
    """Where contexts and past catalogs are kept: the control store."""

    def context(self, fingerprint: str) -> Mapping[str, Any]: ...
    def items_at(self, seq: int) -> list[LiveItem]: ...


@dataclass(frozen=True, slots=True)
class Replay:
    """A decision that was made again."""

    event: Event
    record: DecisionRecord
    explanation: Explanation
    differences: tuple[str, ...]
    """In what it is not as it was; nothing where it is the same."""

    @property
    def identical(self) -> bool:
        """Whether it came out as it was."""
        return not self.differences


class Replayer:
    """Makes decisions again. Safe to share between threads."""

    def __init__(
        self,
        decisions: DecisionLog,
        past: PastStore,
        bundles: BundleStore,
        *,
        features: FeatureReader,
        columns: Callable[[str], Collection[str]],
        kit: Callable[[], Kit] = Kit,
    ) -> None:
        """Use an installation's stores.

        Args:
            decisions: what was served, and people's states.
            past: contexts and past catalogs.
            bundles: model versions.
            features: states that are too fresh for the lake.
            columns: the columns that a feature service names.
            kit: what is loaded now; of a version that it holds nothing is loaded again.
        """
        self._decisions, self._past, self._bundles = decisions, past, bundles
        self._features, self._columns, self._kit = features, columns, kit
        self._kits: OrderedDict[tuple[str, int], Kit] = OrderedDict()
        self._making = threading.Lock()

    def replay(
        self,
        recommendation_id: str,
        *,
        items: Sequence[ItemId] = (),
        day: date | None = None,
        give_up: Callable[[], bool] = lambda: False,
    ) -> Replay:
        """Find a decision and make it again.

        Args:
            recommendation_id: of the answer.
            items: to tell why they are not in the list.
            day: when it was served, in UTC, where that is known.
            give_up: asked while the lake is looked through.

        Raises:
            NotFound: there is no such decision; NotSearched: none was found before ``give_up`` said so.
            TooFresh: the person's state is on its way to the lake.
            NotReplayable: something that it followed from is no longer kept.
            Unavailable: a store cannot be reached.
        """
        event = self._decisions.find(f"served-{recommendation_id}", day=day, give_up=give_up)
        try:
            record = DecisionRecord.from_properties(event.properties.get(RECORD))
            kit = self._kit_of(record)
            request = record.request(
                self._profile(record, event), person=event.person, at_ms=event.at_ms, seed=recommendation_id
            )
        except InvalidEvent as error:
            raise NotReplayable(f"the decision was logged without what is needed to make it again: {error}") from error
        engine = kit.engine(record.model or "", record.pipeline)
        decision = _asked_again(kit, engine, request)
        found = differences(decision, event.properties.get("items", ()))
        explanation = explain(request, decision, engine=engine, rules=kit.recipes.rules, items=items)
        return Replay(event, record, explanation, tuple(found))

    def _profile(self, record: DecisionRecord, event: Event) -> Profile:
        if record.stale or record.profile_version is None:
            return EMPTY
        names = None if record.feature_service is None else self._columns(record.feature_service)
        try:
            row = self._decisions.state(event.person, record.profile_version)
        except TooFresh:
            return self._online(record, event.person, at_ms=event.at_ms)
        except NotFound as error:
            raise NotReplayable(str(error)) from error
        return from_row(row if names is None else {name: value for name, value in row.items() if name in names})

    def _online(self, record: DecisionRecord, person: UserId, *, at_ms: int) -> Profile:
        """Return the state that is served now, if it still is the one of then."""
        if record.feature_service is not None:
            found = self._features.read([person], service=record.feature_service, at_ms=at_ms).get(person)
            if found is not None and found.version == record.profile_version:
                return found.profile
        raise TooFresh("the person's state of that time is on its way to the lake; ask again in some seconds")

    def _kit_of(self, record: DecisionRecord) -> Kit:
        if record.context is None:
            why = "the control store was away, or a process of its own answered for the variant"
            raise NotReplayable(f"its settings were not kept when it was served: {why}")
        key = record.context, record.catalog_seq
        # One at a time: whoever comes meanwhile most likely wants the same one, and each takes memory.
        with self._making:
            kit = self._kits.get(key)
            if kit is None:
                kit = self._kits[key] = self._made(record.context, record.catalog_seq)
                while len(self._kits) > KITS_KEPT:
                    self._kits.popitem(last=False)
        return kit

    def _made(self, fingerprint: str, seq: int) -> Kit:
        try:
            body = self._past.context(fingerprint)
        except NotFound as error:
            raise NotReplayable(str(error)) from error
        now = self._kit()
        same = now.overlay.seq == seq
        overlay = Overlay(now.overlay.changes, seq) if same else Overlay.of(self._past.items_at(seq), seq=seq)
        loaded = {reference(bundle): bundle for bundle in now.bundles.values()}
        return kit_of(body, overlay=overlay, load=lambda version: loaded.get(version) or self._load(version))

    def _load(self, version: str) -> Bundle:
        name, _, number = version.partition("@")
        try:
            return read_bundle(self._bundles.path(name, number))
        except (NotFound, BundleError) as error:
            logger.warning("a decision cannot be made again: %s", error)
            raise NotReplayable(f"model version {version} was deleted or altered since") from error


def _asked_again(kit: Kit, engine: Engine, request: Request) -> Decision:
    try:
        # Nothing is late here: what was skipped then is named in the request.
        return engine.recommend(request, timer=lambda: 0.0)
    except Exception as error:
        # Whatever a model raised then, and the fallbacks answered in its place.
        logger.warning("a decision fails again: %s", type(error).__name__)
        return replace(kit.engine("").recommend(request, timer=lambda: 0.0), degraded=MODEL_FAILED)


def kit_of(body: Mapping[str, Any], *, overlay: Overlay, load: Callable[[str], Bundle]) -> Kit:
    """Put together what lists are made with.

    Args:
        body: a serving context, as :func:`serving.snapshot.context_of` says it.
        overlay: the live changes.
        load: returns the bundle of a ``name@version``.
    """
    wanted = {name: version for name, version in body["models"].items() if version is not None}
    of_version = {version: load(version) for version in sorted(set(wanted.values()))}
    bundles = {name: of_version[version] for name, version in wanted.items()}
    return Kit.of(bundles, recipes=recipes_of(body), overlay=overlay)


def recipes_of(body: Mapping[str, Any]) -> Recipes:
    """Return how lists were made, by a kept context."""
    pipelines = {name: parse_pipeline(name, said) for name, said in body["pipelines"].items()}
    return Recipes(pipelines, load_rules(body["rules"]), body["rules"])
