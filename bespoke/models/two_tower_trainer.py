"""The training of two_tower in torch: one step on one batch, gradients by hand, updates of the touched rows alone.

The loss of a target t of person b, with cosines c, temperature T, q the chance of an item to be among the candidates::

    -log( e_t / (e_t + sum over candidates j that b never took of e_j / q_j) ),    e_j = exp(c(b, j) / T)

The correction by q stands on the negatives only. Source: Yi et al. 2019, "Sampling-Bias-Corrected Neural Modeling for
Large Corpus Item Recommendations" (in-batch softmax); Mao et al. 2021, "SimpleX" (cosine, pooled history); Shazeer and
Stern 2018, "Adafactor" (one second moment per row).

Shapes: as in ``two_tower_examples``, T items that a step touches, X people who count by id
too, R rows of a table, D factors.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from scipy.sparse import csr_array

from bespoke.models.arrays import AnyArray
from bespoke.models.two_tower_config import TwoTowerConfig
from bespoke.models.two_tower_examples import Batch
from bespoke.models.two_tower_lines import Lines
from bespoke.models.two_tower_tables import Tables

MOMENTUM, MEMORY = 0.9, 0.99
LEAST = 1e-12
"""Keeps divisions by a row's length or gradient finite."""

SMALL_STEP = 1 << 26


@dataclass(frozen=True, slots=True)
class Gradient:
    """How the loss changes with some rows of a table."""

    row_R: torch.Tensor | None
    """Which rows; all where None."""
    value_RD: torch.Tensor


@dataclass(frozen=True, slots=True)
class Gradients:
    """The loss of a batch and how it changes, by table."""

    loss: float
    of: Mapping[str, Gradient]


class Bag:
    """A sparse matrix times a dense one, and its transpose times one."""

    def __init__(self, weights: csr_array, device: torch.device) -> None:
        self._there = _sparse(weights, device)
        self._back = _sparse(csr_array(weights.T), device)

    def product(self, table: torch.Tensor) -> torch.Tensor:
        """Return the weights times ``table``."""
        return _bags(self._there, table)

    def back(self, gradient: torch.Tensor) -> torch.Tensor:
        """Return the transposed weights times ``gradient``."""
        return _bags(self._back, gradient)


class Trainer:
    """The tables and moments of both towers, and the step that improves them."""

    def __init__(
        self,
        tables: Tables,
        content: csr_array,
        *,
        config: TwoTowerConfig,
        device: str = "cpu",
        known_I: AnyArray | None = None,
    ) -> None:
        """Begin at ``tables``.

        Args:
            tables: where training begins.
            content: marks of every item [I, F].
            config: the settings.
            device: "cpu", or "cuda" where there is one.
            known_I: rows of the items that anybody took; the others have no id of their own. All where None.
        """
        self.config = config
        self.device = torch.device(device)
        self.tables = {name: self._tensor(table).clone() for name, table in tables.items()}
        self.first = {name: torch.zeros_like(table) for name, table in self.tables.items()}
        self.second = {name: table.new_zeros(len(table)) for name, table in self.tables.items()}
        self.times = {name: table.new_zeros(len(table)) for name, table in self.tables.items()}
        self._content = content
        self._described_I = np.diff(content.indptr) > 0
        self._untouched_I = np.zeros(content.shape[0], dtype=bool)
        if known_I is not None:
            self._untouched_I = ~np.isin(np.arange(content.shape[0]), known_I)
        self._place_I = np.full(content.shape[0], -1, dtype=np.int64)
        self._touching: tuple[AnyArray, Bag | None] | None = None
        self._half = torch.bfloat16 if config.bfloat16 and _has_bfloat16(self.device) else torch.float32
        self._room = torch.empty(0, dtype=self._half, device=self.device)

    def step(self, batch: Batch, *, rate: float) -> float:
        """Improve the tables on one batch; return its loss."""
        gradients = self.gradients(batch)
        self.apply(gradients, rate=rate)
        return gradients.loss

    @torch.inference_mode()
    def gradients(self, batch: Batch) -> Gradients:
        """Return the mean loss over a batch's weighted targets, and its gradients."""
        random = np.random.default_rng([*batch.keys, 3])
        row_T, place_L, taken_M = self._touch(batch)
        kept_T1 = self._kept(row_T, random)
        content = self._content_of(row_T)
        raw_TD = self.tables["item_ids"][self._tensor(row_T)] * kept_T1
        if content is not None:
            raw_TD += content.product(self.tables["content"])
        history = self._history(batch.lines, place_L, len(row_T))
        known = np.flatnonzero(random.random(len(batch.person_B)) >= self.config.person_id_dropout)
        by_id_X, person_X = self._tensor(known), self._tensor(batch.person_B[known].astype(np.int64))
        about_BP = self._about(batch.lines)
        pooled_BD = history.product(raw_TD)
        person_raw_BD = pooled_BD @ self.tables["history_map"] + about_BP @ self.tables["about_map"]
        person_raw_BD.index_add_(0, by_id_X, self.tables["person_ids"][person_X])
        person_BD, person_length_B1 = _unit(person_raw_BD)
        candidates = len(batch.candidate_C)
        item_CD, item_length_C1 = _unit(raw_TD[:candidates])
        loss, d_person_BD, d_item_CD = self._softmax(batch, person_BD, item_CD, taken_M)
        d_person_BD = _through_unit(d_person_BD, person_BD, person_length_B1)
        d_raw_TD = torch.zeros_like(raw_TD)
        d_raw_TD[:candidates] = _through_unit(d_item_CD, item_CD, item_length_C1)
        d_raw_TD += history.back(d_person_BD @ self.tables["history_map"].T)
        of = {
            "history_map": Gradient(None, pooled_BD.T @ d_person_BD),
            "about_map": Gradient(None, about_BP.T @ d_person_BD),
            "item_ids": Gradient(self._tensor(row_T), d_raw_TD * kept_T1),
            "person_ids": summed(person_X, d_person_BD[by_id_X]),
        }
        if content is not None:
            of["content"] = Gradient(None, content.back(d_raw_TD))
        return Gradients(loss, of)

    @torch.inference_mode()
    def apply(self, gradients: Gradients, *, rate: float) -> None:
        """Take a step against the gradients: Adam on the touched rows, with one second moment per row."""
        for name, gradient in gradients.of.items():
            self._adam(name, gradient, rate=rate)

    @torch.inference_mode()
    def state(self) -> dict[str, torch.Tensor]:
        """Return everything that training goes on from, by name."""
        parts = {"table": self.tables, "first": self.first, "second": self.second, "times": self.times}
        return {f"{part}.{name}": one for part, some in parts.items() for name, one in some.items()}

    @torch.inference_mode()
    def load_state(self, state: Mapping[str, torch.Tensor]) -> None:
        """Go on from what :meth:`state` gave; the shapes are the same."""
        for name, kept in self.state().items():
            kept.copy_(state[name])

    def arrays(self) -> Tables:
        """Return the tables as they are now."""
        return {name: table.cpu().numpy().copy() for name, table in self.tables.items()}

    def _softmax(
        self, batch: Batch, person_BD: torch.Tensor, item_CD: torch.Tensor, taken_M: AnyArray
    ) -> tuple[float, torch.Tensor, torch.Tensor]:
        """Return the loss, and its gradients by the unit vectors of people and candidates."""
        sharp = 1 / self.config.temperature
        # From every logit the greatest possible cosine is taken off, so that no exponential overflows.
        offset_C = -sharp - self._tensor(batch.log_share_C)
        size = len(person_BD) * len(item_CD)
        if len(self._room) < size:
            self._room = torch.empty(size, dtype=self._half, device=self.device)
        share_BC = self._room[:size].view(len(person_BD), len(item_CD))
        person_half_BD, item_half_CD = (person_BD * sharp).to(self._half), item_CD.to(self._half)
        torch.addmm(offset_C.to(self._half), person_half_BD, item_half_CD.T, out=share_BC)
        share_BC.exp_()
        taken_B_M = batch.taken_B_M[taken_M >= 0]
        share_BC[self._tensor(taken_B_M), self._tensor(taken_M[taken_M >= 0])] = 0
        negatives_B = share_BC.sum(dim=1).float()
        row_K = self._tensor(batch.target_B_K)
        place_K = self._tensor(self._target_place(batch))
        weight_K = self._tensor(batch.weight_K)
        weight_K = weight_K / weight_K.sum().clamp_min(LEAST)
        target_KD = item_CD[place_K]
        hit_K = (((person_BD[row_K] * target_KD).sum(dim=1) - 1) * sharp).exp()
        total_K = negatives_B[row_K] + hit_K
        loss = -(weight_K * (hit_K / total_K).clamp_min(1e-30).log()).sum()
        pull_B = torch.zeros_like(negatives_B).index_add_(0, row_K, weight_K / total_K) * sharp
        push_K1 = (weight_K * (hit_K / total_K - 1) * sharp)[:, None]
        d_person_BD = (share_BC @ item_half_CD).float() * pull_B[:, None]
        d_item_CD = (share_BC.T @ (person_BD * pull_B[:, None]).to(self._half)).float()
        d_person_BD.index_add_(0, row_K, push_K1 * target_KD)
        d_item_CD.index_add_(0, place_K, push_K1 * person_BD[row_K])
        return float(loss), d_person_BD, d_item_CD

    def _adam(self, name: str, gradient: Gradient, *, rate: float) -> None:
        row_R, value_RD = gradient.row_R, gradient.value_RD
        if row_R is not None and len(row_R) == len(self.tables[name]) and name == "item_ids":
            row_R = None
        parts = [self.first[name], self.second[name], self.times[name], self.tables[name]]
        first_RD, second_R, times_R, table_RD = parts if row_R is None else [part[row_R] for part in parts]
        times_R += 1
        first_RD.lerp_(value_RD, 1 - MOMENTUM)
        second_R.lerp_(value_RD.square().mean(dim=1), 1 - MEMORY)
        size_R = (second_R / (1 - MEMORY**times_R)).sqrt() + LEAST
        step_R1 = (rate / (1 - MOMENTUM**times_R) / size_R)[:, None]
        decay = rate * self.config.weight_decay if name.endswith("_ids") else 0.0
        table_RD.mul_(1 - decay).sub_(first_RD * step_R1)
        if row_R is not None:
            for part, changed in zip(parts, (first_RD, second_R, times_R, table_RD), strict=True):
                part[row_R] = changed

    def _touch(self, batch: Batch) -> tuple[AnyArray, AnyArray, AnyArray]:
        """Return the rows of the items that the batch touches [T], candidates first, and where among them lie the items
        of the lines [L] and those that were taken [M], -1 for what is no candidate."""
        place_I, candidate_C = self._place_I, batch.candidate_C
        place_I.fill(-1)
        place_I[candidate_C] = np.arange(len(candidate_C))
        taken_M = place_I[batch.taken_item_M]
        others = np.unique(batch.lines.item_L[place_I[batch.lines.item_L] < 0])
        if not len(others):
            return candidate_C, place_I[batch.lines.item_L], taken_M
        place_I[others] = len(candidate_C) + np.arange(len(others))
        return np.concatenate([candidate_C, others]), place_I[batch.lines.item_L], taken_M

    def _target_place(self, batch: Batch) -> AnyArray:
        places_K: AnyArray = self._place_I[batch.target_item_K]
        return places_K

    def _kept(self, row_T: AnyArray, random: np.random.Generator) -> torch.Tensor:
        """Return 0 for items whose id is dropped, 1 for the others [T, 1]; without content an id is never dropped."""
        dropped_T = (random.random(len(row_T)) < self.config.item_id_dropout) & self._described_I[row_T]
        return self._tensor(~(dropped_T | self._untouched_I[row_T])[:, None]).float()

    def _content_of(self, row_T: AnyArray) -> Bag | None:
        if not self._content.nnz:
            return None
        if self._touching is None or self._touching[0] is not row_T:
            self._touching = row_T, Bag(self._content[row_T], self.device)
        return self._touching[1]

    def _history(self, lines: Lines, place_L: AnyArray, touched: int) -> Bag:
        share_L = lines.shares(half_life_days=self.config.half_life_days)
        shape = (len(lines.at_ms_B), touched)
        return Bag(csr_array((share_L, place_L, lines.starts_B1), shape=shape), self.device)

    def _about(self, lines: Lines) -> torch.Tensor:
        return self._tensor(lines.about(half_life_days=self.config.half_life_days))

    def _tensor(self, array: AnyArray) -> torch.Tensor:
        # Some arrays are read-only, such as mapped ones, and torch warns of sharing those.
        return torch.from_numpy(array if array.flags.writeable else array.copy()).to(self.device)


def _unit(raw_RD: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the rows at length 1, and their lengths [R, 1]."""
    length_R1 = raw_RD.norm(dim=1, keepdim=True).clamp_min(1e-6)
    return raw_RD / length_R1, length_R1


def _through_unit(gradient_RD: torch.Tensor, unit_RD: torch.Tensor, length_R1: torch.Tensor) -> torch.Tensor:
    """Return the gradient by the rows before :func:`_unit`: what points along a row changes nothing."""
    along_R1 = (gradient_RD * unit_RD).sum(dim=1, keepdim=True)
    return (gradient_RD - unit_RD * along_R1) / length_R1


def summed(row_B: torch.Tensor, value_BD: torch.Tensor) -> Gradient:
    """Return the gradient of the distinct rows."""
    row_R, place_B = torch.unique(row_B, return_inverse=True)
    return Gradient(row_R, value_BD.new_zeros(len(row_R), value_BD.shape[1]).index_add_(0, place_B, value_BD))


def _sparse(matrix: csr_array, device: torch.device) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    parts = (matrix.indices.astype(np.int64), matrix.indptr.astype(np.int64), matrix.data.astype(np.float32))
    columns, starts, values = (torch.from_numpy(part).to(device) for part in parts)
    return columns, starts, values


def _bags(sparse: tuple[torch.Tensor, torch.Tensor, torch.Tensor], table: torch.Tensor) -> torch.Tensor:
    columns, starts, values = sparse
    return torch.nn.functional.embedding_bag(
        columns, table, starts, mode="sum", per_sample_weights=values, include_last_offset=True
    )


def _has_bfloat16(device: torch.device) -> bool:
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported())
    return bool(torch.cpu._is_avx512_bf16_supported())


@contextmanager
def threads_for(products: int) -> Iterator[None]:
    """Let small work run on one thread: handing it round takes longer, much longer on a busy machine.

    Args:
        products: multiplications per step.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1 if products < SMALL_STEP else before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def best_device() -> str:
    """Return "cuda" where torch finds a GPU, else "cpu"."""
    return "cuda" if torch.cuda.is_available() else "cpu"
