"""One look at everything that alerts watch: measure, put alerts on and off, tell, and ask for what is to be done."""

from collections.abc import Mapping
from dataclasses import asdict
from datetime import datetime
from typing import Any

from bespoke.errors import BespokeError
from monitoring.alert_rules import Change, load_alerts
from monitoring.alert_rules import changes as changes_of
from monitoring.measures import Sources, measure
from monitoring.telling import Teller
from storage.bundles import BundleStore
from storage.control import ControlStore
from storage.lake import Lake
from storage.metrics_file import declared_metrics
from storage.settings import Settings

BY = "alert"


def look(settings: Settings, *, at: datetime) -> dict[str, Any]:
    """Look once; return what was measured, what went on and off, and whom it could not be told to."""
    declared = load_alerts(settings.config_dir)
    teller, problems = Teller(declared.channels), list[str]()
    try:
        metrics = list(declared_metrics(settings.config_dir).values())
    except BespokeError as error:
        # What needs no metrics is watched all the same.
        metrics, problems = [], [str(error)]
    with ControlStore(settings.control_url) as control:
        sources = Sources(control, Lake(settings.lake_dir), BundleStore(settings.bundles_dir), metrics)
        measured, could = measure(sources, {rule.metric for rule in declared.rules}, at=at)
        known = {(alert.name, alert.subject) for alert in control.alerts()}
        went_on, went_off = [], []
        for change in changes_of(declared.rules, measured, control.alerts(), metrics=could, at=at):
            alert = change.alert
            if change.rule is None:
                control.end_alert(alert, at=at)
                went_off.append(_name(change))
                continue
            if change.tell:
                problems += teller.tell(change.rule, alert, at=at)
                _act(control, change, at=at)
            control.raise_alert(alert, at=at)
            if (alert.name, alert.subject) not in known:
                went_on.append(_name(change))
    return {"measured": [asdict(one) for one in measured], "on": went_on, "off": went_off, "notTold": problems}


def _name(change: Change) -> str:
    return f"{change.alert.name}/{change.alert.subject}" if change.alert.subject else change.alert.name


def _act(control: ControlStore, change: Change, *, at: datetime) -> None:
    rule, alert = change.rule, change.alert
    if rule is None or rule.action is None:
        return
    action = rule.action
    arguments: Mapping[str, Any] = {"because": f"alert {rule.name}: {alert.words}", "subject": alert.subject}
    if action.job == "retrain":
        arguments = {**arguments, "models": list(action.models), "window": action.window, "promote": action.promote}
    control.enqueue(action.job, arguments, by=BY, at=at)
