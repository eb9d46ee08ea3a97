"""Makes failed claims of the contract suites show their values."""

import pytest

pytest.register_assert_rewrite("tests.contracts")
