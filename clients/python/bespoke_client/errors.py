"""What calls raise.

BespokeError
├── Refused     the service answered that it will not: status, code, message
└── NoAnswer    no answer came, or only that it has no time now, on every try
"""


class BespokeError(Exception):
    """Root of everything that calls raise."""


class Refused(BespokeError):
    """The service refused the request; sending it again would not help."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(f"{status} {code}: {message}")
        self.status, self.code, self.message = status, code, message


class NoAnswer(BespokeError):
    """The service could not be reached, or had no time, on every try."""
