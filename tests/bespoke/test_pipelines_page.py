"""The page on pipelines and the file as shipped say what the code takes."""

import re
from pathlib import Path

import pytest

from bespoke.recommend import load_pipelines
from bespoke.recommend.explaining import REASON_OF_SOURCE
from bespoke.recommend.settings import (
    Deadlines,
    Diversity,
    Exploration,
    FrequencyCap,
    Pipeline,
    SourceKind,
    SourceSettings,
)

PAGE = Path("docs/pipelines.md").read_text()
SHIPPED = Path("config/pipelines.toml").read_text()


def test_every_example_of_the_page_is_accepted() -> None:
    blocks = re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)
    assert blocks and all(load_pipelines(block) for block in blocks)
    assert load_pipelines(SHIPPED)["default"].by_segment


@pytest.mark.parametrize("form", [Pipeline, SourceSettings, FrequencyCap, Diversity, Exploration, Deadlines])
def test_page_and_shipped_file_name_every_setting(form: type[Pipeline]) -> None:
    names = set(form.model_fields) - {"name"}
    for text in (PAGE, SHIPPED):
        assert {name for name in names if not re.search(rf"\b{name}\b", text)} == set()


@pytest.mark.parametrize("kind", SourceKind)
def test_every_kind_of_source_is_explained_and_has_a_reason(kind: SourceKind) -> None:
    assert f"| `{kind.value}`" in PAGE and f'"{kind.value}"' in SHIPPED
    assert kind in (SourceKind.MODEL, SourceKind.POINTER) or kind.value in REASON_OF_SOURCE
