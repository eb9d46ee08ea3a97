"""What a catalog says of its items, as sparse vectors: category path, words, brand and price as weighted terms.

Legend: I items, T distinct terms.
"""

import math
import re
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array, diags_array

from bespoke.catalog import Item
from bespoke.models.arrays import FloatArray

BoolArray = npt.NDArray[np.bool_]

FIELDS = ("category", "word", "brand", "price")
BUCKETS_PER_DOUBLING = 2
_WORD = re.compile(r"\w\w+")


def terms_of(item: Item | None) -> list[str]:
    """Return the terms of one item, each with its field in front.

    Every level of the category path is a term of its own together with the levels above it, so items share as many
    terms as their paths have levels in common.

    >>> terms_of(Item("1", name="Crushed ice", category=("FROZEN", "ICE"), brand="Pole", price=2.0))
    ['category:FROZEN', 'category:FROZEN/ICE', 'word:crushed', 'word:ice', 'brand:pole', 'price:2']
    """
    if item is None:
        return []
    terms = ["category:" + "/".join(item.category[: depth + 1]) for depth in range(len(item.category))]
    terms += ["word:" + word for word in _WORD.findall(f"{item.name or ''} {item.text or ''}".lower())]
    if item.brand:
        terms.append("brand:" + item.brand.lower())
    if item.price is not None and 0 < item.price < math.inf:
        terms.append(f"price:{math.floor(BUCKETS_PER_DOUBLING * math.log2(item.price))}")
    return terms


def term_vectors(items: Sequence[Item | None], *, weights: Mapping[str, float], limit: int) -> csr_array:
    """Return the items' TF-IDF vectors [I, T], each of length one; an item without terms has none.

    Args:
        items: I items; None where nothing is known.
        weights: what a term counts, by its field.
        limit: terms kept per item, the heaviest first.
    """
    documents = [terms_of(item) for item in items]
    if not any(documents):
        return csr_array(np.zeros((len(items), 0), dtype=np.float32))
    from sklearn.feature_extraction.text import TfidfVectorizer  # serving has no need of it

    vectorizer = TfidfVectorizer(analyzer=_unchanged, sublinear_tf=True, norm=None, dtype=np.float32)
    counted_IT = csr_array(vectorizer.fit_transform(documents))
    weight_T = [weights[term.split(":", 1)[0]] for term in vectorizer.get_feature_names_out()]
    weighted_IT = _heaviest(csr_array(counted_IT * np.array(weight_T, dtype=np.float32)), limit=limit)
    return unit_rows(weighted_IT)


def unit_rows(vector_IT: csr_array) -> csr_array:
    """Return the rows at length one; rows of zeros stay so."""
    squares_I = np.asarray(vector_IT.multiply(vector_IT).sum(axis=1)).ravel()
    length_I = np.sqrt(np.maximum(squares_I, np.finfo(np.float32).tiny))
    return csr_array(diags_array((1.0 / length_I).astype(np.float32)) @ vector_IT)


def expected(vector_IT: csr_array, value_S: FloatArray, *, seen_I: BoolArray, strength: float) -> FloatArray:
    """Return what each item's terms let expect [I] of a value that was seen on some items: ridge regression on terms.

    Args:
        vector_IT: the items' terms.
        value_S: the value of each item that was seen.
        seen_I: which items these are.
        strength: pull of the terms' shares towards zero; the mean is not pulled.
    """
    from scipy.sparse.linalg import lsqr

    mean = float(value_S.mean())
    seen_ST = vector_IT[np.flatnonzero(seen_I)]
    if not seen_ST.nnz:
        return np.full(len(seen_I), mean, dtype=np.float32)
    share_T = lsqr(seen_ST, value_S - mean, damp=math.sqrt(strength), iter_lim=100)[0]
    predicted_I: FloatArray = (mean + vector_IT @ share_T).astype(np.float32)
    return predicted_I


def _heaviest(vector_IT: csr_array, *, limit: int) -> csr_array:
    """Return the rows with the ``limit`` heaviest terms of each; of equal ones the first."""
    vector_IT.eliminate_zeros()
    row_P = np.repeat(np.arange(vector_IT.shape[0]), np.diff(vector_IT.indptr))
    order_P = np.lexsort((vector_IT.indices, -vector_IT.data, row_P))
    rank_P = np.arange(len(order_P)) - vector_IT.indptr[row_P[order_P]]
    kept_P = order_P[rank_P < limit]
    kept = csr_array((vector_IT.data[kept_P], (row_P[kept_P], vector_IT.indices[kept_P])), shape=vector_IT.shape)
    kept.sort_indices()
    return kept


def _unchanged(terms: list[str]) -> list[str]:
    return terms
