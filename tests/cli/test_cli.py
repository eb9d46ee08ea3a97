"""The command line: help at once, clear errors, one JSON object for scripts."""

import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import orjson
import pytest
from typer.testing import CliRunner

from bespoke.errors import BespokeError
from bespoke.models.base import Interactions
from bespoke.models.bundle import Window
from bespoke.models.popularity import Popularity
from bespoke.models.verdict import Verdict
from cli.main import app
from storage.bundles import BundleStore
from training.publish import About, publish

BESPOKE = Path(sys.executable).parent / "bespoke"


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("BESPOKE_HOME", str(tmp_path / "var"))
    return tmp_path / "var"


def run(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, arguments)
    if isinstance(result.exception, BespokeError):
        return 1, str(result.exception)
    return result.exit_code, result.output


def test_help_loads_no_framework() -> None:
    script = "import sys, cli.main; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert not {"ray", "feast", "evidently", "torch", "pyarrow", "numpy"} & set(done.stdout.split())


def test_what_goes_wrong_on_purpose_is_a_message_not_a_traceback(tmp_path: Path) -> None:
    done = subprocess.run(
        [BESPOKE, "ingest", str(tmp_path), "--mapping", "config/sources/nowhere.toml"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "no file at config/sources/nowhere.toml; there are:" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_wrong_flag_is_told() -> None:
    code, output = run("train", "als", "--windows", "30d")
    assert code == 2
    assert "--window" in output


@pytest.mark.parametrize("arguments", [("--until", "yesterday"), ("--window", "month"), ("--window", "0d")])
def test_dates_and_lengths_of_time_are_explained(arguments: tuple[str, ...]) -> None:
    code, output = run("train", "als", *arguments)
    assert code == 2
    assert "write one such as" in output.replace("\n", " ").replace("│ ", "").replace("│", "")


def test_keys_are_made_listed_and_revoked() -> None:
    _, output = run("keys", "create", "shop", "--scope", "ingest", "--json")
    made = orjson.loads(output)
    assert made["secret"] not in run("keys", "list")[1]
    assert run("keys", "revoke", made["key_id"])[0] == 0
    (listed,) = orjson.loads(run("keys", "list", "--json")[1])
    assert listed["revoked_at"] is not None


def test_a_key_is_made_with_an_end_and_a_rate() -> None:
    limits = ("--expires-in", "90d", "--rate", "50", "--burst", "80")
    made = orjson.loads(run("keys", "create", "trial", "--scope", "recommend", *limits, "--json")[1])
    assert (made["rate"], made["burst"]) == (50, 80)
    (listed,) = orjson.loads(run("keys", "list", "--json")[1])
    end, start = (datetime.fromisoformat(listed[name]) for name in ("expires_at", "created_at"))
    assert (end - start).days == 90


@pytest.mark.parametrize(
    "limits",
    [
        ("--expires", "2020-01-01"),
        ("--expires-in", "90d", "--expires", "2099-01-01"),
        ("--rate", "0"),
        ("--burst", "5"),
    ],
)
def test_keys_that_could_not_be_used_are_not_made(limits: tuple[str, ...]) -> None:
    assert run("keys", "create", "trial", "--scope", "recommend", *limits)[0] in (1, 2)
    assert orjson.loads(run("keys", "list", "--json")[1]) == []


def test_an_unknown_scope_is_told() -> None:
    code, output = run("keys", "create", "shop", "--scope", "everything")
    assert code == 1
    assert "everything" in output


def test_a_model_that_does_not_exist_is_told_with_the_way_out() -> None:
    code, output = run("models", "promote", "als")
    assert code == 1
    assert "nothing published yet" in output


def test_valid_config_is_said_to_be_valid() -> None:
    assert orjson.loads(run("validate", "--json")[1]) == {"problems": [], "notices": []}


def test_names_in_tables_are_no_markup() -> None:
    run("keys", "create", "[bold]shop[/bold] [/oops]", "--scope", "ingest")
    assert "[bold]shop[/bold]" in run("keys", "list")[1].replace("\n", "")


def test_a_catalog_alone_is_something_and_comes_in_twice_only_when_asked_to(tmp_path: Path) -> None:
    (tmp_path / "items.csv").write_text("sku,title\n1,Tea\n2,Nails\n")
    mapping = tmp_path / "shop.toml"
    mapping.write_text('name = "shop"\n[catalog]\nfile = "items.csv"\nitem_id = "sku"\nname = "title"\n')
    ingest = ("ingest", str(tmp_path), "--mapping", str(mapping), "--json")
    code, output = run(*ingest)
    assert (code, orjson.loads(output)["items"]) == (0, 2)
    code, output = run(*ingest)
    assert (code, "--again" in output) == (1, True)
    assert run(*ingest, "--again")[0] == 0


def test_a_new_pointer_is_said_to_be_new(home: Path) -> None:
    reference = published(home, Verdict(passed=True))
    assert orjson.loads(run("models", "promote", reference, "--json")[1])["new"]
    assert not orjson.loads(run("models", "promote", reference, "--json")[1])["new"]
    output = run("models", "promote", reference, "--pointer", "champoin")[1]
    assert "champoin is a new pointer; there were: champion" in output


def test_a_rejected_version_is_promoted_only_by_force(home: Path) -> None:
    reference = published(home, Verdict(passed=False, reasons=("worse than tea leaves",)))
    code, output = run("models", "promote", reference)
    assert code == 1 and "worse than tea leaves" in output and "--force" in output
    assert run("models", "promote", reference, "--force")[0] == 0
    code, output = run("models", "promote", "popularity")
    assert code == 1 and "every version of popularity was rejected" in output


def published(home: Path, verdict: Verdict) -> str:
    """Publish a small model with this verdict."""
    at = datetime(2026, 1, 1, tzinfo=UTC)
    model = Popularity.fit(Interactions.from_columns(["u"], ["i"], [0], [1.0]), at_ms=1)
    about = About(Window(since=at, until=at), "", None, {})
    return publish(
        model, about, BundleStore(home / "bundles"), metrics={}, measured=None, gate=verdict, parent=None, seed=0
    )


def test_training_needs_a_kind_or_all() -> None:
    for arguments in ((), ("als", "--all")):
        code, output = run("train", *arguments)
        assert code == 2 and "--all" in output


def test_settings_that_do_not_exist_are_told_before_anything_starts() -> None:
    code, output = run("train", "als", "--config", "typo.toml")
    assert (code, output.startswith("no file at typo.toml")) == (1, True)
