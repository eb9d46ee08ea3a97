"""What is in force: pointers to model versions and the states of experiments, each with its history."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from sqlalchemy import Connection, Row, func, select

from bespoke.clock import from_ms, to_ms
from bespoke.errors import ConfigError, NotFound
from bespoke.experiments import parse_state
from storage.control_tables import ControlPart, decisions, record_in
from storage.sql import Superseded, reading, take_turns, writing

Kind = Literal["pointer", "experiment"]
Change = Callable[[Mapping[str, dict[str, Any]]], dict[str, Any] | None]
"""Returns an experiment's next state from all that are in force; None: it ends."""


@dataclass(frozen=True, slots=True)
class Decision:
    """One entry of a history: from ``at`` on, ``value`` was in force."""

    value: Any
    """A pointer's target, such as ``als@20261123T061500Z-1``; an experiment's state; None: nothing from then on."""
    by: str
    reason: str
    at: datetime


class Decisions(ControlPart):
    """The pointers and experiments of the control store."""

    def set_pointer(self, name: str, target: str, *, by: str, reason: str, at: datetime) -> None:
        """Point ``name``, such as ``champion``, at a version ``MODEL@VERSION``.

        Experiments that waited for nothing else begin now.
        """
        with writing(self._engine) as connection:
            if _decide(connection, "pointer", name, target, by=by, reason=reason, at=at):
                _begin_awaited(connection, name, by=by, at=at)

    def pointer(self, name: str) -> str | None:
        """Return what ``name`` points at; None if it was never set."""
        return self.pointers().get(name)

    def pointers(self) -> dict[str, str]:
        """Return what every pointer points at, by name."""
        return self._in_force("pointer")

    def pointer_history(self, name: str) -> list[Decision]:
        """Return everything that ``name`` pointed at, oldest first."""
        return self._history("pointer", name)

    def rollback_pointer(self, name: str, *, by: str, reason: str, at: datetime, expected: str | None = None) -> str:
        """Point ``name`` at what it named before, and return that; called again, it goes back one further.

        Raises:
            NotFound: it never named anything else.
            Superseded: it no longer names ``expected``, where that is given.
        """
        with writing(self._engine) as connection:
            take_turns(connection, f"pointer:{name}")
            current = _current(connection, "pointer", name)
            if expected is not None and (current is None or current.value != expected):
                raise Superseded(f"pointer {name!r} no longer names {expected}, so it is not rolled back")
            before = None if current is None else _by_id(connection, current.returns_to)
            if before is None:
                raise NotFound(f"pointer {name!r}: it never named anything else, so there is nothing to go back to")
            _add(connection, "pointer", name, before.value, before.returns_to, by=by, reason=reason, at=at)
            details = {"value": before.value, "reason": reason}
            record_in(connection, "pointer.rollback", f"pointer:{name}", by=by, at=at, details=details)
        return str(before.value)

    def set_experiment(self, name: str, state: Mapping[str, Any], *, by: str, at: datetime, reason: str = "") -> None:
        """Put an experiment's state, a JSON object, in force."""
        with writing(self._engine) as connection:
            _decide(connection, "experiment", name, dict(state), by=by, reason=reason, at=at)

    def end_experiment(self, name: str, *, by: str, at: datetime, reason: str = "") -> None:
        """Take an experiment out of force; its history stays."""
        with writing(self._engine) as connection:
            _decide(connection, "experiment", name, None, by=by, reason=reason, at=at)

    def change_experiment(
        self, name: str, change: Change, *, action: str, by: str, at: datetime, reason: str = ""
    ) -> dict[str, Any] | None:
        """Put in force what ``change`` makes of the present states; return it. Changes run one after the other.

        Args:
            name: the experiment.
            change: what it raises is raised, and nothing changes; the same state again is no change.
            action: what the audit trail calls it, such as ``experiment.ramp``.
            by: who does it.
            at: when.
            reason: why.
        """
        with writing(self._engine) as connection:
            take_turns(connection, "experiments")
            in_force = _all_in_force(connection, "experiment")
            state = change(in_force)
            if state == in_force.get(name):
                return state
            _decide(connection, "experiment", name, state, by=by, reason=reason, at=at, action=action)
        return state

    def experiment(self, name: str) -> dict[str, Any] | None:
        """Return the state of an experiment in force; None if it is not."""
        return self.experiments().get(name)

    def experiments(self) -> dict[str, dict[str, Any]]:
        """Return the states of all experiments in force, by name."""
        return self._in_force("experiment")

    def experiment_history(self, name: str) -> list[Decision]:
        """Return everything that was in force for an experiment, oldest first."""
        return self._history("experiment", name)

    def _in_force(self, kind: Kind) -> dict[str, Any]:
        with reading(self._engine) as connection:
            return _all_in_force(connection, kind)

    def _history(self, kind: Kind, name: str) -> list[Decision]:
        query = select(decisions).where(decisions.c.kind == kind, decisions.c.name == name).order_by(decisions.c.id)
        with reading(self._engine) as connection:
            rows = connection.execute(query).all()
        return [Decision(row.value, row.by, row.reason, from_ms(row.at_ms)) for row in rows]


def _decide(
    connection: Connection,
    kind: Kind,
    name: str,
    value: Any,
    *,
    by: str,
    reason: str,
    at: datetime,
    action: str | None = None,
) -> bool:
    """Put a value in force; return whether it is the first one ever."""
    take_turns(connection, f"{kind}:{name}")
    current = _current(connection, kind, name)
    same = current is not None and current.value == value
    # Saying the same again must not make it its own predecessor, or a rollback would go nowhere.
    returns_to = None if current is None else current.returns_to if same else current.id
    _add(connection, kind, name, value, returns_to, by=by, reason=reason, at=at)
    action = action or (f"{kind}.end" if value is None else f"{kind}.set")
    record_in(connection, action, f"{kind}:{name}", by=by, at=at, details={"value": value, "reason": reason})
    return current is None


def _begin_awaited(connection: Connection, pointer: str, *, by: str, at: datetime) -> None:
    """Have the experiments begin that waited for nothing but ``pointer``: their ramps count from now on."""
    take_turns(connection, "experiments")
    pointers = _all_in_force(connection, "pointer").keys()
    for name, value in _all_in_force(connection, "experiment").items():
        try:
            state = parse_state(name, value)
        except ConfigError:
            # Whoever reads it next is told.
            continue
        if state.running and pointer in state.pointers and state.pointers <= pointers:
            begun = state.awaited(at_ms=to_ms(at)).model_dump(mode="json")
            reason = f"{pointer} names a version"
            _decide(connection, "experiment", name, begun, by=by, reason=reason, at=at, action="experiment.begin")


def _all_in_force(connection: Connection, kind: Kind) -> dict[str, Any]:
    newest = select(func.max(decisions.c.id)).where(decisions.c.kind == kind).group_by(decisions.c.name)
    rows = connection.execute(select(decisions).where(decisions.c.id.in_(newest))).all()
    return {row.name: row.value for row in rows if row.value is not None}


def _current(connection: Connection, kind: Kind, name: str) -> Row[*tuple[Any, ...]] | None:
    of_name = select(decisions).where(decisions.c.kind == kind, decisions.c.name == name)
    return connection.execute(of_name.order_by(decisions.c.id.desc()).limit(1)).one_or_none()


def _by_id(connection: Connection, id: int | None) -> Row[*tuple[Any, ...]] | None:
    return connection.execute(select(decisions).where(decisions.c.id == id)).one_or_none()


def _add(
    connection: Connection,
    kind: Kind,
    name: str,
    value: Any,
    returns_to: int | None,
    *,
    by: str,
    reason: str,
    at: datetime,
) -> None:
    row = {"kind": kind, "name": name, "value": value, "returns_to": returns_to}
    connection.execute(decisions.insert(), row | {"by": by, "reason": reason, "at_ms": to_ms(at)})
