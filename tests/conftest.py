"""What several rooms' tests share."""

from collections.abc import Iterator

import pytest

# The suites of contracts are no test files by name; their assertions should explain themselves all the same.
pytest.register_assert_rewrite("tests.contracts")
pytest_plugins = ["tests.support.servers"]


@pytest.fixture(scope="session")
def ray_session() -> Iterator[None]:
    """One Ray for the whole test run."""
    import ray

    from runtime.ray_local import logical_cpus, quiet_ray

    quiet_ray()
    ray.init(num_cpus=logical_cpus(), include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()
