"""How fast a year of real baskets goes from Parquet through checks, log, fold and lake.

The Complete Journey: 155,848 baskets as messages with 1,469,307 lines, catalog and traits beside them; nothing runs
yet, so the import starts its own processor, as `bespoke ingest` does. Online features are left to the service.
"""

import tempfile
from pathlib import Path

from benchmarks.harness import Figures, main
from ingestion.importer import import_files
from ingestion.mapping import load_mapping
from runtime.demo.journey import data_folder
from runtime.memory import PeakMemory
from storage.settings import Settings

MAPPING = Path("config/sources/complete_journey.toml")


def run() -> Figures:
    """Import the year into an empty installation."""
    with tempfile.TemporaryDirectory() as home, PeakMemory() as memory:
        result = import_files(data_folder(), load_mapping(MAPPING), Settings(home=Path(home)))
    return {
        "messages_per_s": result.accepted / result.seconds,
        "lines_per_s": result.lines / result.seconds,
        "peak_memory_mb": memory.mb,
        "seconds": result.seconds,
        "messages": result.accepted,
        "rejected": result.rejected,
    }


if __name__ == "__main__":
    main("ingest", run, about=(__doc__ or "").strip())
