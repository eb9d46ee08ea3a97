"""The registry: published versions by name, and the pointers that say which of them serve."""

from datetime import UTC, datetime
from typing import Any

from bespoke.errors import NotFound, TrainingError
from bespoke.models.bundle import Manifest, read_manifest
from bespoke.models.registry import MODELS
from bespoke.models.verdict import Verdict
from storage.bundles import BundleStore
from storage.control import ControlStore
from storage.settings import Settings


def resolve(settings: Settings, model: str) -> str:
    """Return ``NAME@VERSION`` of a version, a pointer, or a name: its newest version that may serve.

    Raises:
        NotFound: there is no such thing; the message lists what there is.
        TrainingError: every version of that name was rejected.
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
    fit_to_serve = [version for version in versions if _gate(store, model, version).may_serve]
    if not fit_to_serve:
        reasons = "; ".join(_gate(store, model, versions[-1]).reasons)
        raise TrainingError(f"every version of {model} was rejected, the newest since: {reasons}; name a version")
    return f"{model}@{fit_to_serve[-1]}"


def _gate(store: BundleStore, name: str, version: str) -> Verdict:
    return read_manifest(store.path(name, version)).gate or Verdict(passed=True)


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
                    "gate": about.gate and about.gate.state,
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


def promote(settings: Settings, model: str, *, pointer: str, by: str, reason: str, force: bool = False) -> str:
    """Point ``pointer`` at a version; return it.

    Raises:
        NotFound: there is no such version.
        TrainingError: the gate rejected it, and ``force`` does not say to promote it all the same.
    """
    reference = resolve(settings, model)
    about = manifest(settings, reference)
    if about.kind not in MODELS:
        raise TrainingError(f"{reference} is a {about.kind} score and recommends nothing; no pointer serves it")
    gate = about.gate
    if gate is not None and not gate.may_serve and not force:
        raise TrainingError(f"{reference} was rejected: {'; '.join(gate.reasons)}; promote it all the same: --force")
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
