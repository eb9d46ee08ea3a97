"""The tracking plan of an installation: read from its folder of files that people edit."""

from pathlib import Path

from bespoke.tracking import TrackingPlan, read_plan
from storage.toml import read_toml

FILE = "tracking.toml"


def load_plan(config_dir: Path) -> TrackingPlan | None:
    """Return the plan in ``config_dir``; None where there is no file or it says nothing.

    Raises:
        ConfigError: the file is no TOML, or an entry is unknown or wrong.
    """
    path = config_dir / FILE
    if not path.exists():
        return None
    document = read_toml(path)
    return read_plan(document) if document else None
