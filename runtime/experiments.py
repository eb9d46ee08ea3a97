"""Puts what config/experiments.toml declares in force."""

from datetime import datetime

from bespoke.experiments import load_experiments
from storage.control import ControlStore
from storage.settings import Settings


def put_in_force(settings: Settings, *, at: datetime) -> None:
    """Write every declared experiment to the control store, and take out those that are no longer declared."""
    path = settings.config_dir / "experiments.toml"
    declared = load_experiments(path.read_text()) if path.is_file() else {}
    with ControlStore(settings.control_url) as control:
        in_force = control.experiments()
        for name, experiment in declared.items():
            state = experiment.model_dump(mode="json")
            if in_force.get(name) != state:
                control.set_experiment(name, state, by="config/experiments.toml", at=at)
        for name in in_force.keys() - declared.keys():
            control.end_experiment(name, by="config/experiments.toml", at=at)
