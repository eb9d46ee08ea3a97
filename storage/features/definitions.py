"""What serving has to know of the registered definitions, as a file beside Feast's registry.

``import feast`` takes six seconds of CPU and brings torch along. Who reads and pushes states needs a few names of the
registry and no more, so they are written down where it is applied.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

import orjson

from bespoke.errors import Unavailable
from storage.durable import replacing
from storage.settings import Settings

if TYPE_CHECKING:
    from feast import FeatureStore


@dataclass(frozen=True, slots=True)
class Definitions:
    """What was registered."""

    project: str
    ttl_ms: Mapping[str, int]
    """Of each view, how long a state may be used; zero: for ever."""
    columns: Mapping[str, Mapping[str, tuple[str, ...]]]
    """Of each service the columns that it names, by view."""

    @classmethod
    def of(cls, store: "FeatureStore") -> Self:
        """Return what the registry of ``store`` holds."""
        views = store.list_feature_views()
        return cls(
            store.project,
            {view.name: 0 if view.ttl is None else round(view.ttl.total_seconds() * 1_000) for view in views},
            {
                service.name: {
                    projection.name: tuple(feature.name for feature in projection.features)
                    for projection in service.feature_view_projections
                }
                for service in store.list_feature_services()
            },
        )

    @classmethod
    def read(cls, settings: Settings) -> Self:
        """Return what was written for an installation.

        Raises:
            Unavailable: nothing was registered yet, or the file is damaged.
        """
        path = definitions_path(settings)
        try:
            return cls(**orjson.loads(path.read_bytes()))
        except FileNotFoundError:
            raise Unavailable(f"no feature definitions at {path}; `bespoke up` registers them") from None
        except (TypeError, ValueError):
            raise Unavailable(f"{path} is damaged; `bespoke up` writes it anew") from None

    def write(self, settings: Settings) -> None:
        """Write them down, in the place of what stood there."""
        with replacing(definitions_path(settings)) as path:
            path.write_bytes(orjson.dumps(asdict(self)))


def definitions_path(settings: Settings) -> Path:
    """Return where they are written."""
    return settings.feast_dir / "definitions.json"
