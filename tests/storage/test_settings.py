"""Settings find the embedded stores under home, and other processes find the same ones."""

from pathlib import Path

import pytest

from storage.settings import Settings

KAFKA = "kafka://broker:9092/events?sasl.password=geheim"
POSTGRES = "postgresql+psycopg://bespoke:geheim@db/bespoke"


def test_stores_are_files_under_home_unless_the_environment_names_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BESPOKE_LOG_URL", KAFKA)
    monkeypatch.setenv("BESPOKE_PROFILES_URL", POSTGRES)
    settings = Settings(home=Path("/srv/b"))
    assert (settings.log_url, settings.profiles_url) == (KAFKA, POSTGRES)
    assert settings.control_url == "sqlite:////srv/b/control.db"


def test_stores_on_files_leave_the_environment_aside(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("BESPOKE_PROFILES_URL", POSTGRES)
    assert Settings(home=tmp_path).on_files().profiles_url == f"sqlite:///{tmp_path}/profiles.db"


def test_another_process_finds_the_same_settings_from_another_folder(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    settings = Settings(home=Path("var"), log_url=KAFKA, http_port=8123, control_url="sqlite:///own/control.db")
    meant = settings.absolute().model_dump()
    for name, value in settings.environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    assert Settings().model_dump() == meant != settings.model_dump()


def test_relative_stores_become_absolute_and_addresses_stay() -> None:
    settings = Settings(home=Path("var"), log_url=KAFKA).absolute()
    assert (settings.log_url, settings.profiles_url) == (KAFKA, f"sqlite:///{Path('var/profiles.db').absolute()}")


def test_passwords_are_not_shown_where_settings_are() -> None:
    assert "geheim" not in repr(Settings(log_url=KAFKA, profiles_url=POSTGRES, control_url=POSTGRES))
