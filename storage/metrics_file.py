"""The file that declares what experiments are judged by."""

from pathlib import Path

from bespoke.statistics.declared import DeclaredMetric, load_metrics
from storage.toml import read_text

FILE = "metrics.toml"


def declared_metrics(config_dir: Path) -> dict[str, DeclaredMetric]:
    """Return the metrics that a folder of settings declares; none where it has no such file.

    Raises:
        ConfigError: the file is no TOML, or an entry is wrong.
    """
    path = config_dir / FILE
    return load_metrics(read_text(path), where=str(path)) if path.is_file() else {}
