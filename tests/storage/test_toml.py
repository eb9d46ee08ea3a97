"""Whatever is wrong with a file that people edit, the error names the file and the way out."""

from pathlib import Path

import pytest
from pydantic import BaseModel, Field

from bespoke.errors import ConfigError
from storage.toml import read_toml, validated


class Size(BaseModel):
    factors: int = Field(ge=1)


def test_entries_come_as_they_are(tmp_path: Path) -> None:
    path = tmp_path / "a.toml"
    path.write_bytes(b"\xef\xbb\xbffactors = 3\n")
    assert validated(Size, read_toml(path), path).factors == 3


@pytest.mark.parametrize(
    ("content", "message"), [(b"name =", "not TOML"), (b'name = "caf\xe9"', "not UTF-8.*save it as UTF-8")]
)
def test_what_cannot_be_read_is_named(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "a.toml").write_bytes(content)
    with pytest.raises(ConfigError, match=rf"a\.toml.*{message}"):
        read_toml(tmp_path / "a.toml")


def test_a_missing_file_and_a_folder_tell_what_there_is(tmp_path: Path) -> None:
    (tmp_path / "near.toml").write_text("")
    with pytest.raises(ConfigError, match=r"no file at .*typo\.toml; there are: .*near\.toml"):
        read_toml(tmp_path / "typo.toml")
    with pytest.raises(ConfigError, match=r"is a folder"):
        read_toml(tmp_path)


def test_the_first_wrong_entry_is_told_with_its_value() -> None:
    with pytest.raises(ConfigError, match=r"als\.toml: factors: Input should be greater than or equal to 1, got 0"):
        validated(Size, {"factors": 0}, "als.toml")
