"""Training: measure on test days, pass the gate, learn anew up to the cut, publish."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path

import pyarrow as pa

from bespoke.catalog import Catalog
from bespoke.clock import to_ms
from bespoke.errors import BespokeError, ConfigError, TrainingError
from bespoke.events import UserId
from bespoke.models.base import Model
from bespoke.models.bundle import Window, read_bundle, read_manifest
from bespoke.models.history import History
from bespoke.models.verdict import Verdict
from storage.bundles import BundleStore
from storage.lake import Lake
from storage.settings import Settings
from training.catalog import known_catalog
from training.champion import CHAMPION, Opponent, find_champion, opponent
from training.configs import load_config
from training.dataset import Basket, histories, read_interactions, require_recent
from training.evaluate import Measured, Metrics, Say, held_out_baskets, measure
from training.fit import FitRequest, Fitted, fit_remotely
from training.gate import BASELINES, judge, require_sound
from training.golden import golden_check
from training.publish import About, publish
from training.segment import publish_popular, require_segment
from training.windows import Windows

LENGTHS = (20,)


@dataclass(frozen=True, slots=True)
class TrainRequest:
    """What to train."""

    kinds: tuple[str, ...]
    until: datetime
    """The cut: nothing from this time on is seen."""
    window: timedelta
    config_path: Path | None = None
    """Settings of the one kind; config/models/KIND.toml by default."""
    seed: int = 0
    incremental: bool = False
    """Begin from the last version of each kind."""
    force: bool = False
    """Publish also what the gate rejects, or what cannot be measured, as fit to serve."""
    segment: str | None = None
    """Popularity of this segment's members alone, which is not measured; None: of everybody."""

    @property
    def windows(self) -> Windows:
        """Return the days for learning, choosing and measuring."""
        return Windows(self.until, self.window)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one kind."""

    reference: str
    """NAME@VERSION."""
    verdict: Verdict
    curve: tuple[float, ...]
    """The loss after each epoch."""


@dataclass(frozen=True, slots=True)
class HeldOut:
    """What models are measured on."""

    taken: tuple[Basket, ...]
    """The baskets of the test days; none where the data does not reach."""
    known: Mapping[UserId, History]
    """Everybody as of the cut before the test days."""
    catalog: Catalog
    """As of that cut."""


@dataclass(frozen=True, slots=True)
class Trained:
    """What a training did."""

    outcomes: dict[str, Outcome]
    """By kind: what was published, as fit to serve or as rejected."""
    errors: dict[str, str]
    """By kind: why there is nothing."""
    measured: dict[str, Measured]
    """By kind, the champion's as ``champion``: what was shown on the test days; empty where there are none."""
    test: HeldOut
    seconds: float

    @property
    def references(self) -> dict[str, str]:
        """Return NAME@VERSION by kind."""
        return {kind: outcome.reference for kind, outcome in self.outcomes.items()}

    @property
    def metrics(self) -> dict[str, Metrics]:
        """Return the metrics on the test days, also those of the baselines."""
        return {kind: measured.means for kind, measured in self.measured.items()}


def train_and_publish(request: TrainRequest, settings: Settings, *, say: Say) -> Trained:
    """Train each kind: measured beside champion and baselines, judged, and published as fit to serve or as rejected.

    One kind's failure does not stop the others; where only one was asked for, it is raised.

    Raises:
        ConfigError: the settings are wrong.
        NotFound: there is no such kind of model.
        TrainingError: there is nothing to learn from or to measure on, or a model collapsed.
    """
    started = time.perf_counter()
    fits = check(request, settings)
    if request.segment is not None:
        (kind,) = request.kinds
        reference, verdict = publish_popular(request.segment, fits[kind], request.windows, settings, say=say)
        outcomes = {kind: Outcome(reference, verdict, ())}
        return Trained(outcomes, {}, {}, HeldOut((), {}, {}), time.perf_counter() - started)
    training = _Training.begin(request, settings, fits, say=say)
    outcomes, errors = {}, {}
    for kind in request.kinds:
        try:
            outcomes[kind] = training.run(kind)
        except BespokeError as error:
            if len(request.kinds) == 1:
                raise
            errors[kind] = str(error)
            say(f"{kind}: nothing published: {error}")
    return Trained(outcomes, errors, training.measured, training.test, time.perf_counter() - started)


def check(request: TrainRequest, settings: Settings) -> dict[str, FitRequest]:
    """Look for what would make a training fail, without Ray; return how to fit the wanted kinds and the baselines.

    Raises:
        ConfigError: the settings are wrong, or the file that was asked for is missing.
        NotFound: there is no such kind of model, or no such segment.
        TrainingError: the lake is empty, or everything in it is older than the window.
    """
    if request.config_path is not None and len(request.kinds) != 1:
        raise ConfigError(f"one file of settings is for one kind of model, got {', '.join(request.kinds)}")
    if request.segment is not None:
        require_segment(request.segment, kinds=request.kinds, config_dir=settings.config_dir)
    fits = _fits(request, settings)
    require_recent(Lake(settings.lake_dir), since_ms=to_ms(request.until - request.window))
    return fits


def _fits(request: TrainRequest, settings: Settings) -> dict[str, FitRequest]:
    """Return how to fit the wanted kinds and the baselines, up to the cut."""
    windows, fits = request.windows, {}
    for kind in dict.fromkeys((*request.kinds, *BASELINES)):
        own = request.config_path if kind in request.kinds else None
        path = own or settings.config_dir / "models" / f"{kind}.toml"
        config = load_config(kind, path, required=own is not None)
        fits[kind] = FitRequest(
            kind, config, windows.until_ms, windows.length_ms, request.seed, checkpoints=settings.cache_dir / "training"
        )
    return fits


@dataclass(frozen=True, slots=True)
class _Training:
    """One training under way: what was read once and serves every kind."""

    request: TrainRequest
    settings: Settings
    fits: Mapping[str, FitRequest]
    say: Say
    lake: Lake
    store: BundleStore
    table: pa.Table
    test: HeldOut
    measured: dict[str, Measured] = field(default_factory=dict)
    candidates: dict[str, Fitted] = field(default_factory=dict)
    """What was measured, by kind."""
    catalogs: dict[int, Catalog] = field(default_factory=dict)
    """As of each cut."""
    abouts: dict[tuple[datetime, datetime], About] = field(default_factory=dict)
    """By the beginning and end of each window."""

    @classmethod
    def begin(
        cls, request: TrainRequest, settings: Settings, fits: Mapping[str, FitRequest], *, say: Say
    ) -> "_Training":
        """Read the lake, and measure the opponents."""
        say("reading the lake")
        lake, windows = Lake(settings.lake_dir), request.windows
        table = read_interactions(lake, since_ms=None, until_ms=windows.until_ms, cache=settings.cache_dir / "lines")
        store = BundleStore(settings.bundles_dir)
        try:
            taken, known = held_out_baskets(table, at_ms=to_ms(windows.test_from), until=windows.until)
            test = HeldOut(tuple(taken), known, known_catalog(settings, table, at_ms=to_ms(windows.test_from)))
            training = cls(request, settings, fits, say, lake, store, table, test)
            training._measure_opponents()
        except TrainingError as error:
            if not request.force:
                raise TrainingError(f"{error}; or publish without measuring: --force") from None
            say(f"not measured: {error}")
            training = cls(request, settings, fits, say, lake, store, table, HeldOut((), {}, {}))
        return training

    def run(self, kind: str) -> Outcome:
        """Measure, judge, learn anew, check and publish one kind."""
        windows = self.request.windows
        candidate, verdict = self._judged(kind)
        if candidate is not None and not verdict.may_serve:
            reference = self._publish(candidate, windows.seen(windows.test_from), verdict, start=None)
            self.say(f"{kind}: kept as rejected, {reference}: {'; '.join(verdict.reasons)}")
            return Outcome(reference, verdict, candidate.curve)
        self.say(f"{kind}: training up to {windows.until:%Y-%m-%d %H:%M}")
        start = self._start(kind, windows.until)
        fitted = self._fit(replace(self.fits[kind], start=None if start is None else start[1]))
        golden_check(fitted.model, histories(self.table, at_ms=windows.until_ms))
        parent = None if start is None else start[0]
        reference = self._publish(fitted, windows.seen(windows.until), verdict, start=parent)
        self.say(f"published {reference}")
        return Outcome(reference, verdict, fitted.curve)

    def _judged(self, kind: str) -> tuple[Fitted | None, Verdict]:
        """Return the model as of the test cut and the gate's verdict on it; no model where there are no test days."""
        if not self.test.taken:
            return None, Verdict(passed=False, reasons=("not measured",), forced=True)
        candidate = self.candidates.pop(kind, None) or self._measure(kind)
        others = {name: self.measured[name] for name in (CHAMPION, *BASELINES) if name in self.measured}
        verdict = judge(kind, self.measured[kind], others)
        return candidate, verdict.model_copy(update={"forced": self.request.force and not verdict.passed})

    def _measure(self, kind: str) -> Fitted:
        cut = self.request.windows.test_from
        self.say(f"{kind}: training up to {cut:%Y-%m-%d}, ranking {len(self.test.taken):,} baskets of the days after")
        start = self._start(kind, cut)
        fitted = self._fit(replace(self.fits[kind], at_ms=to_ms(cut), start=None if start is None else start[1]))
        self.measured[kind] = self._show(fitted.model)
        require_sound(fitted.model, self.test.known, self.measured[kind].ranked)
        return fitted

    def _measure_opponents(self) -> None:
        for kind in BASELINES:
            self.candidates[kind] = self._measure(kind)
        if (found := self._opponent()) is not None:
            self.say(f"champion {found.reference}: ranking the same baskets")
            model = found.model if found.recipe is None else self._fit(found.recipe).model
            assert model is not None
            self.measured[CHAMPION] = self._show(model)

    def _opponent(self) -> Opponent | None:
        try:
            champion = find_champion(self.settings)
        except BespokeError as error:
            self.say(f"the champion cannot be read, so nothing is compared with it: {error}")
            return None
        return None if champion is None else opponent(champion, test_from=self.request.windows.test_from)

    def _show(self, model: Model) -> Measured:
        at_ms = to_ms(self.request.windows.test_from)
        return measure(model, self.test.taken, self.test.known, at_ms=at_ms, lengths=LENGTHS)

    def _fit(self, fit: FitRequest) -> Fitted:
        return fit_remotely(self.table, replace(fit, catalog=self._catalog(fit.at_ms)))

    def _catalog(self, at_ms: int) -> Catalog:
        if at_ms not in self.catalogs:
            self.catalogs[at_ms] = known_catalog(self.settings, self.table, at_ms=at_ms)
        return self.catalogs[at_ms]

    def _start(self, kind: str, cut: datetime) -> tuple[str, Model] | None:
        """Return the newest version that has seen nothing past ``cut``, to begin from."""
        if not self.request.incremental:
            return None
        for version in reversed(self.store.versions(kind)):
            folder = self.store.path(kind, version)
            if read_manifest(folder).window.until <= cut:
                return f"{kind}@{version}", read_bundle(folder).model
        self.say(f"{kind}: no earlier version to begin from")
        return None

    def _about(self, window: Window) -> About:
        """Return what every version of the window holds besides its model: gathered once for all of them."""
        since_until = window.since, window.until
        if since_until not in self.abouts:
            self.say(f"gathering features and items as of {window.until:%Y-%m-%d %H:%M}")
            self.abouts[since_until] = About.at(window, self.table, self.lake, self._catalog(to_ms(window.until)))
        return self.abouts[since_until]

    def _publish(self, fitted: Fitted, window: Window, verdict: Verdict, *, start: str | None) -> str:
        windows, kind = self.request.windows, fitted.model.kind
        return publish(
            fitted.model,
            self._about(window),
            self.store,
            metrics=self.measured[kind].means if kind in self.measured else {},
            measured=windows.seen(windows.test_from) if kind in self.measured else None,
            gate=verdict,
            parent=start,
            seed=self.request.seed,
        )
