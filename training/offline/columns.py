"""Columns of files: ids, times, interaction types and weights, whatever type they were written as."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from bespoke.clock import to_ms
from bespoke.errors import TrainingError, shown
from bespoke.events import INTERACTION_OF_NAME, InteractionType

Doubles = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

OTHER = "other"
"""An interaction type that is none of ours; such lines count 1."""
TYPES = (*(kind.value for kind in InteractionType), OTHER)
"""Every interaction type; lines carry the place in here."""
OTHER_CODE = len(TYPES) - 1
Codes = npt.NDArray[np.int8]

LATEST_MS = to_ms(datetime(2200, 1, 1))
SECONDS_BELOW, MS_BELOW, US_BELOW = 1e11, 1e14, 1e17
"""Magnitudes of numbers that count seconds, milliseconds and microseconds since 1970, up to the year 5138."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a column comes from, for errors."""

    file: str
    column: str

    def refuse(self, row: int, value: Any, expected: str) -> TrainingError:
        """Return an error about the value of a row; rows count from 1 below the heading."""
        return TrainingError(f"{self.file}: {self.column} of row {row + 1} is {shown(value)}, expected {expected}")


def ids(column: pa.ChunkedArray, place: Place | None = None) -> pa.Array:
    """Return ids as strings, nulls as they are; whole numbers look alike however they were written.

    >>> ids(pa.chunked_array([[7.0, None]])).to_pylist()
    ['7', None]
    """
    array = _one(column)
    if pa.types.is_floating(array.type):
        whole = pc.and_(pc.equal(array, pc.floor(array)), pc.less(pc.abs(array), 2.0**53))
        if pc.all(whole, min_count=0).as_py():
            array = pc.cast(pc.if_else(pc.is_finite(array), array, None), pa.int64())
    text = pc.cast(array, pa.string())
    decimals = pc.match_substring_regex(text, r"^-?\d+\.0$")
    if pc.all(decimals, min_count=1).as_py():
        text = pc.utf8_slice_codeunits(text, 0, -2)
    text = pc.utf8_trim_whitespace(text)
    return pc.if_else(pc.is_in(text, value_set=pa.array(["", "nan", "NaN"])), None, text)


def times_ms(column: pa.ChunkedArray, place: Place) -> Doubles:
    """Return milliseconds since 1970, NaN where there is none.

    Raises:
        TrainingError: a value is no time; names column, row and value.
    """
    array = _one(column)
    if pa.types.is_date(array.type) or pa.types.is_timestamp(array.type):
        return _of_stamps(array)
    if pa.types.is_string(array.type) or pa.types.is_large_string(array.type):
        numbers = _numbers(array)
        return _of_texts(array, place) if numbers is None else _of_numbers(numbers, place)
    if pa.types.is_integer(array.type) or pa.types.is_floating(array.type):
        return _of_numbers(_doubles(array), place)
    raise TrainingError(f"{place.file}: {place.column} holds {array.type}, expected times or numbers")


def weights(column: pa.ChunkedArray, place: Place) -> Doubles:
    """Return weights, NaN where there is none.

    Raises:
        TrainingError: a value is no number, not finite or negative; names column, row and value.
    """
    array = _one(column)
    text = pa.types.is_string(array.type) or pa.types.is_large_string(array.type)
    found = _numbers(array) if text else None if pa.types.is_temporal(array.type) else _doubles(array)
    if found is None:
        raise _first_refused(array, place, _is_no_number, "a number")
    present = np.asarray(pc.is_valid(array))
    _refuse_where(present & ~np.isfinite(found), found, place, "a finite number, 0 or more")
    _refuse_where(found < 0, found, place, "a number of 0 or more; leave out what was disliked")
    return found


def texts(column: pa.ChunkedArray, place: Place | None = None) -> pa.Array:
    """Return a column as strings, nulls as they are."""
    return pc.cast(_one(column), pa.string())


def interaction_types(column: pa.ChunkedArray) -> tuple[Codes, dict[str, int]]:
    """Return each line's place in TYPES, and how many lines there are of every type that is none of ours.

    Our own names and the e-commerce names of the Segment dialect are known, in any spelling:

    >>> codes, unknown = interaction_types(pa.chunked_array([["addToCart", "Order Completed", "yawn", None]]))
    >>> [TYPES[code] for code in codes], unknown
    (['add_to_cart', 'purchase', 'other', 'other'], {'yawn': 1})
    """
    encoded = _one(column).cast(pa.string()).dictionary_encode()
    values = encoded.dictionary.to_pylist()
    known = {_letters(name): kind.value for name, kind in INTERACTION_OF_NAME.items()}
    known |= {_letters(kind.value): kind.value for kind in InteractionType}
    code_of = np.array([*(TYPES.index(known.get(_letters(value), OTHER)) for value in values), OTHER_CODE], np.int8)
    place_N = pc.fill_null(encoded.indices, len(values)).to_numpy(zero_copy_only=False)
    counts = np.bincount(place_N, minlength=len(values)).tolist()
    unknown = {value: n for value, n in zip(values, counts, strict=False) if _letters(value) not in known}
    return code_of[place_N], unknown


def _letters(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


def _one(column: Any) -> pa.Array:
    return column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column


def _doubles(array: pa.Array) -> Doubles:
    found: Doubles = pc.cast(array, pa.float64(), safe=False).to_numpy(zero_copy_only=False).astype(np.float64)
    return found


def _numbers(array: pa.Array) -> Doubles | None:
    """Return the numbers that strings stand for; None where one is no number."""
    try:
        return _doubles(pc.utf8_trim_whitespace(array))
    except pa.ArrowInvalid:
        return None


def _of_stamps(array: pa.Array) -> Doubles:
    zone = getattr(array.type, "tz", None)
    whole = pc.cast(pc.cast(array, pa.timestamp("ms", tz=zone), safe=False), pa.int64())
    return _doubles(whole)


def _of_numbers(value_N: Doubles, place: Place) -> Doubles:
    _refuse_where(np.isinf(value_N), value_N, place, "a finite number")
    _refuse_where(value_N < 0, value_N, place, "seconds, ms, µs or ns since 1970")
    present_N = value_N[~np.isnan(value_N)]
    if not len(present_N):
        return value_N
    per_ms = _units_per_ms(float(np.median(present_N)))
    at_ms_N = np.floor(value_N / per_ms)
    _refuse_where(at_ms_N > LATEST_MS, value_N, place, "a time before 2200, in the unit of the other rows")
    return at_ms_N


def _units_per_ms(typical: float) -> float:
    if typical < SECONDS_BELOW:
        return 1e-3
    return 1.0 if typical < MS_BELOW else 1e3 if typical < US_BELOW else 1e6


def _of_texts(array: pa.Array, place: Place) -> Doubles:
    try:
        return _of_stamps(pc.cast(pc.utf8_trim_whitespace(array), pa.timestamp("us")))
    except pa.ArrowInvalid:
        pass  # Zones and other precisions: slower, a distinct value at a time.
    encoded = array.dictionary_encode()
    values = [_ms_of(text) for text in encoded.dictionary.to_pylist()]
    if None in values:
        raise _first_refused(array, place, lambda text: _ms_of(text) is None, "an ISO 8601 time or a number")
    code_N = pc.fill_null(encoded.indices, len(values)).to_numpy(zero_copy_only=False)
    at_ms_N: Doubles = np.array([*values, np.nan], dtype=np.float64)[code_N]
    return at_ms_N


def _ms_of(text: str) -> int | None:
    try:
        return to_ms(datetime.fromisoformat(text.strip().removesuffix(" UTC")))
    except ValueError:
        return None


def _is_no_number(value: Any) -> bool:
    try:
        float(value)
    except (TypeError, ValueError):
        return True
    return False


def _first_refused(array: pa.Array, place: Place, refused: Callable[[Any], bool], expected: str) -> TrainingError:
    for row, value in enumerate(array.to_pylist()):
        if value is not None and refused(value):
            return place.refuse(row, value, expected)
    return TrainingError(f"{place.file}: {place.column} holds {array.type}, expected {expected}")


def _refuse_where(wrong_N: Bools, value_N: Doubles, place: Place, expected: str) -> None:
    rows = np.flatnonzero(wrong_N)
    if len(rows):
        raise place.refuse(int(rows[0]), float(value_N[rows[0]]), expected)
