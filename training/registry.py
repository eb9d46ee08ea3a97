"""The registry: published versions by name, and the pointers that say which of them serve."""

from datetime import UTC, datetime
from typing import Any

from bespoke.errors import NotFound
from bespoke.models.bundle import Manifest, read_manifest
from storage.bundles import BundleStore
from storage.control import ControlStore
from storage.settings import Settings


def resolve(settings: Settings, model: str) -> str:
    """Return ``NAME@VERSION`` of a version, a name (its newest version) or a pointer.

    Raises:
        NotFound: there is no such thing; the message lists what there is.
    """
    store = BundleStore(settings.bundles_dir)
    if "@" in model:
        name, version = model.split("@", 1)
        store.path(name, version)
        return model
    with ControlStore(settings.control_url) as control:
        pointed = control.pointer(model)
    if pointed is not None:
        return pointed
    versions = store.versions(model)
    if not versions:
        there_are = ", ".join(store.names()) or "nothing published yet: run `bespoke train als --promote champion`"
        raise NotFound(f"no model or pointer {model!r}; there are: {there_are}")
    return f"{model}@{versions[-1]}"


def manifest(settings: Settings, model: str) -> Manifest:
    """Return the manifest of a version, of a name's newest version or of what a pointer names."""
    name, version = resolve(settings, model).split("@", 1)
    return read_manifest(BundleStore(settings.bundles_dir).path(name, version))


def published(settings: Settings) -> list[dict[str, Any]]:
    """Return a row for each published version, newest first, with the pointers that name it."""
    store = BundleStore(settings.bundles_dir)
    pointed = pointers(settings)
    rows = []
    for name in store.names():
        for version in reversed(store.versions(name)):
            about = read_manifest(store.path(name, version))
            reference = f"{name}@{version}"
            rows.append(
                {
                    "model": reference,
                    "kind": about.kind,
                    "window": f"{about.window.since:%Y-%m-%d} to {about.window.until:%Y-%m-%d}",
                    "ndcg@20": about.metrics.get("ndcg@20"),
                    "recall@20": about.metrics.get("recall@20"),
                    "pointers": ", ".join(sorted(key for key, value in pointed.items() if value == reference)) or None,
                }
            )
    return rows


def pointers(settings: Settings) -> dict[str, str]:
    """Return what every pointer names."""
    with ControlStore(settings.control_url) as control:
        return control.pointers()


def promote(settings: Settings, model: str, *, pointer: str, by: str, reason: str) -> str:
    """Point ``pointer`` at a version; return it."""
    reference = resolve(settings, model)
    with ControlStore(settings.control_url) as control:
        control.set_pointer(pointer, reference, by=by, reason=reason, at=datetime.now(UTC))
    return reference


def rollback(settings: Settings, pointer: str, *, by: str, reason: str) -> str:
    """Move ``pointer`` back to what it named before; return that.

    Raises:
        NotFound: it never named anything else.
    """
    with ControlStore(settings.control_url) as control:
        return control.rollback_pointer(pointer, by=by, reason=reason, at=datetime.now(UTC))
