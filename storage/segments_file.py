"""The file that defines segments."""

from pathlib import Path

from bespoke.segments import Segments, read_segments
from storage.toml import read_toml

FILE = "segments.toml"


def load_segments(config_dir: Path) -> Segments:
    """Return the segments that a folder of settings defines; none where it has no such file.

    Raises:
        ConfigError: the file is no TOML, or an entry is wrong.
    """
    path = config_dir / FILE
    scores = [score.stem for score in (config_dir / "scores").glob("*.toml") if not score.stem.endswith("-search")]
    return read_segments(read_toml(path) if path.exists() else {}, scores=scores, where=str(path))


def stamp_of(config_dir: Path) -> tuple[int, int]:
    """Return what changes when the file does: cheap to ask."""
    try:
        about = (config_dir / FILE).stat()
    except OSError:
        return 0, 0
    return about.st_mtime_ns, about.st_size
