"""Arrays on disk: safetensors files, read through a memory map.

The library's own NumPy reader copies every array into the process; mapped, several replicas share one copy in the page
cache. Source of the layout: https://github.com/huggingface/safetensors#format
"""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from safetensors.numpy import save_file

from bespoke.errors import BundleError, shown
from bespoke.models.arrays import AnyArray

DTYPES: Mapping[str, type[np.generic]] = {"F32": np.float32, "I8": np.int8}
"""What bundles hold, by the names that the format has for it."""
LENGTH_BYTES = 8
MAX_HEADER_BYTES = 1 << 20


def write_arrays(path: Path, arrays: Mapping[str, AnyArray]) -> None:
    """Write arrays of float32, or of int8.

    Raises:
        BundleError: an array is of another type or holds NaN or infinity.
    """
    for name, array in arrays.items():
        if array.dtype not in DTYPES.values():
            raise BundleError(f"array {name!r} is {array.dtype}, bundles hold float32 and int8")
        _require_finite(name, array)
    save_file({name: np.ascontiguousarray(array) for name, array in arrays.items()}, str(path))


def map_arrays(path: Path) -> dict[str, AnyArray]:
    """Return the arrays of a file that :func:`write_arrays` made, mapped and read-only.

    Raises:
        BundleError: the file is no such file, or an array holds NaN or infinity.
    """
    header, start = _header(path)
    mapped = np.memmap(path, dtype=np.uint8, mode="r")
    arrays = {name: _array(name, entry, np.asarray(mapped[start:])) for name, entry in header.items()}
    for name, array in arrays.items():
        _require_finite(name, array)
    return arrays


def _header(path: Path) -> tuple[dict[str, Any], int]:
    """Return the description of each array, and the offset at which their bytes begin."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(LENGTH_BYTES), "little")
        if length > MAX_HEADER_BYTES:
            raise BundleError(f"{path.name}: a header of {length} bytes, expected at most {MAX_HEADER_BYTES}")
        raw = file.read(length)
    try:
        header = orjson.loads(raw)
    except orjson.JSONDecodeError:
        raise BundleError(f"{path.name}: no safetensors header, got {shown(raw)}") from None
    if not isinstance(header, dict):
        raise BundleError(f"{path.name}: no safetensors header, got {shown(header)}")
    header.pop("__metadata__", None)
    return header, LENGTH_BYTES + length


def _array(name: str, entry: Any, content: AnyArray) -> AnyArray:
    try:
        dtype, shape, (first, end) = np.dtype(DTYPES[entry["dtype"]]), tuple(entry["shape"]), entry["data_offsets"]
        fits = 0 <= first <= end <= len(content) and end - first == dtype.itemsize * math.prod(shape)
    except (KeyError, TypeError, ValueError):
        fits = False
    if not fits:
        raise BundleError(f"array {name!r}: the file describes it as {shown(entry)}, which does not fit its bytes")
    return content[first:end].view(dtype).reshape(shape)


def _require_finite(name: str, array: AnyArray) -> None:
    if not np.isfinite(array).all():
        raise BundleError(f"array {name!r} holds NaN or infinity; the model did not train, do not serve it")
