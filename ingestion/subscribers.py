"""Subscribers: who is told of people entering and leaving segments, as config/subscribers.toml declares it."""

import os
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, HttpUrl, RootModel, field_validator, model_validator

from bespoke.errors import ConfigError
from storage.toml import read_toml, validated

FILE = "subscribers.toml"
Callback = Callable[[dict[str, Any]], None]


class Subscriber(BaseModel):
    """One subscriber: a web address or a Python function."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    url: HttpUrl | None = Field(default=None, description="Where each transition is posted as JSON.")
    secret_env: str | None = Field(
        default=None,
        pattern=r"^[A-Z_][A-Z0-9_]*$",
        description="Environment variable that holds the secret by which posts are signed.",
    )
    callback: str | None = Field(
        default=None,
        pattern=r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$",
        description="module:function that is called with each transition.",
    )
    segments: tuple[str, ...] | None = Field(default=None, description="Only these; all by default.")
    events: tuple[Literal["entered", "left"], ...] = Field(
        default=("entered", "left"), min_length=1, description="Which transitions."
    )
    timeout_s: float = Field(default=5.0, gt=0, le=60, description="How long one post may take.")
    max_attempts: int = Field(default=10, ge=1, le=50, description="Then a transition is given up, and kept as such.")

    @model_validator(mode="after")
    def _one_way(self) -> "Subscriber":
        if (self.url is None) == (self.callback is None):
            raise ValueError("either url or callback")
        if (self.url is None) != (self.secret_env is None):
            raise ValueError("url and secret_env go together: every post is signed")
        return self

    @field_validator("url")
    @classmethod
    def _no_password(cls, url: HttpUrl | None) -> HttpUrl | None:
        if url is not None and (url.username or url.password):
            raise ValueError("no password in an address; the signature says who sends")
        return url

    def secret(self, name: str) -> bytes:
        """Return the secret that posts are signed by.

        Raises:
            ConfigError: the variable is not set.
        """
        assert self.secret_env is not None
        value = os.environ.get(self.secret_env)
        if not value:
            raise ConfigError(
                f"{FILE}: {name}: set the environment variable {self.secret_env}, the secret of its posts"
            )
        return value.encode()

    def function(self, name: str) -> Callback:
        """Return the function that is called.

        Raises:
            ConfigError: there is no such module or function.
        """
        assert self.callback is not None
        module, _, attribute = self.callback.partition(":")
        try:
            found: Callback = getattr(import_module(module), attribute)
        except (ImportError, AttributeError) as error:
            raise ConfigError(f"{FILE}: {name}: callback {self.callback!r} cannot be imported: {error}") from error
        if not callable(found):
            raise ConfigError(f"{FILE}: {name}: callback {self.callback!r} is no function")
        return found


class _Subscribers(RootModel[dict[str, Subscriber]]):
    pass


def load_subscribers(config_dir: Path) -> dict[str, Subscriber]:
    """Return the subscribers by name; none where the folder has no such file.

    Raises:
        ConfigError: the file is no TOML, or an entry is wrong.
    """
    path = config_dir / FILE
    return validated(_Subscribers, read_toml(path), path).root if path.exists() else {}
