"""Which files an import reads: the one that was given, or those that the mapping names."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bespoke.errors import ConfigError
from ingestion.mapping import CatalogPart, Computed, EventsPart, Mapping, TraitsPart
from ingestion.tables import SUFFIXES


@dataclass(frozen=True, slots=True)
class Files:
    """The file of each part of a mapping; None where the mapping has no such part."""

    events: Path | None
    catalog: Path | None
    traits: Path | None
    joined: tuple[Path, ...]
    """The files that values of the events are taken from."""

    def all(self) -> list[Path]:
        """Return every file, each once."""
        named = [path for path in (self.events, self.catalog, self.traits, *self.joined) if path is not None]
        return list(dict.fromkeys(named))


def locate(given: Path, mapping: Mapping) -> Files:
    """Return the files to read, where ``given`` is a file or a folder.

    A file that is given is read for ``[events]`` whatever it is called; the other parts are looked for beside it.

    Raises:
        ConfigError: a file is missing; says what there is.
    """
    parts = [part for part in (mapping.events, mapping.catalog, mapping.traits) if part is not None]
    meant = mapping.events or next((part for part in parts if part.file == given.name), parts[0])

    def path_of(part: EventsPart | CatalogPart | TraitsPart | None) -> Path | None:
        if part is None:
            return None
        beside = given.is_file() and part is not meant and part.file is not None
        return find_file(given.parent if beside else given, part.file)

    events = path_of(mapping.events)
    joined = () if events is None else tuple(events.parent / name for name in _joined_files(mapping))
    for path in joined:
        if not path.is_file():
            raise ConfigError(f"no file at {path}, which values of [events] come from; put it beside {given.name}")
    return Files(events, path_of(mapping.catalog), path_of(mapping.traits), joined)


def find_file(given: Path, name: str | None) -> Path:
    """Return the file to read: ``given`` itself, or the one called ``name`` in the folder ``given``.

    Raises:
        ConfigError: there is no such file, or several and no name.
    """
    if given.is_file():
        return given
    if not given.is_dir():
        raise ConfigError(f"no file or folder at {given}")
    files = sorted(path for path in given.iterdir() if path.name.lower().endswith(SUFFIXES))
    if name is None and len(files) == 1:
        return files[0]
    if name is None or not (given / name).is_file():
        wanted = f"{name} is not in {given}" if name else f"{given} holds {len(files)} files and the mapping names none"
        raise ConfigError(f"{wanted}; there are: {', '.join(p.name for p in files) or 'no CSV or Parquet files'}")
    return given / name


def _joined_files(mapping: Mapping) -> Iterator[str]:
    if mapping.events is not None:
        for source in (mapping.events.timestamp, *mapping.events.sources().values()):
            if isinstance(source, Computed) and source.file is not None:
                yield source.file
