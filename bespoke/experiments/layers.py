"""Layers: experiments of one layer share its line of units and never meet; different layers are independent."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

from bespoke.errors import ConfigError
from bespoke.experiments.declaration import SHARE_TOLERANCE, Experiment

FILE = "config/experiments.toml"

Part = tuple[float, float]
"""Beginning and end of a part of a layer's line, in [0, 1]."""


class _Running(Protocol):
    """A state of a running experiment."""

    @property
    def definition(self) -> Experiment: ...

    @property
    def offset(self) -> float: ...

    def reserved(self, at_ms: int) -> float: ...


def check_layers(experiments: Iterable[Experiment]) -> None:
    """Check that experiments, as declared, can run at the same time.

    Raises:
        ConfigError: a layer is promised more than once over, or :func:`check_compatible` raises.
    """
    experiments = tuple(experiments)
    check_compatible(experiments)
    for layer, inside in _by_layer(experiments).items():
        total = sum(experiment.peak_traffic for experiment in inside)
        if total > 1.0 + SHARE_TOLERANCE:
            raise ConfigError(
                f"layer {layer!r}: traffic of {_names(inside)} sums to {total:.2f}, expected at most 1.00; give one "
                f'less traffic, a layer of its own, or start = "by hand" in {FILE}'
            )


def check_compatible(experiments: Iterable[Experiment]) -> None:
    """Check that experiments do not get into one another's way.

    Raises:
        ConfigError: a layer mixes units, or two layers would both choose the model or the pipeline.
    """
    layers = _by_layer(experiments)
    for layer, inside in layers.items():
        if len({experiment.unit for experiment in inside}) > 1:
            raise ConfigError(
                f"layer {layer!r}: {_names(inside)} assign different units, so nobody could keep them apart; "
                f"give them one unit, or layers of their own in {FILE}"
            )
    for what in ("model", "pipeline"):
        _check_one_chooses(what, layers)


def free_offset(experiment: Experiment, running: Iterable[_Running], *, at_ms: int) -> float:
    """Return where the experiment's part of its layer's line begins: the first gap that is wide enough.

    Raises:
        ConfigError: there is none.
    """
    at, wanted = 0.0, experiment.peak_traffic
    for begin, end in _parts(experiment.layer, running, at_ms=at_ms):
        if begin - at >= wanted - SHARE_TOLERANCE:
            break
        at = max(at, end)
    if 1.0 - at < wanted - SHARE_TOLERANCE:
        _refuse_full(experiment, running, wanted=wanted)
    return min(at, 1.0 - wanted) if at + wanted > 1.0 else at


def check_room(state: _Running, running: Iterable[_Running], *, at_ms: int) -> None:
    """Check that an experiment's part of the line, as it grew, meets no other.

    Raises:
        ConfigError: it does.
    """
    wanted = state.reserved(at_ms)
    others = [one for one in running if one.definition.name != state.definition.name]
    end = state.offset + wanted
    for begin, other_end in _parts(state.definition.layer, others, at_ms=at_ms):
        if state.offset < other_end - SHARE_TOLERANCE and begin < end - SHARE_TOLERANCE:
            _refuse_full(state.definition, others, wanted=wanted)
    if end > 1.0 + SHARE_TOLERANCE:
        _refuse_full(state.definition, others, wanted=wanted)


def _parts(layer: str, running: Iterable[_Running], *, at_ms: int) -> list[Part]:
    mine = [one for one in running if one.definition.layer == layer]
    return sorted((one.offset, one.offset + one.reserved(at_ms)) for one in mine)


def _refuse_full(experiment: Experiment, running: Iterable[_Running], *, wanted: float) -> None:
    names = sorted(one.definition.name for one in running if one.definition.layer == experiment.layer)
    raise ConfigError(
        f"experiment {experiment.name!r}: traffic {wanted:g} of layer {experiment.layer!r} is not free beside "
        f"{', '.join(names) or 'nothing else'}; stop one of them, ask for less, or give it a layer of its own in {FILE}"
    )


def _by_layer(experiments: Iterable[Experiment]) -> dict[str, list[Experiment]]:
    layers: dict[str, list[Experiment]] = {}
    for experiment in experiments:
        layers.setdefault(experiment.layer, []).append(experiment)
    return layers


def _names(experiments: Iterable[Experiment]) -> str:
    return ", ".join(experiment.name for experiment in experiments)


def _check_one_chooses(what: str, layers: Mapping[str, Sequence[Experiment]]) -> None:
    choosing = [
        layer for layer, inside in layers.items() if any(getattr(experiment, f"varies_{what}") for experiment in inside)
    ]
    if len(choosing) > 1:
        raise ConfigError(
            f"layers {' and '.join(sorted(choosing))} both choose the {what}, and an answer has one; "
            f"put their experiments into one layer in {FILE}"
        )
