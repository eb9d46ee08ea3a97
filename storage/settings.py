"""Settings of one installation: where things rest and how it listens. From the environment, prefix ``BESPOKE_``."""

from pathlib import Path

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class Settings(BaseSettings):
    """One installation. Every field can be set by an environment variable, such as ``BESPOKE_HOME=/srv/bespoke``."""

    model_config = SettingsConfigDict(env_prefix="BESPOKE_", frozen=True, extra="ignore")

    home: Path = Field(default=Path("var"), description="Folder of everything that this installation writes.")
    config_dir: Path = Field(default=Path("config"), description="Folder of the files that people edit.")
    redis_url: str | None = Field(default=None, description="Online features in Redis instead of SQLite: host:port.")
    http_host: str = Field(default="127.0.0.1", description="Address that the HTTP ingress listens on.")
    http_port: int = Field(default=8000, ge=1, le=65535, description="Port of the HTTP ingress.")
    replay: bool = Field(
        default=False,
        description="Take the time from the data: requests name it in X-Bespoke-Time, events of any age are accepted.",
    )

    @property
    def log_path(self) -> Path:
        """The event log."""
        return self.home / "log.db"

    @property
    def profiles_url(self) -> str:
        """SQLAlchemy address of the profile store."""
        return f"sqlite:///{self.home / 'profiles.db'}"

    @property
    def control_url(self) -> str:
        """SQLAlchemy address of the control store."""
        return f"sqlite:///{self.home / 'control.db'}"

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
