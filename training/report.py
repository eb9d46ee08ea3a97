"""The report of a training: one HTML page with verdicts, metrics, cohorts, learning curves and examples."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import plotly.graph_objects as go
from jinja2 import Environment, StrictUndefined
from plotly.offline import get_plotlyjs

from bespoke.catalog import Catalog
from bespoke.events import ItemId, UserId
from bespoke.models.history import History
from storage.durable import replacing
from training.evaluate import Measured
from training.gate import METRIC
from training.train import HeldOut, Trained, TrainRequest
from training.windows import HELD_OUT

TEMPLATE = Path(__file__).with_name("report.html.jinja")
PLOTLY = "plotly.min.js"
EXAMPLES = 6
SHOWN = 8
COHORTS: Sequence[tuple[str, int, float]] = (
    ("new: nothing", 0, 1),
    ("light: 1 to 19 lines", 1, 20),
    ("medium: 20 to 99 lines", 20, 100),
    ("heavy: 100 lines and more", 100, float("inf")),
)
"""A name, and the lines of history from which and up to (but without) which somebody belongs to it."""


def write_report(trained: Trained, request: TrainRequest, folder: Path, *, at: datetime) -> Path:
    """Write the report into ``folder``; return its path.

    Args:
        trained: with test days; there is nothing to report without.
        request: what was asked for.
        folder: for the page and, beside it, the plotting library that it loads.
        at: when; part of the name.
    """
    script = folder / PLOTLY
    if not script.exists():
        with replacing(script) as temporary:
            temporary.write_text(get_plotlyjs(), encoding="utf-8")
    path = folder / f"training-{at:%Y%m%dT%H%M%SZ}.html"
    with replacing(path) as temporary:
        temporary.write_text(_page(trained, request), encoding="utf-8")
    return path


def _page(trained: Trained, request: TrainRequest) -> str:
    # What is shown comes from catalogs and files: everything is escaped, but for the charts that are made here.
    environment = Environment(autoescape=True, undefined=StrictUndefined)
    test, window = trained.test, request.windows.seen(request.windows.test_from)
    return environment.from_string(TEMPLATE.read_text(encoding="utf-8")).render(
        until=f"{request.until:%Y-%m-%d %H:%M}",
        since=f"{window.since:%Y-%m-%d}",
        baskets=f"{len(test.taken):,}",
        people=f"{len({one.user_id for one in test.taken}):,}",
        days=HELD_OUT.days,
        verdicts=_verdicts(trained),
        metrics=list(next(iter(trained.metrics.values()))),
        measured=trained.metrics,
        cohorts=_chart(_cohort_figure(trained.measured, test.known)),
        curves=_chart(_curve_figure(trained)) if any(one.curve for one in trained.outcomes.values()) else "",
        examples=_examples(trained.measured, test),
    )


def _verdicts(trained: Trained) -> list[dict[str, Any]]:
    published = [
        {
            "kind": kind,
            "state": outcome.verdict.state,
            "reference": outcome.reference,
            "reasons": outcome.verdict.reasons,
            "comparisons": outcome.verdict.comparisons,
        }
        for kind, outcome in trained.outcomes.items()
    ]
    failed = [
        {"kind": kind, "state": "rejected", "reference": None, "reasons": [error], "comparisons": ()}
        for kind, error in trained.errors.items()
    ]
    return [*published, *failed]


def _cohort_figure(measured: Mapping[str, Measured], known: Mapping[UserId, History]) -> go.Figure:
    figure = go.Figure()
    for kind, shown in measured.items():
        lines_B = np.array([len(known[user].recent) if user in known else 0 for user in shown.people])
        inside = [(lines_B >= low) & (lines_B < high) for _, low, high in COHORTS]
        figure.add_bar(
            name=kind,
            x=[f"{name}<br>{mask.sum():,} baskets" for (name, _, _), mask in zip(COHORTS, inside, strict=True)],
            y=[float(shown.values[METRIC][mask].mean()) if mask.any() else None for mask in inside],
        )
    return figure.update_layout(barmode="group", yaxis_title=METRIC, margin={"t": 20}, height=380)


def _curve_figure(trained: Trained) -> go.Figure:
    figure = go.Figure()
    for kind, outcome in trained.outcomes.items():
        if outcome.curve:
            epochs = list(range(1, len(outcome.curve) + 1))
            relative = [loss / outcome.curve[0] if outcome.curve[0] else loss for loss in outcome.curve]
            figure.add_scatter(name=kind, x=epochs, y=relative, mode="lines+markers")
    return figure.update_layout(
        xaxis_title="epoch", yaxis_title="loss over that of the first epoch", margin={"t": 20}, height=320
    )


def _chart(figure: go.Figure) -> Any:
    from markupsafe import Markup

    return Markup(figure.to_html(full_html=False, include_plotlyjs=False))


def _examples(measured: Mapping[str, Measured], test: HeldOut) -> list[dict[str, Any]]:
    """Return a few people, from those with the longest history to those with none."""
    taken: dict[UserId, set[ItemId]] = {}
    for basket in test.taken:
        taken.setdefault(basket.user_id, set()).update(basket.items)
    by_length = sorted(taken, key=lambda user: (-_length(test.known, user), user))
    chosen = by_length[:: max(1, len(by_length) // EXAMPLES)][:EXAMPLES]
    return [_example(user, taken[user], measured, test) for user in chosen]


def _example(user: UserId, taken: set[ItemId], measured: Mapping[str, Measured], test: HeldOut) -> dict[str, Any]:
    recent = test.known[user].recent if user in test.known else ()
    last = list(dict.fromkeys(line.item_id for line in reversed(recent)))[:SHOWN]
    lists = {
        kind: [(_name(item, test.catalog), item in taken) for item in shown.ranked[user][:SHOWN]]
        for kind, shown in measured.items()
    }
    return {"lines": len(recent), "last": [_name(item, test.catalog) for item in last] or ["nothing"], "lists": lists}


def _length(known: Mapping[UserId, History], user: UserId) -> int:
    return len(known[user].recent) if user in known else 0


def _name(item_id: ItemId, catalog: Catalog) -> str:
    item = catalog.get(item_id)
    if item is None:
        return item_id
    return item.name or (f"{item.category[-1]} ({item_id})" if item.category else item_id)
