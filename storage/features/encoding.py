"""Keys and values as the bytes that Feast's online stores hold, without an object of Feast's for each column.

A value is a ``feast.types.Value``: one field of it says the type and holds the content. The messages are declared here
as far as they are used, for to import Feast's takes seconds. Tests hold bytes against Feast's own.

Source: https://github.com/feast-dev/feast/blob/master/protos/feast/types/Value.proto
"""

import struct
from array import array
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, NamedTuple

import numpy as np

from bespoke.profiles import STATE_COLUMNS

JOIN_KEY = "user_id"
COLUMNS: Mapping[str, str] = {**STATE_COLUMNS, "version": "int", "segments": "strings"}
"""Every column of the view of states, and its kind."""

_STRING = 2
"""The number of feast.types.ValueType.STRING."""

_FIELDS = {"string": 2, "int": 4, "float": 5, "strings": 12, "ints": 14, "floats": 15}
"""The number of the field of feast.types.Value that holds each kind."""
_BYTES, _VARINT, _FIXED64 = 2, 0, 1
_WIRE = {"int": _VARINT, "float": _FIXED64}
_TAG = {kind: bytes([number << 3 | _WIRE.get(kind, _BYTES)]) for kind, number in _FIELDS.items()}
_CONTENT_TAG = b"\x0a"
"""Of the packed numbers within a list: field 1, bytes."""


class EncodedState(NamedTuple):
    """One person's row on its way to the online store."""

    key: bytes
    version: int
    at_ms: int
    """When its newest event was received."""
    values: Mapping[str, bytes]
    """By column; empty bytes stand for null."""


def key_prefix(join_key: str) -> bytes:
    """Return how the keys of an entity begin whose ids are text, as Feast's entity keys of version 3 are written."""
    return struct.pack("<III", 1, _STRING, len(join_key)) + join_key.encode() + struct.pack("<I", _STRING)


_PERSON = key_prefix(JOIN_KEY)


def entity_key(id: str, *, prefix: bytes = _PERSON) -> bytes:
    """Return the key of a person, or of another entity under its prefix."""
    raw = id.encode()
    return prefix + struct.pack("<I", len(raw)) + raw


def encode(kind: str, content: Any) -> bytes:
    """Return one value's bytes; None is empty."""
    if content is None:
        return b""
    return _TAG[kind] + _encoders()[kind](content)


def decode(kind: str, value: bytes | None) -> Any:
    """Return what :func:`encode` was given.

    Raises:
        DecodeError: the bytes are no value.
        ValueError: they are one of another kind, or cut short.
    """
    return decoded({"": value} if value is not None else {}, {"": kind})[""]


def decoded(values: Mapping[str, bytes], kinds: Mapping[str, str]) -> dict[str, Any]:
    """Return what the values of one row hold, by column; None where a column is null or absent.

    Raises:
        DecodeError: a column's bytes are no value.
        ValueError: they are one of another kind, or cut short.
    """
    parse, row = _parse(), dict[str, Any]()
    for name, kind in kinds.items():
        value = values.get(name)
        if not value:
            row[name] = None
            continue
        if value[0] != _TAG[kind][0]:
            raise ValueError(f"column {name}: got a value of field {value[0] >> 3}, expected one of kind {kind}")
        # By far the most columns of most people are short or empty, so what each costs besides its content counts.
        if kind == "ints":
            row[name] = parse(value).int64_list_val.val[:] if value[1] else []
        elif kind == "strings":
            row[name] = parse(value).string_list_val.val[:] if value[1] else []
        elif kind == "floats":
            row[name] = _floats(value) if value[1] else []
        elif kind == "int":
            row[name] = parse(value).int64_val
        else:
            row[name] = parse(value).string_val if kind == "string" else parse(value).double_val
    return row


def _floats(value: bytes) -> list[float]:
    start = _after_varint(value, _after_varint(value, 1) + 1)
    packed: list[float] = np.frombuffer(value, "<f8", offset=start).tolist()
    return packed


def varint(number: int) -> bytes:
    """Return a whole number as protobuf writes it, in groups of seven bits."""
    left, out = number & 0xFFFF_FFFF_FFFF_FFFF, bytearray()
    while left > 0x7F:
        out.append(left & 0x7F | 0x80)
        left >>= 7
    out.append(left)
    return bytes(out)


def _after_varint(value: bytes, start: int) -> int:
    """Return where the whole number that begins at ``start`` ends."""
    while value[start] > 0x7F:
        start += 1
    return start + 1


@cache
def _encoders() -> Mapping[str, Callable[[Any], bytes]]:
    numbers, strings = _message("Int64List"), _message("StringList")

    def sized(content: bytes) -> bytes:
        return varint(len(content)) + content

    def floats(content: list[float]) -> bytes:
        if not content:
            return b"\0"
        packed = array("d", content).tobytes()
        return sized(_CONTENT_TAG + sized(packed))

    return {
        "int": varint,
        "float": lambda content: struct.pack("<d", content),
        "string": lambda content: sized(content.encode()),
        "ints": lambda content: sized(numbers(val=content).SerializeToString()),
        "floats": floats,
        "strings": lambda content: sized(strings(val=content).SerializeToString()),
    }


@cache
def _parse() -> Callable[[bytes], Any]:
    parse: Callable[[bytes], Any] = _message("Value").FromString
    return parse


def _message(name: str) -> Any:
    """Return the class of a message."""
    from google.protobuf.message_factory import GetMessageClass

    return GetMessageClass(_pool().FindMessageTypeByName(f"values.{name}"))


@cache
def _pool() -> Any:
    """Return the messages, in a pool of their own: beside Feast's, the names would be taken."""
    from google.protobuf.descriptor_pb2 import FieldDescriptorProto as Field
    from google.protobuf.descriptor_pb2 import FileDescriptorProto
    from google.protobuf.descriptor_pool import DescriptorPool

    file = FileDescriptorProto(name="values.proto", package="values", syntax="proto3")

    def message(name: str, *fields: tuple[str, int, int, int, str | None]) -> None:
        declared = file.message_type.add(name=name)
        for field, number, type, label, of in fields:
            declared.field.add(name=field, number=number, type=type, label=label, type_name=of)

    one, many = Field.LABEL_OPTIONAL, Field.LABEL_REPEATED
    message("StringList", ("val", 1, Field.TYPE_STRING, many, None))
    message("Int64List", ("val", 1, Field.TYPE_INT64, many, None))
    message(
        "Value",
        ("string_val", _FIELDS["string"], Field.TYPE_STRING, one, None),
        ("int64_val", _FIELDS["int"], Field.TYPE_INT64, one, None),
        ("double_val", _FIELDS["float"], Field.TYPE_DOUBLE, one, None),
        ("string_list_val", _FIELDS["strings"], Field.TYPE_MESSAGE, one, ".values.StringList"),
        ("int64_list_val", _FIELDS["ints"], Field.TYPE_MESSAGE, one, ".values.Int64List"),
    )
    pool = DescriptorPool()
    pool.AddSerializedFile(file.SerializeToString())
    return pool
