"""What the demo came to: the figures, as a table for people and as a file for scripts."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from rich.table import Table

from bespoke.statistics.paired import clustered_difference
from ingestion.importer import ImportResult
from runtime.demo.replay import LIST_LENGTH, Ranked, Replayed, percentiles
from runtime.progress import console

TITLE = "agreement with real baskets (a replay, not an experiment)"


def summarise(
    imported: ImportResult,
    replayed: Replayed,
    ranked: Ranked,
    drift: Mapping[str, Any],
    *,
    kinds: Mapping[str, str],
    seconds: float,
    peak_memory_mb: float,
) -> dict[str, Any]:
    """Return every figure of a run.

    ``served_ndcg_at_20`` is what each variant's answers came to over HTTP; ``ranked_ndcg_at_20`` is what its model
    (``kinds``) comes to on the very same baskets without HTTP, log and feature store in between: the two should agree.
    """
    return {
        "events_imported": imported.accepted,
        "events_rejected": imported.rejected,
        "seconds": round(seconds, 1),
        "peak_memory_mb": round(peak_memory_mb),
        "baskets": len(ranked.people),
        "models": {
            name: {"ndcg_at_20": float(np.mean(ranked.ndcg[name])), "recall_at_20": float(np.mean(ranked.recall[name]))}
            for name in ranked.ndcg
        },
        "blend_minus_buy_again_ndcg": _difference(ranked, "blend", "buy_again"),
        "als_minus_popularity_ndcg": _difference(ranked, "als", "popularity"),
        "served": dict(sorted(Counter(variant for variant in replayed.variants if variant).items())),
        "served_ndcg_at_20": _by_variant(replayed, replayed.ndcg),
        "ranked_ndcg_at_20": {
            variant: _by_variant(replayed, ranked.ndcg[kind])[variant]
            for variant, kind in kinds.items()
            if variant in replayed.variants
        },
        "degraded": dict(replayed.degraded),
        "failed": replayed.failed,
        "latency_ms": percentiles(replayed.latency_ms),
        "drift_report": drift["html"],
        "drifted_features": drift["drifted"],
    }


def write_summary(home: Path, summary: Mapping[str, Any]) -> Path:
    """Write the figures to summary.json; return where."""
    path = home / "summary.json"
    path.write_bytes(orjson.dumps(summary, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))
    return path


def print_agreement(summary: Mapping[str, Any], replayed: Replayed, ranked: Ranked) -> None:
    """Print each version on every basket, the paired differences, and what the split served."""
    console.print(f"\n{TITLE}: {len(ranked.people):,} baskets", soft_wrap=True, highlight=False)
    table = Table()
    for column in ("version", f"NDCG@{LIST_LENGTH}", f"recall@{LIST_LENGTH}"):
        table.add_column(column, justify="left" if column == "version" else "right")
    for name, figures in summary["models"].items():
        table.add_row(name, f"{figures['ndcg_at_20']:.4f}", f"{figures['recall_at_20']:.4f}")
    console.print(table)
    for one, other in (("blend", "buy_again"), ("als", "popularity")):
        figures = summary[f"{one}_minus_{other}_ndcg"]
        interval = f"{figures['mean']:+.4f}, 95% interval {figures['low']:+.4f} to {figures['high']:+.4f}"
        console.print(
            f"{one} minus {other}, paired by basket, clustered by household: {interval}",
            highlight=False,
            soft_wrap=True,
        )
    shares = ", ".join(
        f"{variant} {count:,} (NDCG@{LIST_LENGTH} {summary['served_ndcg_at_20'][variant]:.4f}, "
        f"the same model offline on the same baskets {summary['ranked_ndcg_at_20'].get(variant, float('nan')):.4f})"
        for variant, count in summary["served"].items()
    )
    latency = summary["latency_ms"]
    console.print(f"served by variant: {shares}; failed: {replayed.failed}", highlight=False, soft_wrap=True)
    console.print(
        f"recommendation latency: p50 {latency['p50']:.1f} ms, p99 {latency['p99']:.1f} ms\n", highlight=False
    )


def _by_variant(replayed: Replayed, ndcg: Sequence[float]) -> dict[str, float]:
    """Return the mean over the baskets that each variant answered."""
    values: dict[str, list[float]] = {}
    for variant, value in zip(replayed.variants, ndcg, strict=True):
        if variant is not None:
            values.setdefault(variant, []).append(value)
    return {variant: float(np.mean(each)) for variant, each in sorted(values.items())}


def _difference(ranked: Ranked, one: str, other: str) -> dict[str, float]:
    found = clustered_difference(ranked.ndcg[one], ranked.ndcg[other], ranked.people)
    return {"mean": found.mean, "low": found.low, "high": found.high}
