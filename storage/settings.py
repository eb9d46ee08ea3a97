"""Settings of one installation: where things rest and how it listens. From the environment, prefix ``BESPOKE_``."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

_STORES = {
    "log_url": "log.db",
    "profiles_url": "profiles.db",
    "control_url": "control.db",
    "quality_url": "quality.db",
    "serving_url": "serving.db",
}
_SQLITE = "sqlite:///"


def _file(setting: str) -> Callable[[dict[str, Any]], str]:
    return lambda given: f"{_SQLITE}{given['home'] / _STORES[setting]}"


class Settings(BaseSettings):
    """One installation. Every field can be set by an environment variable, such as ``BESPOKE_HOME=/srv/bespoke``."""

    model_config = SettingsConfigDict(env_prefix="BESPOKE_", frozen=True, extra="ignore")

    home: Path = Field(default=Path("var"), description="Folder of everything that this installation writes.")
    config_dir: Path = Field(default=Path("config"), description="Folder of the files that people edit.")
    online_url: str | None = Field(
        default=None,
        description="Online features in a server instead of a SQLite file: redis://HOST:PORT or "
        "postgresql://USER:PASSWORD@HOST:PORT/DATABASE.",
    )
    # Addresses may hold passwords, so they are not shown where settings are.
    log_url: str = Field(
        default_factory=_file("log_url"),
        repr=False,
        description="The event log: sqlite:///PATH, by default log.db under home, or kafka://HOST:PORT/TOPIC.",
    )
    profiles_url: str = Field(
        default_factory=_file("profiles_url"),
        repr=False,
        description="The profile store: sqlite:///PATH, by default profiles.db under home, or postgresql+psycopg://...",
    )
    control_url: str = Field(
        default_factory=_file("control_url"),
        repr=False,
        description="The control store: sqlite:///PATH, by default control.db under home, or postgresql+psycopg://...",
    )
    quality_url: str = Field(
        default_factory=_file("quality_url"),
        repr=False,
        description="The quality store: sqlite:///PATH, by default quality.db under home, or postgresql+psycopg://...",
    )
    serving_url: str = Field(
        default_factory=_file("serving_url"),
        repr=False,
        description="The serving state store: sqlite:///PATH, by default serving.db under home, or postgresql+psycopg://...",
    )
    http_host: str = Field(default="127.0.0.1", description="Address that the HTTP ingress listens on.")
    http_port: int = Field(default=8000, ge=1, le=65535, description="Port of the HTTP ingress.")
    https_host: str = Field(default="0.0.0.0", description="Address that the HTTP ingress listens on with TLS.")
    https_port: int | None = Field(default=None, ge=1, le=65535, description="Port with TLS; none if absent.")
    tls_certificate: Path | None = Field(
        default=None, description="PEM file of the ingress: its key, its certificate and those above it."
    )
    replay: bool = Field(
        default=False,
        description="Take the time from the data: requests name it in X-Bespoke-Time, events of any age are accepted.",
    )

    def absolute(self) -> Self:
        """Return these settings for a process that may run in another folder: every path is absolute."""
        stores = {setting: _absolute(getattr(self, setting)) for setting in _STORES}
        return self.model_copy(update={"home": self.home.resolve(), "config_dir": self.config_dir.resolve(), **stores})

    def on_files(self) -> Self:
        """Return these settings with every store a file under home, whatever the environment says."""
        stores = {setting: f"{_SQLITE}{self.home / name}" for setting, name in _STORES.items()}
        return self.model_copy(update={"online_url": None, **stores})

    def environment(self) -> dict[str, str]:
        """Return the variables under which another process finds these settings; paths are absolute."""
        values = {name: getattr(self.absolute(), name) for name in type(self).model_fields}
        return {f"BESPOKE_{name.upper()}": str(value) for name, value in values.items() if value is not None}

    @property
    def lake_dir(self) -> Path:
        """The lake's folder."""
        return self.home / "lake"

    @property
    def bundles_dir(self) -> Path:
        """Published model bundles."""
        return self.home / "bundles"

    @property
    def feast_dir(self) -> Path:
        """Feast's registry and, by default, its online store."""
        return self.home / "feast"

    @property
    def cache_dir(self) -> Path:
        """What can be made again from the rest, kept to save time."""
        return self.home / "cache"

    @property
    def tune_dir(self) -> Path:
        """Searches for settings, so that they can be resumed."""
        return self.home / "tune"

    @property
    def reports_dir(self) -> Path:
        """Written reports."""
        return self.home / "reports"


def _absolute(url: str) -> str:
    return f"{_SQLITE}{Path(url.removeprefix(_SQLITE)).resolve()}" if url.startswith(_SQLITE) else url
