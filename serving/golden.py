"""Golden requests: what a version must answer well before it may serve."""

import math
import time
from collections.abc import Callable

from bespoke.clock import to_ms
from bespoke.errors import BundleError
from bespoke.events import InteractionType
from bespoke.models.base import Basis
from bespoke.models.bundle import Bundle
from bespoke.models.history import History
from bespoke.profiles import Recent
from bespoke.recommend import Decision, Engine, Request, Shelf, Sources, table_of
from serving.kit import reference

GOLDEN_ITEMS = 5
SLOWEST_S = 1.0
"""The best of several tries may take so long; a version beyond would hold up everybody."""
TRIES = 3


def checked(bundle: Bundle, *, timer: Callable[[], float] = time.perf_counter) -> Bundle:
    """Return ``bundle`` if its model answers the golden requests.

    Raises:
        BundleError: it does not: it fails, names nothing it knows, has scores that are no numbers or all alike for
            somebody it knows something of, or is too slow.
    """
    try:
        _ask(bundle, timer)
    except BundleError:
        raise
    except Exception as error:
        # Whatever a foreign bundle makes NumPy raise: it must not end the thread that follows the pointers.
        raise BundleError(f"{reference(bundle)}: the model fails on golden requests: {error!r}") from error
    return bundle


def _ask(bundle: Bundle, timer: Callable[[], float]) -> None:
    """Ask for a stranger, and for somebody who took what is popular."""
    table, name = table_of([bundle]), reference(bundle)
    engine = Engine.of(Sources.of(table, shelf=Shelf.of(name, bundle, table)))
    at_ms = to_ms(bundle.manifest.created_at)
    taken = tuple(Recent(at_ms, item_id, InteractionType.PURCHASE, 1.0) for item_id in bundle.popular[:GOLDEN_ITEMS])
    for recent in ((), taken):
        took_s = []
        for _ in range(TRIES):
            start_s = timer()
            decision = engine.recommend(
                Request(None, at_ms, num_results=GOLDEN_ITEMS, recent=recent), timer=lambda: 0.0
            )
            took_s.append(timer() - start_s)
        _check(bundle, decision, recent, at_ms)
        if min(took_s) > SLOWEST_S:
            raise BundleError(f"{name}: a golden request took {min(took_s):.1f} s, at most {SLOWEST_S:g} s is allowed")


def _check(bundle: Bundle, decision: Decision, recent: tuple[Recent, ...], at_ms: int) -> None:
    name, model = reference(bundle), bundle.model
    if decision.degraded is not None:
        raise BundleError(f"{name}: {decision.degraded} on a golden request; train it again")
    if not any(item.item_id in model.vocabulary for item in decision.items):
        raise BundleError(f"{name}: it recommends none of its items; train it again")
    if not all(math.isfinite(item.score) for item in decision.items):
        raise BundleError(f"{name}: its scores are no finite numbers; train it again")
    history = History(None, recent, at_ms)
    if len(model.vocabulary) > GOLDEN_ITEMS and model.basis(history) is not Basis.POPULARITY:
        scores_I = model.scores(history)
        if not scores_I.max() > scores_I.min():
            raise BundleError(f"{name}: it scores all items alike; train it again")
