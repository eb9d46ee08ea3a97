"""Errors in words: what can go wrong in ordinary use, as one message; a bug keeps its traceback."""

import sys

from bespoke.errors import BespokeError, shown


def explained(error: BaseException) -> str | None:
    """Return what to tell about ``error``; None where it is none that ordinary use can cause."""
    # What is not imported cannot have raised anything, and importing it here would take seconds.
    if "ray" in sys.modules and _is_of_ray(error):
        return _of_ray(error)
    if isinstance(error, BespokeError):
        return str(error)
    if isinstance(error, OSError):
        return f"{error.filename}: {error.strerror}" if error.filename else str(error)
    return _of_settings(error) if "pydantic" in sys.modules else None


def _is_of_ray(error: BaseException) -> bool:
    """Return whether Ray raised it: to be asked first, since a task's error is of its cause's type too."""
    from ray.exceptions import RayError

    return isinstance(error, RayError)


def _of_ray(error: BaseException) -> str | None:
    from ray.exceptions import GetTimeoutError, RayActorError

    if isinstance(error, GetTimeoutError):
        return "Ray did not answer in time; see its logs in /tmp/ray/session_latest/logs"
    if isinstance(error, RayActorError):
        return f"a process of Ray ended: {_first_line(error)}; see its logs in /tmp/ray/session_latest/logs"
    cause = _purposeful(error)
    return None if cause is None else str(cause)


def _purposeful(error: BaseException) -> BespokeError | None:
    """Return the error that Bespoke raised on purpose in a task, however often Ray wrapped it."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, BespokeError) and not _is_of_ray(cause):
            return cause
        cause = getattr(cause, "cause", None) or cause.__cause__
    return None


def _of_settings(error: BaseException) -> str | None:
    from pydantic import ValidationError

    if not isinstance(error, ValidationError) or error.title != "Settings":
        return None
    problem = error.errors()[0]
    name = "_".join(map(str, problem["loc"])).upper()
    return f"BESPOKE_{name}={shown(problem['input'])}: {problem['msg']}"


def _first_line(error: BaseException) -> str:
    return next((line.strip().rstrip(".") for line in str(error).splitlines() if line.strip()), type(error).__name__)
