"""What is deployed: one builder for both applications, and files for clusters that fit it."""

import os
import shutil
import tempfile
from importlib import import_module
from pathlib import Path

import pytest
import yaml
from pydantic import ValidationError
from ray.serve.schema import ServeDeploySchema

from bespoke.errors import Unavailable
from bespoke.experiments import load_experiments
from serving.app import AppConfig, Part, build_app
from serving.ingress import INGRESS_ENV, ingress_env, make_ingress_folder
from storage.settings import Settings

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("part", Part)
def test_app_is_built_with_bounded_queues_and_a_surge(part: Part, tmp_path: Path) -> None:
    app = build_app(AppConfig(part=part, settings=Settings(home=tmp_path), replicas=2))
    deployment = app._bound_deployment
    assert deployment.name == part.value
    assert deployment.num_replicas == 2
    assert deployment._deployment_config.max_surge_percent == 100
    assert 0 < deployment.max_queued_requests < 1_000
    assert not any(tmp_path.iterdir())


def test_replicas_get_absolute_paths() -> None:
    app = build_app(AppConfig(part=Part.COLLECTOR, settings=Settings(home=Path("var"))))
    settings: Settings = app._bound_deployment.init_args[0]
    assert settings.home == Path("var").absolute()
    assert settings.config_dir.is_absolute()


def test_unknown_keys_of_the_config_are_refused() -> None:
    with pytest.raises(ValidationError, match="workers"):
        AppConfig.model_validate({"part": "collector", "workers": 2})


def test_serve_yaml_deploys_both_applications() -> None:
    schema = ServeDeploySchema.model_validate(yaml.safe_load((ROOT / "serving" / "serve.yaml").read_text()))
    assert {application.name for application in schema.applications} == set(Part)
    for application in schema.applications:
        config = AppConfig.model_validate(application.args)
        assert (application.name, application.route_prefix) == (config.part, config.part.route_prefix)
        module, _, name = application.import_path.partition(":")
        assert getattr(import_module(module), name) is build_app


def test_cluster_yaml_starts_ray_with_the_ingress_environment() -> None:
    cluster = yaml.safe_load((ROOT / "cluster.yaml").read_text())
    for commands in (cluster["head_start_ray_commands"], cluster["worker_start_ray_commands"]):
        (start,) = [command for command in commands if "ray start" in command]
        assert "-m serving.ingress" in start
        assert "RAY_AUTH_MODE=token" in start


def test_experiments_file_is_valid() -> None:
    experiments = load_experiments((ROOT / "config" / "experiments.toml").read_text())
    assert {variant.model for e in experiments.values() for variant in e.variants} == {"champion", "challenger"}


def test_two_installations_share_no_port_and_no_file() -> None:
    one, other = ingress_env(8000), ingress_env(18000)
    assert (one["RAY_SERVE_HAPROXY_METRICS_PORT"], one["RAY_SERVE_HAPROXY_STATS_PORT"]) == ("9101", "8404")
    assert {name for name in one if one[name] == other[name]} == set(INGRESS_ENV)
    # A Unix socket's path has at most 108 characters; Ray puts a node id of 56 into it.
    assert all(len(path) + 57 < 108 for path in one.values() if path.startswith(os.sep))


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder that stands for /tmp."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def test_ingress_folder_is_open_to_its_user_only(temporary: Path) -> None:
    folder = make_ingress_folder(8000)
    assert folder == Path(ingress_env(8000)["RAY_SERVE_HAPROXY_SOCKET_PATH"]).parent
    assert str(os.getuid()) in folder.name
    folder.chmod(0o777)
    assert make_ingress_folder(8000).stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("planted", ["link", "file"])
def test_ingress_folder_of_somebody_else_is_refused(temporary: Path, planted: str) -> None:
    folder = make_ingress_folder(8000)
    shutil.rmtree(folder)
    if planted == "link":
        (temporary / "elsewhere").mkdir()
        folder.symlink_to(temporary / "elsewhere")
    else:
        folder.touch()
    with pytest.raises(Unavailable, match=folder.name):
        make_ingress_folder(8000)
