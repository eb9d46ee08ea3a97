"""The exceptions of Bespoke.

BespokeError
├── ConfigError            a file in config/ or a setting is wrong
│   └── ExpressionError    an expression over items is wrong; in bespoke.expressions, with the place and what is allowed
├── InvalidEvent           one event breaks the contract: carries field, value and what is allowed
├── BundleError            a model bundle is incomplete, altered or of another format
├── TrainingError          a model cannot be trained from what was given
├── NotFound               a named thing does not exist
├── Unauthorized           no key, an unknown key or a revoked one
│   └── Forbidden          a good key without the scope
└── Unavailable            a store cannot be reached now; the same call may succeed later
"""

from typing import Any


class BespokeError(Exception):
    """Everything that Bespoke raises on purpose. The message names the value and the way out."""


class ConfigError(BespokeError):
    """A file in config/ or a setting is wrong."""


class InvalidEvent(BespokeError):
    """One event breaks the contract.

    Attributes:
        field: path of the offending field, such as ``properties.products[2].price``.
        value: what was sent there, shortened.
        allowed: what would have been accepted.
    """

    def __init__(self, field: str, value: Any, allowed: str) -> None:
        self.field = field
        self.value = shown(value)
        self.allowed = allowed
        super().__init__(f"{field}: got {self.value}, expected {allowed}")


class BundleError(BespokeError):
    """A model bundle is incomplete, altered or of another format."""


class TrainingError(BespokeError):
    """A model cannot be trained from what was given."""


class NotFound(BespokeError):
    """A named thing does not exist."""


class Unauthorized(BespokeError):
    """No key, an unknown key or a revoked one."""


class Forbidden(Unauthorized):
    """A good key that lacks the scope."""


class Unavailable(BespokeError):
    """A store cannot be reached now; the same call may succeed later."""


def shown(value: Any, *, limit: int = 80) -> str:
    """Return ``value`` for an error message, shortened.

    >>> shown("x" * 200)[-6:]
    'xxx...'
    """
    text = repr(value)
    return text if len(text) <= limit else text[: limit - 3] + "..."
