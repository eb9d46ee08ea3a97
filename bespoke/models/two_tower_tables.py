"""The tables that two_tower learns, and where they begin: at random, at an earlier two_tower or at an als model.

Shapes: U people, I items, D factors, F buckets of marks (0 where nothing is described), P numbers about a person.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_array

from bespoke.events import ItemId, UserId
from bespoke.models.als import Als
from bespoke.models.arrays import AnyArray, FloatArray, RowArray
from bespoke.models.history import ItemMass
from bespoke.models.two_tower_lines import ABOUT_PERSON, Lines
from bespoke.vocabulary import Vocabulary

Tables = Mapping[str, FloatArray]
"""person_ids [U, D], item_ids [I, D], content [F, D], history_map [D, D], about_map [P, D]."""
RIDGE = 1e-3
"""Keeps the map from histories to als factors short where few people tell about it."""


@dataclass(frozen=True, slots=True)
class Sizes:
    """Whose rows the tables hold, and how long they are."""

    users: Vocabulary[UserId]
    items: Vocabulary[ItemId]
    buckets: int
    factors: int

    @property
    def shapes(self) -> dict[str, tuple[int, int]]:
        """The shape of each table."""
        return {
            "person_ids": (len(self.users), self.factors),
            "item_ids": (len(self.items), self.factors),
            "content": (self.buckets, self.factors),
            "history_map": (self.factors, self.factors),
            "about_map": (ABOUT_PERSON, self.factors),
        }


def at_random(sizes: Sizes, *, seed: int) -> dict[str, FloatArray]:
    """Return item rows in random directions, and people who are what they took."""
    random = np.random.default_rng([seed, 4])
    tables = {name: np.zeros(shape, dtype=np.float32) for name, shape in sizes.shapes.items()}
    for name, scale in (("item_ids", 1.0), ("content", 0.5), ("about_map", 0.1)):
        drawn = random.standard_normal(tables[name].shape, dtype=np.float32)
        tables[name] = drawn * np.float32(scale / np.sqrt(sizes.factors))
    tables["history_map"] = np.eye(sizes.factors, dtype=np.float32)
    return tables


def at_earlier(random: Tables, sizes: Sizes, before: Sizes, earlier: Tables) -> dict[str, FloatArray]:
    """Return the tables of an earlier model, rows by id; people and items that it does not know begin at random."""
    tables = dict(random)
    if sizes.factors != before.factors:
        return tables
    _copy_rows(tables["person_ids"], sizes.users, earlier["person_ids"], before.users)
    _copy_rows(tables["item_ids"], sizes.items, earlier["item_ids"], before.items)
    for name in ("content", "history_map", "about_map"):
        if tables[name].shape == earlier[name].shape:
            tables[name] = earlier[name].copy()
    return tables


def at_als(random: Tables, sizes: Sizes, als: Als, share_UI: csr_array) -> dict[str, FloatArray]:
    """Return tables whose cosines rank as the als products do, for everybody whom als knows.

    One coordinate more holds what an item's factors lack in length, so cosines keep popularity. People als does not
    know are placed by the map from histories to factors that suits those it knows best.

    Args:
        random: tables to begin at for items that als does not know.
        sizes: of the tables.
        als: where to begin; more factors than fit are cut to the principal ones.
        share_UI: what share each item has in a person's taste.
    """
    tables = dict(random)
    person_UD, item_ID = _fitted(als, sizes.factors - 1)
    longest = max(float(np.linalg.norm(item_ID, axis=1).max(initial=0.0)), 1e-12)
    lifted_ID = np.zeros((len(item_ID), sizes.factors), dtype=np.float32)
    lifted_ID[:, : item_ID.shape[1]] = item_ID / longest
    lifted_ID[:, -1] = np.sqrt(np.maximum(1 - np.square(lifted_ID).sum(axis=1), 0))
    _copy_rows(tables["item_ids"], sizes.items, lifted_ID, als.vocabulary)
    placed_UD = np.zeros((len(person_UD), sizes.factors), dtype=np.float32)
    length_U1 = np.linalg.norm(person_UD, axis=1, keepdims=True)
    placed_UD[:, : person_UD.shape[1]] = person_UD / np.maximum(length_U1, 1e-12)
    wanted_UD = np.zeros((share_UI.shape[0], sizes.factors), dtype=np.float32)
    row_U = als.users.rows(sizes.users.ids)
    wanted_UD[: len(row_U)][row_U >= 0] = placed_UD[row_U[row_U >= 0]]
    pooled_UD = share_UI @ tables["item_ids"]
    system_DD = pooled_UD.T @ pooled_UD
    system_DD[np.diag_indices_from(system_DD)] += RIDGE * len(pooled_UD)
    tables["history_map"] = np.linalg.solve(system_DD, pooled_UD.T @ wanted_UD).astype(np.float32)
    tables["about_map"][:] = 0
    rest_UD = wanted_UD - pooled_UD @ tables["history_map"]
    if len(row_U):
        tables["person_ids"] = np.where((row_U >= 0)[:, None], rest_UD[: len(row_U)], np.float32(0))
    return tables


def placed_again(als: Als, sizes: Sizes, person_B: RowArray, lines: Lines) -> Als:
    """Return the als model with some people placed by these lines alone, as if it had never seen others of them.

    Otherwise a model that begins at als would be told the lines that are held out to tell when to stop.

    Args:
        als: fitted on all lines.
        sizes: whose rows are meant.
        person_B: the people, by row.
        lines: theirs that count; people without any stay where they are.
    """
    row_I = als.vocabulary.rows(sizes.items.ids)
    lines = lines.without(row_I[lines.item_L] < 0)
    weight_L, shape = lines.aged(als.config.half_life_days), (len(person_B), len(als.vocabulary))
    mass_BI = csr_array((weight_L, row_I[lines.item_L], lines.starts_B1), shape=shape)
    mass_BI.sum_duplicates()
    user_UD = als.user_UD.copy()
    row_B = als.users.rows(sizes.users.ids[person] for person in person_B)
    for place in np.flatnonzero((row_B >= 0) & (np.diff(mass_BI.indptr) > 0)):
        mine = slice(mass_BI.indptr[place], mass_BI.indptr[place + 1])
        user_UD[row_B[place]] = als.fold_in(ItemMass(mass_BI.indices[mine], mass_BI.data[mine]))
    tables = {**als.arrays(), "user_factors": user_UD}
    return Als.from_arrays(tables, vocabulary=als.vocabulary, users=als.users, config=als.config)


def item_vectors(tables: Tables, content: csr_array, known_I: AnyArray) -> FloatArray:
    """Return the item tower's vectors before they are brought to length 1 [I, D].

    Args:
        tables: as trained.
        content: marks of every item [I, F].
        known_I: rows of the items with interactions; ids of others were never trained and do not count.
    """
    vector_ID = np.zeros_like(tables["item_ids"])
    vector_ID[known_I] = tables["item_ids"][known_I]
    if content.nnz:
        vector_ID += content @ tables["content"]
    return vector_ID


def _fitted(als: Als, factors: int) -> tuple[FloatArray, FloatArray]:
    """Return both sides' factors, at most so many: their products are the best approximation."""
    if als.item_ID.shape[1] <= factors:
        return als.user_UD, als.item_ID
    _, principal_DD = np.linalg.eigh((als.item_ID.T @ als.item_ID).astype(np.float64))
    kept_DF = principal_DD[:, ::-1][:, :factors].astype(np.float32)
    return als.user_UD @ kept_DF, als.item_ID @ kept_DF


def _copy_rows(into_RD: FloatArray, into: Vocabulary, rows_RD: FloatArray, of: Vocabulary) -> None:  # type: ignore[type-arg]
    row_R = of.rows(into.ids)
    if len(row_R):
        into_RD[row_R >= 0] = rows_RD[row_R[row_R >= 0]]
