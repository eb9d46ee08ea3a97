"""A mapping that cannot work is refused when it is read, with the entry and the value."""

from pathlib import Path

import pytest

from bespoke.errors import ConfigError
from ingestion.mapping import load_mapping

HEAD = 'name = "m"\n[events]\nuser_id = "u"\ntimestamp = "t"\nevent = "e"\n'


def written(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


@pytest.mark.parametrize("path", sorted(Path("config/sources").glob("*.toml")), ids=lambda path: path.stem)
def test_shipped_mappings_load(path: Path) -> None:
    assert load_mapping(path).name


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ('evnt = "x"', r"events\.evnt: Extra inputs are not permitted, got 'x'"),
        ('message_id = "basket"', r"names no column, so all messages would be one; write \{column\}, got 'basket'"),
        ('message_id = "{basket"', r"events\.message_id: .*got '\{basket'"),
        ('message_id = "{basket:d}"', "only a column's name may stand between braces"),
        ('message_id = "{}"', "only a column's name may stand between braces"),
    ],
)
def test_wrong_entries_are_named(tmp_path: Path, entry: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_mapping(written(tmp_path / "m.toml", HEAD + entry))


def test_a_folder_is_no_mapping(tmp_path: Path) -> None:
    written(tmp_path / "mine.toml", HEAD)
    with pytest.raises(ConfigError, match=r"is a folder; name a file, there are: .*mine\.toml"):
        load_mapping(tmp_path)
