"""Enrichment as config/enrichment.toml declares it: which steps run on every event before it is folded.

A new step is a class with ``apply``, its settings, and one entry in :data:`STEPS`.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, RootModel, field_validator

from bespoke.catalog import Catalog
from bespoke.clock import SECOND_MS
from bespoke.duplicates import DEFAULT_EVENTS, WITHIN_S, NearDuplicates
from bespoke.enrichment import CatalogStep, DeviceStep, Enrichment, LocationStep, Step, TableStep
from bespoke.errors import ConfigError, shown
from bespoke.events import INTERACTION_OF_NAME
from ingestion.reference_tables import ReferenceTable
from storage.toml import read_toml, validated

FILE = "enrichment.toml"
DEFAULT_STEPS = ("device", "location", "catalog", "tables")


class _Settings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class DeviceSettings(_Settings):
    """Devices from user agents."""

    bots: tuple[str, ...] = Field(default=(), description="What user agents of further bots contain; any case.")

    @field_validator("bots")
    @classmethod
    def _lower(cls, bots: tuple[str, ...]) -> tuple[str, ...]:
        if not all(bot.strip() for bot in bots):
            raise ValueError("an empty text is part of every user agent")
        return tuple(bot.lower() for bot in bots)


class LocationSettings(_Settings):
    """How exactly places are kept."""

    decimals: int = Field(default=2, ge=0, le=2, description="Of degrees: 2 are about 1 km, 1 about 10, 0 about 100.")


class CatalogSettings(_Settings):
    """What lines get from the catalog where they lack it."""

    fields: tuple[Literal["category", "brand", "price"], ...] = ("category", "brand", "price")
    category_level: int = Field(default=-1, ge=-1, le=9, description="0 the broadest category, -1 the narrowest.")


class TableSettings(_Settings):
    """One reference table."""

    file: str = Field(min_length=1, description="CSV or Parquet; a relative path counts from the folder of this file.")
    key: str = Field(min_length=1, description="The trait that is looked up, and the column that holds it.")
    columns: tuple[str, ...] = Field(min_length=1, description="Columns that become traits of the same name.")


class TablesSettings(RootModel[dict[str, TableSettings]]):
    """Reference tables by name."""

    root: dict[str, TableSettings] = Field(default_factory=dict)


class NearDuplicateSettings(_Settings):
    """Which events count as sent twice."""

    within_s: float = Field(default=WITHIN_S, ge=0, le=60, description="How near two must be; 0 turns it off.")
    events: tuple[str, ...] = Field(default=DEFAULT_EVENTS, description="Events that nobody does twice on purpose.")

    @field_validator("events")
    @classmethod
    def _known(cls, events: tuple[str, ...]) -> tuple[str, ...]:
        for event in events:
            if event not in INTERACTION_OF_NAME:
                raise ValueError(f"{event!r} is about no item, expected some of {', '.join(INTERACTION_OF_NAME)}")
        return events


@dataclass(frozen=True, slots=True)
class Resources:
    """What steps may draw on."""

    config_dir: Path
    catalog: Callable[[], Catalog]


@dataclass(frozen=True, slots=True)
class StepKind:
    """How a step is declared and made."""

    settings: type[BaseModel]
    build: Callable[[Any, Resources], Iterable[Step]]


def _device(settings: DeviceSettings, resources: Resources) -> Iterable[Step]:
    return [DeviceStep(settings.bots)]


def _location(settings: LocationSettings, resources: Resources) -> Iterable[Step]:
    return [LocationStep(settings.decimals)]


def _catalog(settings: CatalogSettings, resources: Resources) -> Iterable[Step]:
    return [CatalogStep(resources.catalog, settings.fields, settings.category_level)]


def _tables(settings: TablesSettings, resources: Resources) -> Iterable[Step]:
    for table in settings.root.values():
        path = resources.config_dir / table.file
        yield TableStep(table.key, ReferenceTable(path, key=table.key, columns=table.columns))


STEPS: Mapping[str, StepKind] = {
    "device": StepKind(DeviceSettings, _device),
    "location": StepKind(LocationSettings, _location),
    "catalog": StepKind(CatalogSettings, _catalog),
    "tables": StepKind(TablesSettings, _tables),
}
"""Every step there is. Events of steps that are not asked for pass by unchanged; addresses never stay in any case."""


def load_enrichment(config_dir: Path, *, catalog: Callable[[], Catalog]) -> Enrichment:
    """Return the enrichment that ``config_dir`` declares; the default steps where it holds no such file.

    Args:
        config_dir: the folder of files that people edit.
        catalog: returns the items as they are known now; called per event, so it must not read a file each time.

    Raises:
        ConfigError: a step or an entry is unknown or wrong, or a reference table cannot be read.
    """
    document, path = _document(config_dir)
    resources = Resources(config_dir, catalog)
    settings = {
        name: validated(kind.settings, document.get(name, {}), f"{path}: {name}") for name, kind in STEPS.items()
    }
    steps = [step for name in _steps(document, path) for step in STEPS[name].build(settings[name], resources)]
    device = settings["device"]
    assert isinstance(device, DeviceSettings)
    return Enrichment(tuple(steps), device.bots)


def load_near_duplicates(config_dir: Path) -> NearDuplicates:
    """Return which events ``config_dir`` lets count as sent twice.

    Raises:
        ConfigError: an entry is unknown or wrong.
    """
    document, path = _document(config_dir)
    settings = validated(NearDuplicateSettings, document.get("near_duplicates", {}), f"{path}: near_duplicates")
    return NearDuplicates(round(settings.within_s * SECOND_MS), frozenset(settings.events))


def _document(config_dir: Path) -> tuple[Mapping[str, Any], Path]:
    path = config_dir / FILE
    document = read_toml(path) if path.exists() else {}
    known = ("steps", "near_duplicates", *STEPS)
    for name in document:
        if name not in known:
            raise ConfigError(f"{path}: got {name!r}, expected some of {', '.join(known)}")
    return document, path


def _steps(document: Mapping[str, Any], path: Path) -> list[str]:
    steps = document.get("steps", list(DEFAULT_STEPS))
    if not isinstance(steps, list) or not all(isinstance(step, str) and step in STEPS for step in steps):
        raise ConfigError(f"{path}: steps: got {shown(steps)}, expected a list of some of {', '.join(STEPS)}")
    if len(set(steps)) < len(steps):
        raise ConfigError(f"{path}: steps: got {shown(steps)}, expected each step once")
    return steps
