"""Ids and their rows."""

import pyarrow as pa
import pytest

from bespoke.vocabulary import CHUNK, Vocabulary

MANY = [f"i{n}" for n in range(2 * CHUNK + 3)]


def test_ids_keep_their_rows_over_several_chunks() -> None:
    for vocabulary in (Vocabulary(MANY), Vocabulary[str].from_arrow(pa.array(MANY))):
        assert vocabulary.ids == tuple(MANY) and len(vocabulary) == len(MANY)
        assert vocabulary.rows([MANY[-1], "?", MANY[0]]).tolist() == [len(MANY) - 1, -1, 0]


def test_columns_in_pieces_are_one_vocabulary() -> None:
    pieces = pa.chunked_array([MANY[:5], MANY[5:]])
    assert Vocabulary[str].from_arrow(pieces) == Vocabulary(MANY)
    assert Vocabulary[str].from_arrow(pa.chunked_array([], pa.string())).ids == ()


def test_an_id_comes_once() -> None:
    with pytest.raises(ValueError, match="1 repeated"):
        Vocabulary(["a", "b", "a"])
    with pytest.raises(ValueError, match="1 repeated"):
        Vocabulary([*MANY, MANY[0]])


def test_a_missing_id_is_refused() -> None:
    with pytest.raises(ValueError, match="1 ids are missing"):
        Vocabulary[str].from_arrow(pa.array(["a", None]))


def test_extending_keeps_the_rows_and_the_shorter_one_as_they_were() -> None:
    short = Vocabulary(["a", "b"])
    long = short.extended(["c", "a", "c", "d"])
    assert long.ids == ("a", "b", "c", "d") and long.row("d") == 3
    assert short.ids == ("a", "b") and "c" not in short
    assert short.extended(["b"]) is short
