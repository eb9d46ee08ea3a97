"""Ray for one command: joins the installation's running Ray, or starts one for as long as it takes."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager

from storage.settings import Settings

LOGICAL_CPUS = 4
"""At least so many, since with fewer Ray Data may wait for a CPU that training holds."""


def logical_cpus() -> int:
    """Return how many CPUs to tell Ray that there are."""
    return max(LOGICAL_CPUS, os.cpu_count() or 1)


@contextmanager
def ray_session(settings: Settings) -> Iterator[None]:
    """Connect to Ray for the time of a command; where this process is connected already, that stays."""
    quiet_ray()
    import ray

    if ray.is_initialized():
        yield
        return

    from runtime.state import read_state

    state = read_state(settings.home)
    if state is not None and state.alive():
        ray.init(address=state.ray_address, log_to_driver=False, logging_level=logging.ERROR)
    else:
        ray.init(num_cpus=logical_cpus(), include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    try:
        yield
    finally:
        ray.shutdown()


def quiet_ray() -> None:
    """Set, before Ray starts, what keeps it from reporting home and from talking between our own lines."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
    os.environ.setdefault("RAY_DATA_DISABLE_PROGRESS_BARS", "1")
    for name in ("ray", "ray.data", "ray.tune", "ray.train"):
        logging.getLogger(name).setLevel(logging.ERROR)
