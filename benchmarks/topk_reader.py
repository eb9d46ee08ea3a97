"""A process that reads bundles, touches every array and waits: ``python -m benchmarks.topk_reader FOLDER...``."""

import sys
from pathlib import Path

from bespoke.models.bundle import read_bundle
from bespoke.models.nearest_kernel import search_of
from bespoke.models.retrieval import codes_of


def main() -> None:
    """Read what the arguments name, between a line on standard input and its end."""
    search_of(64)
    print("ready to read", flush=True)
    sys.stdin.readline()
    bundles = [read_bundle(Path(folder)) for folder in sys.argv[1:]]
    for bundle in bundles:
        codes = codes_of(bundle.model)
        for array in (*bundle.model.arrays().values(), *(() if codes is None else codes.arrays().values())):
            array.sum()
    print("read", flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main()
