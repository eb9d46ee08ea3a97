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


@pytest.mark.parametrize("count", [3, len(MANY)])
def test_rows_of_another_vocabulary_are_those_of_its_ids(count: int) -> None:
    here, other = Vocabulary(MANY), Vocabulary([*MANY[-count:][::-1], "?"])
    assert here.rows_of(other).tolist() == here.rows(other.ids).tolist()
    assert here.rows_of(Vocabulary(MANY)).tolist() == list(range(len(MANY)))
    longer = Vocabulary[str].from_arrow(pa.array(MANY)).extended(["?"])
    assert longer.rows_of(other).tolist() == longer.rows(other.ids).tolist()


def test_a_vocabulary_tells_whether_ids_have_the_rows_that_they_had() -> None:
    other = Vocabulary(MANY[1:])
    row_N = Vocabulary(MANY).rows_of(other)
    assert Vocabulary(["another", *MANY[1:], "more"]).stands_at(row_N, other)
    assert not Vocabulary(MANY[1:]).stands_at(row_N, other), "all moved by one, and the last row is gone"
    assert not Vocabulary(["more", MANY[0], *MANY[1:]]).stands_at(row_N, other), "all moved by one"
