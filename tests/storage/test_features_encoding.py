"""Feast's bytes, written and read here: the same as Feast's own."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.features.encoding import decode, decoded, encode, entity_key

FIELD = {
    "int": "int64_val",
    "float": "double_val",
    "string": "string_val",
    "ints": "int64_list_val",
    "floats": "double_list_val",
    "strings": "string_list_val",
}
whole = st.integers(-(2**63), 2**63 - 1)
numbers = st.floats(allow_nan=False)
contents: dict[str, st.SearchStrategy[Any]] = {
    "int": whole,
    "float": numbers,
    "string": st.text(),
    "ints": st.lists(whole),
    "floats": st.lists(numbers),
    "strings": st.lists(st.text()),
}
values = st.sampled_from(sorted(contents)).flatmap(lambda kind: st.tuples(st.just(kind), contents[kind]))


@pytest.fixture(scope="module", autouse=True)
def feast() -> None:
    """Import it before a first example is timed, since that takes seconds."""
    import feast  # noqa: F401


@given(values)
def test_values_are_written_as_feast_writes_them_and_read_back(value: tuple[str, Any]) -> None:
    from feast.protos.feast.types.Value_pb2 import Value

    kind, content = value
    field: Any = {FIELD[kind]: {"val": content} if isinstance(content, list) else content}
    assert encode(kind, content) == Value(**field).SerializeToString()
    assert decode(kind, encode(kind, content)) == content


@given(st.text())
def test_keys_are_written_as_feast_writes_them(user_id: str) -> None:
    from feast.infra.key_encoding_utils import serialize_entity_key
    from feast.protos.feast.types.EntityKey_pb2 import EntityKey
    from feast.protos.feast.types.Value_pb2 import Value

    key = EntityKey(join_keys=["user_id"], entity_values=[Value(string_val=user_id)])
    assert entity_key(user_id) == serialize_entity_key(key, entity_key_serialization_version=3)


def test_nothing_is_null() -> None:
    assert decode("int", encode("int", None)) is None
    assert decoded({}, {"events": "int"}) == {"events": None}


def test_a_value_of_another_kind_is_refused() -> None:
    with pytest.raises(ValueError, match="column events"):
        decoded({"events": encode("string", "seven")}, {"events": "int"})
