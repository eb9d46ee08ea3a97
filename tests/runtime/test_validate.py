"""A mistake in config/ is found before anything starts."""

import shutil
from datetime import UTC, datetime
from pathlib import Path

import pytest

from bespoke.errors import ConfigError
from bespoke.models.registry import model_of_kind
from runtime.validate import config_notices, start_problems, validate_config
from training.configs import load_config


@pytest.fixture
def config(tmp_path: Path) -> Path:
    return Path(shutil.copytree("config", tmp_path / "config"))


def test_what_is_shipped_is_valid() -> None:
    assert validate_config(Path("config")) == []


def test_every_problem_is_told_at_once(config: Path) -> None:
    (config / "models" / "als.toml").write_text("factors = 0\n")
    (config / "models" / "tarot.toml").write_text("")
    (config / "sources" / "bad.toml").write_text('name = "bad"\n')
    problems = "\n".join(validate_config(config))
    assert "als.toml: factors: Input should be greater than or equal to 1, got 0" in problems
    assert "tarot" in problems
    assert "bad.toml" in problems


def test_shares_that_do_not_sum_up_are_told_with_the_sum(config: Path) -> None:
    path = config / "experiments.toml"
    path.write_text(path.read_text().replace("share = 0.5", "share = 0.4", 1))
    assert "shares sum to 0.90, expected 1.00" in validate_config(config)[0]


def test_an_experiment_may_not_name_a_kind_of_model_that_does_not_exist(config: Path) -> None:
    path = config / "experiments.toml"
    path.write_text(path.read_text().replace('model = "challenger"', 'model = "tarot@1"'))
    assert "tarot" in validate_config(config)[0]


def test_a_file_that_nothing_reads_is_told(config: Path) -> None:
    (config / "experiment.toml").write_text("")
    assert "nothing reads this" in validate_config(config)[0]


def test_a_missing_folder_says_how_to_name_it(tmp_path: Path) -> None:
    assert "BESPOKE_CONFIG_DIR" in validate_config(tmp_path / "none")[0]


def test_only_what_keeps_it_from_starting_is_a_problem_of_the_start(config: Path) -> None:
    (config / "notes.md").write_text("")
    (config / "models" / "als-old.toml").write_text("")
    (config / "sources" / "bad.toml").write_text('name = "bad"\n')
    assert start_problems(config) == []
    assert len(validate_config(config)) == 3
    (config / "models" / "als.toml").write_text("factors = 0\n")
    (config / "experiments.toml").write_bytes(b'["caf\xe9"]\n')
    assert len(start_problems(config)) == 2


def test_the_tracking_plan_and_enrichment_are_checked_and_keep_it_from_starting(config: Path) -> None:
    (config / "tracking.toml").write_text('on_violation = "drop"\n')
    (config / "enrichment.toml").write_text('steps = ["tarot"]\n[near_duplicates]\nwithin_s = 2\n')
    for problems in ("\n".join(validate_config(config)), "\n".join(start_problems(config))):
        assert "on_violation: Input should be 'pass', 'flag' or 'block', got 'drop'" in problems
        assert "steps: got ['tarot'], expected a list of some of device" in problems


def test_settings_that_were_asked_for_must_exist(config: Path) -> None:
    assert load_config("als", config / "typo.toml") == model_of_kind("als").Config()
    with pytest.raises(ConfigError, match=r"no file at .*typo\.toml"):
        load_config("als", config / "typo.toml", required=True)


def test_a_subscriber_of_an_unknown_segment_is_told(config: Path) -> None:
    (config / "subscribers.toml").write_text('[crm]\ncallback = "json:loads"\nsegments = ["nobodies"]\n')
    [problem] = validate_config(config)
    assert "crm: no segment 'nobodies'; there are: at_risk" in problem


def test_a_mistake_in_a_rule_is_told_with_its_place_and_keeps_it_from_starting(config: Path) -> None:
    (config / "rules.toml").write_text('[a]\nwhen = { surfce = "home" }\nexclude = { filter = "price > 5" }\n')
    for problems in (validate_config(config), start_problems(config)):
        [problem] = problems
        assert problem.startswith(f"{config}/rules.toml: a: when.surfce: got 'home', expected 'surface'")


def test_a_rule_for_an_unknown_segment_is_told(config: Path) -> None:
    (config / "rules.toml").write_text('[a]\nwhen = { segment = "at_rsk" }\nexclude = { filter = "price > 5" }\n')
    [problem] = validate_config(config)
    assert problem.startswith(f"{config}/rules.toml: rule 'a': no segment 'at_rsk', expected 'at_risk'; there are: ")
    assert start_problems(config) == [problem]


def test_rules_that_contradict_one_another_are_told_and_stop_nothing(config: Path) -> None:
    (config / "rules.toml").write_text('[a]\npin = { items = ["x"] }\n[b]\npin = { items = ["y"] }\n')
    [problem] = validate_config(config)
    assert problem.startswith(f"{config}/rules.toml: rules 'a' and 'b' can hold for the same request, and both pin")
    assert start_problems(config) == []


def test_a_rule_that_has_ended_is_worth_a_look_and_no_problem(config: Path) -> None:
    (config / "rules.toml").write_text('[a]\nends = 2026-01-01T00:00:00Z\npin = { items = ["x"] }\n')
    assert validate_config(config) == []
    [notice] = config_notices(config, at=datetime(2026, 6, 1, tzinfo=UTC))
    assert "rule 'a' ended 2026-01-01" in notice
    (config / "rules.toml").write_text("[")
    assert config_notices(config, at=datetime(2026, 6, 1, tzinfo=UTC)) == []


def test_an_experiment_for_an_unknown_segment_is_told(config: Path) -> None:
    path = config / "experiments.toml"
    path.write_text(path.read_text().replace("[champion-challenger]", '[champion-challenger]\naudience = "at_rsk"', 1))
    [problem] = validate_config(config)
    assert problem.startswith(f"{path}: champion-challenger: no segment 'at_rsk'; there are: ")


def test_a_holdout_may_not_name_a_kind_of_model_that_does_not_exist(config: Path) -> None:
    path = config / "experiments.toml"
    path.write_text(path.read_text() + '[holdout]\nshare = 0.1\nsalt = "h"\nmodel = "tarot@1"\n')
    assert "tarot" in validate_config(config)[0]
