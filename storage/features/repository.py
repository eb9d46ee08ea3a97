"""The definitions of feature_repo/, registered and read for one installation."""

import importlib
import os
import shutil
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from bespoke.errors import Unavailable
from storage.features.address import PostgresAddress, RedisAddress, parse_address
from storage.features.definitions import Definitions
from storage.features.encoding import COLUMNS
from storage.features.failures import unavailable_on_failure
from storage.features.postgres import PostgresRows
from storage.features.redis import RedisRows
from storage.features.rows import OnlineRows
from storage.features.sqlite import SqliteRows
from storage.settings import Settings
from storage.sqlite import open_sqlite

if TYPE_CHECKING:
    from feast import FeatureStore, RepoConfig

FEATURE_REPO = Path(__file__).resolve().parents[2] / "feature_repo"
VIEW = "user_state"


def apply_feature_repo(settings: Settings) -> None:
    """Register the definitions of feature_repo/ and create the online tables; what exists already stays.

    Does what ``feast apply`` does, in this process. The registry is replaced as a whole, so that readers never see half
    of it. Call it before the processes that read features start: it changes the import path while it runs.

    Raises:
        ConfigError: the address of the online store cannot be read.
        Unavailable: the online store cannot be reached.
    """
    from feast import FeatureStore

    settings.feast_dir.mkdir(parents=True, exist_ok=True)
    registry = registry_path(settings)
    beside = registry.with_suffix(".new")
    beside.unlink(missing_ok=True)
    if registry.exists():
        shutil.copyfile(registry, beside)
    with unavailable_on_failure():
        store = FeatureStore(config=_config(settings, registry=beside))
        try:
            store.apply(_definitions(settings))
            definitions = Definitions.of(store)
        finally:
            close_store(store)
    os.replace(beside, registry)
    definitions.write(settings)
    if settings.online_url is None:
        # Write-ahead mode, which the file remembers: readers and the writer do not wait for each other.
        open_sqlite(_online_path(settings)).close()


def open_store(settings: Settings) -> "FeatureStore":
    """Return Feast's store over the registered definitions.

    Raises:
        Unavailable: nothing was registered yet.
    """
    registry = registry_path(settings)
    if not registry.exists():
        raise Unavailable(f"no feature registry at {registry}; `bespoke up` creates it")
    from feast import FeatureStore

    return FeatureStore(config=_config(settings, registry=registry))


def close_store(store: "FeatureStore") -> None:
    """Let go of the connection that Feast's own PostgreSQL or SQLite store opened, which Feast itself never does."""
    online: Any = store.provider.online_store
    if getattr(online, "_conn", None) is not None:
        online._conn.close()
        online._conn = None


def open_rows(
    settings: Settings, *, project: str, view: str = VIEW, columns: Iterable[str] = tuple(COLUMNS)
) -> OnlineRows:
    """Return the rows of a view in the online store: of people's states, or of another with its columns."""
    address, table = parse_address(settings.online_url), f"{project}_{view}"
    if isinstance(address, RedisAddress):
        return RedisRows(address, project=project, view=view, columns=tuple(columns))
    if isinstance(address, PostgresAddress):
        return PostgresRows(address, table=table)
    return SqliteRows(_online_path(settings), table=table)


def columns_of_view(service: Any) -> Sequence[str]:
    """Return the columns of the view of states that a feature service names."""
    return tuple(
        feature.name
        for projection in service.feature_view_projections
        if projection.name == VIEW
        for feature in projection.features
    )


def registry_path(settings: Settings) -> Path:
    """Return where the definitions are registered."""
    return settings.feast_dir / "registry.db"


def _online_path(settings: Settings) -> Path:
    return settings.feast_dir / "online.db"


def _config(settings: Settings, *, registry: Path) -> "RepoConfig":
    """Return the repository's own settings with the places of this installation in them."""
    from feast import RepoConfig

    address = parse_address(settings.online_url)
    engine = {RedisAddress: ".redis", PostgresAddress: ".postgres"}.get(type(address), "")
    raw = yaml.safe_load((FEATURE_REPO / f"feature_store{engine}.yaml").read_text())
    raw["registry"]["path"] = str(registry.resolve())
    online = raw["online_store"]
    if isinstance(address, RedisAddress):
        _, _, limits = online["connection_string"].partition(",")
        online["connection_string"] = f"{address.feast_string},{limits}"
    elif isinstance(address, PostgresAddress):
        online |= address.feast_options
    else:
        online["path"] = str(_online_path(settings).resolve())
    return RepoConfig(**raw, repo_path=FEATURE_REPO)


def _definitions(settings: Settings) -> list[Any]:
    """Return every Feast object of feature_repo/. Feast's own loader would change the working directory instead."""
    from feast import Entity, FeatureService, FeatureView
    from feast.data_source import DataSource

    kinds = (Entity, DataSource, FeatureView, FeatureService)
    names = sorted(path.stem for path in FEATURE_REPO.glob("*.py"))
    with _importable(FEATURE_REPO, names, home=settings.home.resolve()):
        modules = [importlib.import_module(name) for name in names]
    found = {id(value): value for module in modules for value in vars(module).values() if isinstance(value, kinds)}
    return list(found.values())


@contextmanager
def _importable(folder: Path, names: Iterable[str], *, home: Path) -> Iterator[None]:
    """Let bare sibling imports work and ``BESPOKE_HOME`` be ``home``, and leave no trace."""
    hidden = {name: sys.modules.pop(name) for name in names if name in sys.modules}
    earlier_home, wrote_bytecode = os.environ.get("BESPOKE_HOME"), sys.dont_write_bytecode
    sys.path.insert(0, str(folder))
    os.environ["BESPOKE_HOME"] = str(home)
    sys.dont_write_bytecode = True
    try:
        yield
    finally:
        sys.path.remove(str(folder))
        sys.dont_write_bytecode = wrote_bytecode
        if earlier_home is None:
            del os.environ["BESPOKE_HOME"]
        else:
            os.environ["BESPOKE_HOME"] = earlier_home
        for name in names:
            sys.modules.pop(name, None)
        sys.modules.update(hidden)
