"""How much better a trained score foretells who buys within a week than the best single signal, and what it costs.

The Complete Journey: households at the beginnings of weeks, as their profiles stood then, labelled by the week after.
Training, validation and test follow one another in time, as in training/propensity.py, with the settings of
config/scores/purchase_7d.toml; each run has another seed. The rivals are every feature by itself, among them the time
since the last event, and the number of baskets of the last 60 days, all on the test households. Learned from and
measured are households with a basket in the last active_days; ``auc_gain_everybody`` is of all of them.
"""

import time
from bisect import bisect_left
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, partial
from itertools import count
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from benchmarks.harness import Figures, main
from bespoke.clock import DAY_MS
from bespoke.events import Event, EventType, ItemId, Line, MessageId
from bespoke.features import FEATURE_NAMES
from bespoke.profiles import EMPTY, Profile, fold
from bespoke.propensity.model import Examples, Propensity
from bespoke.propensity.quality import LabelArray, ScoreArray, Single, calibration_error, single_auc, strongest
from bespoke.propensity.signals import SIGNAL_NAMES, signals
from runtime.demo.journey import data_folder
from training.propensity import load_score
from training.propensity_examples import joined, looks_back, parted

CONFIG = load_score(Path("config/scores/purchase_7d.toml"))
HISTORY_DAYS = 60
"""How much of every household is known at the first look back."""
SCORED = 2_000
_COLUMNS = ["household_id", "basket_id", "product_id", "quantity", "sales_value", "transaction_timestamp"]


@dataclass(frozen=True, slots=True)
class Looked:
    """Households at one time, those included that were silent for long."""

    everybody: Examples
    active_N: LabelArray
    baskets_60d_N: ScoreArray
    profiles: tuple[Profile, ...]

    @property
    def active(self) -> Examples:
        """Those that the settings let be learned from and measured on."""
        signal_NS, label_N = self.everybody.signal_NS[self.active_N], self.everybody.label_N[self.active_N]
        return Examples(signal_NS, label_N, self.everybody.first_ms, self.everybody.last_ms)


seeds = count()


def run() -> Figures:
    """Train with the next seed, and measure on the latest weeks."""
    looked = households()
    parts = parted(sorted(looked), CONFIG, tested=True)
    by_look = {look: one.active for look, one in looked.items()}
    train, validation, test = (joined(by_look, look) for look in (parts.train, parts.validation, parts.test))
    started = time.perf_counter()
    model = Propensity.fit(train, validation, config=CONFIG, seed=next(seeds))
    fit_s = time.perf_counter() - started
    measured = model.measure(test)
    tested = [looked[look] for look in parts.test]
    rivals = _rivals(test, np.concatenate([one.baskets_60d_N[one.active_N] for one in tested]))
    best = max(rivals.values(), key=lambda one: one.auc)
    everybody = Examples.concat([one.everybody for one in tested])
    of_everybody = _rivals(everybody, np.concatenate([one.baskets_60d_N for one in tested])).values()
    any_signal = strongest(test.signal_NS, test.label_N, names=SIGNAL_NAMES)
    print(f"best feature or rival: {best.name} {best.auc:.4f}; best signal: {any_signal.name} {any_signal.auc:.4f}")
    return {
        "auc": measured["auc"],
        "auc_gain": measured["auc"] - best.auc,
        "auc_gain_over_any_signal": measured["auc"] - any_signal.auc,
        "auc_gain_everybody": model.measure(everybody)["auc"] - max(one.auc for one in of_everybody),
        "recency_auc": rivals["recency_days"].auc,
        "baskets_60d_auc": rivals["baskets_60d"].auc,
        "ece": measured["ece"],
        "ece_10_bins": calibration_error(model.score(test.signal_NS), test.label_N, bins=10),
        "average_precision": measured["average_precision"],
        "log_loss": measured["log_loss"],
        "base_rate": measured["base_rate"],
        "train_examples": len(train),
        "test_examples": len(test),
        "fit_s": fit_s,
        **_costs(model, looked[parts.test[-1]], parts.test[-1]),
    }


def _rivals(test: Examples, baskets_60d_N: ScoreArray) -> dict[str, Single]:
    rivals = {"baskets_60d": Single("baskets_60d", single_auc(baskets_60d_N, test.label_N))}
    for name in FEATURE_NAMES:
        column_N = test.signal_NS[:, SIGNAL_NAMES.index(name)]
        rivals[name] = Single(name, single_auc(column_N, test.label_N))
    return rivals


def _costs(model: Propensity, looked: Looked, at_ms: int) -> dict[str, float]:
    """Return what one score takes, with the signals derived anew and with the signals at hand."""
    rows = looked.everybody.signal_NS
    whole = [_timed(partial(model.score_profile, profile, at_ms)) for profile in looked.profiles[:SCORED]]
    trees = [_timed(partial(model.score, row[None, :])) for row in rows[:SCORED]]
    return {
        "score_profile_p50_ms": float(np.percentile(whole, 50)) * 1000,
        "score_profile_p99_ms": float(np.percentile(whole, 99)) * 1000,
        "score_p50_ms": float(np.percentile(trees, 50)) * 1000,
        "score_p99_ms": float(np.percentile(trees, 99)) * 1000,
    }


def _timed(call: Callable[[], object]) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


@cache
def households() -> dict[int, Looked]:
    """Return the households at each look back; made once for all runs."""
    orders = list(_orders())
    since_ms, until_ms = orders[0].at_ms + HISTORY_DAYS * DAY_MS, orders[-1].at_ms
    looks = looks_back(since_ms=since_ms, until_ms=until_ms // DAY_MS * DAY_MS, config=CONFIG)
    times: dict[str, list[int]] = {}
    for order in orders:
        times.setdefault(order.person, []).append(order.at_ms)
    profiles: dict[str, Profile] = {}
    looked, done = {}, 0
    for look in looks:
        while done < len(orders) and orders[done].at_ms < look:
            order = orders[done]
            profiles[order.person] = fold(profiles.get(order.person, EMPTY), order)
            done += 1
        looked[look] = _look(profiles, times, look)
    return looked


def _look(profiles: dict[str, Profile], times: dict[str, list[int]], at_ms: int) -> Looked:
    since_ms, ahead_ms = at_ms - CONFIG.active_days * DAY_MS, at_ms + CONFIG.horizon_days * DAY_MS
    past = {person: bisect_left(times[person], at_ms) for person in profiles}
    baskets_60d = [n - bisect_left(times[person], at_ms - 60 * DAY_MS) for person, n in past.items()]
    label_N = np.array([bisect_left(times[person], ahead_ms) > n for person, n in past.items()])
    signal_NS = np.array([signals(profile, at_ms) for profile in profiles.values()])
    return Looked(
        everybody=Examples(signal_NS, label_N, at_ms, at_ms),
        active_N=np.array([(profile.last_ms or 0) >= since_ms for profile in profiles.values()]),
        baskets_60d_N=np.array(baskets_60d, dtype=np.float64),
        profiles=tuple(profiles.values()),
    )


def _orders() -> Iterator[Event]:
    """Yield every basket as the event that it is ingested as, in the order of time."""
    products = pq.read_table(data_folder() / "products.parquet", columns=["product_id", "product_category"])
    category = dict(zip(*(products[name].to_pylist() for name in products.column_names), strict=True))
    lines = pq.read_table(data_folder() / "transactions.parquet", columns=_COLUMNS)
    at_ms = lines["transaction_timestamp"].cast(pa.timestamp("ms")).cast(pa.int64())
    grouped = lines.append_column("at_ms", at_ms).group_by(["at_ms", "household_id", "basket_id"])
    baskets = grouped.aggregate([(name, "list") for name in ("product_id", "quantity", "sales_value")])
    order = pc.sort_indices(baskets, [("at_ms", "ascending"), ("basket_id", "ascending")])
    columns = [baskets[name].take(order).to_pylist() for name in baskets.column_names]
    for row in zip(*columns, strict=True):
        basket = dict(zip(baskets.column_names, row, strict=True))
        bought = zip(basket["product_id_list"], basket["quantity_list"], basket["sales_value_list"], strict=True)
        yield Event(
            message_id=MessageId(f"basket-{basket['basket_id']}"),
            type=EventType.TRACK,
            name="Order Completed",
            user_id=str(basket["household_id"]),
            anonymous_id=None,
            at_ms=basket["at_ms"],
            received_ms=basket["at_ms"],
            lines=tuple(
                Line(ItemId(str(item)), float(quantity), value / quantity if quantity else None, category.get(item))
                for item, quantity, value in bought
            ),
        )


if __name__ == "__main__":
    main("propensity", run, runs=3, about=(__doc__ or "").strip())
