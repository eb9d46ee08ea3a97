"""Training examples of two_tower: a person, what was known of the person, and what the person took next.

A person's lines are cut into blocks. A block is predicted from the lines that are strictly older than its first line.
Where all lines of a person bear the same time there is no order: blocks are drawn anew each epoch, and each is
predicted from the person's other lines. A line is never part of what it is predicted from.

Shapes: U people, I items, N lines, E examples, B examples of a batch, L history lines, K target lines, C candidates,
M (person, item) pairs that were taken.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt

from bespoke.models.arrays import FloatArray, RowArray, TimeArray
from bespoke.models.base import Interactions
from bespoke.models.history import decayed
from bespoke.models.two_tower_config import TwoTowerConfig
from bespoke.models.two_tower_lines import Lines, merged

Longs = npt.NDArray[np.int64]
STEPS = 16
"""Fewer people per batch, rather than fewer steps per epoch than this."""
SMALLEST_BATCH = 32


@dataclass(frozen=True, slots=True)
class Batch:
    """What one step learns from."""

    person_B: RowArray
    lines: Lines
    """What was known of each person."""
    target_B_K: Longs
    """Whose target it is: row of the batch."""
    target_item_K: RowArray
    weight_K: FloatArray
    taken_B_M: Longs
    """Row of the batch, beside ``taken_item_M``: what the person took at any time, which is no negative."""
    taken_item_M: RowArray
    candidate_C: RowArray
    """Items that the choices are held against."""
    log_share_C: FloatArray
    """Logarithm of how likely each candidate was to be among them."""
    keys: tuple[int, int, int]
    """Seed, epoch and step: what else is drawn, such as dropout, derives from them."""


@dataclass(frozen=True)
class Examples:
    """Everybody's lines by person and time, and how to cut them."""

    starts_U1: Longs
    item_N: RowArray
    at_ms_N: TimeArray
    weight_N: FloatArray
    """What a line counts in a history."""
    target_weight_N: FloatArray
    """What a line counts as a target, by its age too."""
    items: int
    at_ms: int
    config: TwoTowerConfig
    described_I: RowArray
    """Items that content says something of."""

    @classmethod
    def of(
        cls,
        interactions: Interactions,
        item_I: RowArray,
        *,
        items: int,
        at_ms: int,
        config: TwoTowerConfig,
        described_I: RowArray | None = None,
    ) -> "Examples":
        """Sort the lines.

        Args:
            interactions: N lines.
            item_I: the row of each of their items among all items that are scored.
            items: how many are scored.
            at_ms: the cut.
            config: the settings.
            described_I: rows of the items that content says something of; none where None.
        """
        user_N, at_ms_N, item_N, weight_N = merged(
            interactions.user_N, interactions.at_ms_N, item_I[interactions.item_N], interactions.weight_N
        )
        aged_N = decayed(weight_N, at_ms_N, at_ms=at_ms, half_life_days=config.half_life_days or None)
        starts_U1 = np.searchsorted(user_N, np.arange(len(interactions.users) + 1)).astype(np.int64)
        target_weight_N = _balanced(aged_N.astype(np.float64), user_N, config.person_balance)
        described_I = np.zeros(0, dtype=np.int32) if described_I is None else described_I
        return cls(starts_U1, item_N, at_ms_N, weight_N, target_weight_N, items, at_ms, config, described_I)

    @cached_property
    def count_U(self) -> Longs:
        """How many lines each person has."""
        return np.diff(self.starts_U1)

    @cached_property
    def user_N(self) -> Longs:
        """Whose line it is."""
        return np.repeat(np.arange(len(self.count_U)), self.count_U)

    @cached_property
    def timeless_U(self) -> npt.NDArray[np.bool_]:
        """Whether all lines of a person bear the same time."""
        last_U = self.at_ms_N[np.maximum(self.starts_U1[1:] - 1, 0)]
        first_U = self.at_ms_N[np.minimum(self.starts_U1[:-1], len(self.at_ms_N) - 1)]
        timeless_U: npt.NDArray[np.bool_] = first_U == last_U
        return timeless_U

    @cached_property
    def older_N(self) -> Longs:
        """How many lines of the same person are strictly older."""
        fresh_N = np.ones(len(self.item_N), dtype=bool)
        fresh_N[1:] = (np.diff(self.user_N) != 0) | (np.diff(self.at_ms_N) != 0)
        first_N = np.maximum.accumulate(np.where(fresh_N, np.arange(len(fresh_N)), 0))
        older_N: Longs = first_N - self.starts_U1[self.user_N]
        return older_N

    @cached_property
    def blocks_U(self) -> Longs:
        """Into how many blocks each person's lines are cut; ordered lines begin anywhere, so one more for them."""
        blocks_U = -(-self.count_U // self.config.targets)
        cut_U = np.where(self.timeless_U, np.maximum(blocks_U, np.minimum(self.count_U, 2)), blocks_U + 1)
        return np.where(self.count_U > 0, cut_U, 0)

    @cached_property
    def taken(self) -> tuple[Longs, RowArray]:
        """The distinct items of each person: where they begin [U + 1], and their rows."""
        pair_M = np.unique(self.user_N * np.int64(self.items) + self.item_N)
        starts_U1 = np.searchsorted(pair_M, np.arange(len(self.count_U) + 1) * np.int64(self.items))
        return starts_U1.astype(np.int64), (pair_M % self.items).astype(np.int32)

    @cached_property
    def target_share_I(self) -> FloatArray:
        """How often each item is a target, of all targets."""
        count_I = np.bincount(self.item_N, minlength=self.items)
        share_I: FloatArray = (count_I / count_I.sum()).astype(np.float32)
        return share_I

    @cached_property
    def known_I(self) -> RowArray:
        """The items that anybody took, in the order of rows."""
        return np.flatnonzero(self.target_share_I).astype(np.int32)

    @cached_property
    def rankable_I(self) -> RowArray:
        """The items that anything is known of: choices are held against those too that nobody took, or such would rank
        high for want of anything said against them."""
        return np.union1d(self.known_I, self.described_I).astype(np.int32)

    def table(self) -> tuple[RowArray, RowArray]:
        """Return the person and the block of every example, [E] each."""
        person_E = np.repeat(np.arange(len(self.blocks_U)), self.blocks_U)
        block_E = np.arange(len(person_E)) - np.repeat(np.cumsum(self.blocks_U) - self.blocks_U, self.blocks_U)
        return person_E.astype(np.int32), block_E.astype(np.int32)

    def without(self, line_K: Longs) -> "Examples":
        """Return the examples without these lines."""
        kept_N = np.ones(len(self.item_N), dtype=bool)
        kept_N[line_K] = False
        return replace(
            self,
            starts_U1=np.concatenate([[0], np.cumsum(kept_N)])[self.starts_U1],
            item_N=self.item_N[kept_N],
            at_ms_N=self.at_ms_N[kept_N],
            weight_N=self.weight_N[kept_N],
            target_weight_N=self.target_weight_N[kept_N],
        )

    def everything(self) -> Lines:
        """Return all lines of everybody as seen at the cut."""
        at_ms_U = np.full(len(self.count_U), self.at_ms, dtype=np.int64)
        return Lines(self.starts_U1, self.item_N, self.at_ms_N, self.weight_N, at_ms_U)

    def batch_people(self) -> int:
        """Return how many examples a step takes: fewer than set where the data is small."""
        return min(self.config.batch_people, max(SMALLEST_BATCH, int(self.blocks_U.sum()) // STEPS))

    def epoch(self, *, seed: int, epoch: int) -> "EpochCut":
        """Return the cut of one epoch; equal seeds and epochs give equal cuts."""
        random = np.random.default_rng([seed, epoch])
        shuffled_N = np.lexsort((random.random(len(self.item_N), dtype=np.float32), self.user_N))
        order_N = np.where(self.timeless_U[self.user_N], shuffled_N, np.arange(len(self.item_N)))
        return EpochCut(self, order_N, random.random(len(self.count_U)), seed, epoch)


@dataclass(frozen=True)
class EpochCut:
    """Where the blocks of one epoch begin."""

    examples: Examples
    order_N: Longs
    """The lines, those of timeless people shuffled."""
    offset_U: npt.NDArray[np.float64]
    seed: int
    number: int

    def batches(self, person_E: RowArray, block_E: RowArray, *, size: int, skip: int = 0) -> Iterator[Batch]:
        """Yield the steps of these examples in a random order; ``skip`` of them are left out, at the front."""
        order_E = np.random.default_rng([self.seed, self.number, 1]).permutation(len(person_E))
        for step in range(skip, -(-len(order_E) // size)):
            chosen_B = order_E[step * size : (step + 1) * size]
            yield self.batch(person_E[chosen_B], block_E[chosen_B], step=step)

    def batch(self, person_B: RowArray, block_B: RowArray, *, step: int = 0) -> Batch:
        """Return one step's lines, targets and candidates."""
        examples, random = self.examples, np.random.default_rng([self.seed, self.number, 2, step])
        begin_B, end_B = self._blocks(person_B, block_B)
        target_B_K, place_K = _ragged(begin_B, end_B - begin_B)
        line_K = self.order_N[place_K]
        lines = self._lines(person_B, begin_B, end_B)
        lines = self._thinned(lines, random)
        taken_starts_U1, taken_item = examples.taken
        taken_B_M, taken_M = _ragged(taken_starts_U1[person_B], np.diff(taken_starts_U1)[person_B])
        target_item_K = examples.item_N[line_K]
        candidate_C, log_share_C = self._candidates(target_item_K, random)
        return Batch(
            person_B,
            lines,
            target_B_K,
            target_item_K,
            examples.target_weight_N[line_K],
            taken_B_M,
            taken_item[taken_M],
            candidate_C,
            log_share_C,
            (self.seed, self.number, step),
        )

    def last(self, person_B: RowArray, *, share: float) -> tuple[Lines, Longs, Longs]:
        """Cut the last lines of some people off: return the others, and row and line of each that was cut [K].

        Nobody loses all lines: where those of the last time are all there is to cut, they stay.
        """
        examples = self.examples
        start_B, count_B = examples.starts_U1[person_B], examples.count_U[person_B]
        cut_B = count_B - np.maximum(1, (count_B * share).astype(np.int64))
        cut_B = np.where(examples.timeless_U[person_B], cut_B, examples.older_N[start_B + cut_B])
        end_B = start_B + count_B
        begin_B = np.where(cut_B > 0, start_B + cut_B, end_B)
        row_K, place_K = _ragged(begin_B, end_B - begin_B)
        return self._lines(person_B, begin_B, end_B), row_K, self.order_N[place_K]

    def _blocks(self, person_B: RowArray, block_B: RowArray) -> tuple[Longs, Longs]:
        """Return where each block begins and ends among all lines, [B] each."""
        examples = self.examples
        count_B, timeless_B = examples.count_U[person_B], examples.timeless_U[person_B]
        offset_B = np.where(timeless_B, 0.0, self.offset_U[person_B] - 1)
        blocks_B = examples.blocks_U[person_B] - np.where(timeless_B, 0, 1)
        start_B = examples.starts_U1[person_B]
        first_B, end_B = (
            start_B + np.clip(np.ceil((block_B + more + offset_B) * (count_B / blocks_B)), 0, count_B).astype(np.int64)
            for more in (0, 1)
        )
        return first_B, end_B

    def _lines(self, person_B: RowArray, begin_B: Longs, end_B: Longs) -> Lines:
        """Return what each block is predicted from."""
        examples, limit = self.examples, self.examples.config.history_lines
        start_B, count_B = examples.starts_U1[person_B], examples.count_U[person_B]
        timeless_B = examples.timeless_U[person_B]
        first_B = np.minimum(begin_B, len(examples.item_N) - 1)
        filled_B = end_B > begin_B
        older_B = np.where(filled_B, examples.older_N[first_B], 0)
        lines_B = np.minimum(np.where(timeless_B, count_B - (end_B - begin_B), older_B), limit)
        # Timeless people's other lines lie around the block: after it, and on from the front.
        from_B = np.where(timeless_B, end_B - start_B, older_B - lines_B)
        row_L, place_L = _ragged(from_B, lines_B)
        line_L = self.order_N[start_B[row_L] + place_L % np.maximum(count_B[row_L], 1)]
        at_ms_B = np.where(timeless_B | ~filled_B, examples.at_ms, examples.at_ms_N[first_B])
        starts_B1 = np.concatenate([[0], np.cumsum(lines_B)])
        return Lines(starts_B1, examples.item_N[line_L], examples.at_ms_N[line_L], examples.weight_N[line_L], at_ms_B)

    def _thinned(self, lines: Lines, random: np.random.Generator) -> Lines:
        """Leave lines out at random, and as large a share of people without any, to be placed by id."""
        share = self.examples.config.history_dropout
        dropped_L = random.random(len(lines.item_L)) < share
        bare_B = random.random(len(lines.at_ms_B)) < share
        return lines.without(dropped_L | bare_B[lines.person_L])

    def _candidates(self, target_item_K: RowArray, random: np.random.Generator) -> tuple[RowArray, FloatArray]:
        """Return the items that choices are held against, and the logarithm of their chance to be there, [C] each."""
        examples = self.examples
        rankable_I, config = examples.rankable_I, examples.config
        if len(rankable_I) <= config.full_softmax_items:
            return rankable_I, np.zeros(len(rankable_I), dtype=np.float32)
        drawn = rankable_I[random.integers(0, len(rankable_I), config.negatives)]
        candidate_C = np.unique(np.concatenate([target_item_K, drawn])).astype(np.int32)
        # The chance to be drawn neither as a target nor as one of the evenly drawn, in logarithms for precision.
        absent_C = len(target_item_K) * np.log1p(-np.minimum(examples.target_share_I[candidate_C], 0.999999))
        absent_C = absent_C + config.negatives * np.log1p(-1 / len(rankable_I))
        return candidate_C, np.log(-np.expm1(absent_C)).astype(np.float32)


def _ragged(begin_B: Longs, count_B: Longs) -> tuple[Longs, Longs]:
    """Return the row and the value of each number of the ranges ``begin_B[row] + 0, 1, ... count_B[row] - 1``."""
    row = np.repeat(np.arange(len(count_B)), count_B)
    ahead_B = np.cumsum(count_B) - count_B
    return row, np.arange(len(row)) + (begin_B - ahead_B)[row]


def _balanced(weight_N: npt.NDArray[np.float64], user_N: RowArray, balance: float) -> FloatArray:
    """Return weights with each person's total taken to the power of ``1 - balance``; their mean is 1."""
    total_U = np.bincount(user_N, weights=weight_N)
    weight_N = weight_N * total_U[user_N] ** -balance
    balanced_N: FloatArray = (weight_N / weight_N.mean()).astype(np.float32)
    return balanced_N
