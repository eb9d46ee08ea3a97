"""Rows become messages: ids as they are spelled, whole baskets, and a reason for every row that makes none."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bespoke.errors import ConfigError
from ingestion.files import locate
from ingestion.mapping import CatalogPart, EventsPart, Mapping, TraitsPart
from ingestion.messages import Raw, catalog_items, event_messages, trait_messages

VIEWS = {"event": "Product Viewed", "user_id": "u", "timestamp": "t", "product": {"product_id": "i", "price": "p"}}
BASKETS = {**VIEWS, "event": "Order Completed", "group_by": "b", "message_id": "basket-{b}"}
DAY_MS = 86_400_000


def messages(tmp_path: Path, text: str, part: dict[str, Any], **times: int) -> list[Raw]:
    path = tmp_path / "rows.csv"
    path.write_text(text)
    bounds = {"since_ms": times.get("since_ms"), "until_ms": times.get("until_ms")}
    return list(event_messages(path, EventsPart.model_validate(part), name="m", **bounds))


def fields(raws: list[Raw]) -> list[str | None]:
    return [raw.problem.field if raw.problem else None for raw in raws]


def test_ids_follow_from_the_content_and_equal_rows_are_told_apart(tmp_path: Path) -> None:
    one, other = "u1,2026-01-01,1,2\n", "u2,2026-01-01,1,2\n"
    first = [raw.message["messageId"] for raw in messages(tmp_path, "u,t,i,p\n" + one + other + one, VIEWS)]
    second = [raw.message["messageId"] for raw in messages(tmp_path, "u,t,i,p\n" + other + one + one, VIEWS)]
    assert len(set(first)) == 3
    assert set(first) == set(second)


def test_ids_without_a_template_cover_every_row_of_a_group(tmp_path: Path) -> None:
    part = {**BASKETS, "message_id": None}
    rows = "b,u,t,i,p\n1,u1,2026-01-01,1,2\n1,u1,2026-01-01,{},2\n"
    ids = {messages(tmp_path, rows.format(item), part)[0].message["messageId"] for item in ("x", "y", "x")}
    assert len(ids) == 2


def test_rows_without_a_group_are_rejected_one_by_one(tmp_path: Path) -> None:
    rows = "b,u,t,i,p\n1,u1,2026-01-01,1,2\n,u1,2026-01-01,1,2\n,u2,2026-01-01,1,2\n"
    assert sorted(map(str, fields(messages(tmp_path, rows, BASKETS)))) == ["None", "b", "b"]


def test_a_template_without_its_value_is_rejected(tmp_path: Path) -> None:
    part = {**VIEWS, "message_id": "{n}"}
    assert fields(messages(tmp_path, "n,u,t,i,p\n,u1,2026-01-01,1,2\n", part)) == ["messageId"]


def test_groups_and_templates_keep_leading_zeros(tmp_path: Path) -> None:
    rows = "b,u,t,i,p\n007,u1,2026-01-01,1,2\n7,u1,2026-01-01,1,2\n"
    ids = {raw.message["messageId"] for raw in messages(tmp_path, rows, BASKETS)}
    assert ids == {"basket-007", "basket-7"}


def test_a_time_bound_never_cuts_a_basket(tmp_path: Path) -> None:
    rows = "b,u,t,i,p\n1,u1,1970-01-02T23:00:00,1,2\n1,u1,1970-01-03T01:00:00,2,2\n2,u1,1970-01-03T02:00:00,2,2\n"
    before = messages(tmp_path, rows, BASKETS, until_ms=2 * DAY_MS)
    after = messages(tmp_path, rows, BASKETS, since_ms=2 * DAY_MS)
    assert [raw.lines for raw in before] == [2]
    assert [raw.message["messageId"] for raw in after] == ["basket-2"]


def test_a_row_without_a_time_stands_at_the_time_of_its_basket(tmp_path: Path) -> None:
    rows = "b,u,t,i,p\n1,u1,soon,1,2\n1,u1,1970-01-02,2,2\n"
    assert [(raw.at_ms, raw.lines) for raw in messages(tmp_path, rows, BASKETS)] == [(DAY_MS, 2)]


def test_milliseconds_taken_as_seconds_are_rejected_with_the_value_and_a_hint(tmp_path: Path) -> None:
    raws = messages(tmp_path, "u,t,i,p\nu1,1767261600000,1,2\nu1,86400,1,2\n", {**VIEWS, "time_unit": "s"})
    assert [raw.at_ms for raw in raws] == [-1, DAY_MS]
    assert raws[0].problem is not None
    assert "1767261600000" in str(raws[0].problem) and "time_unit" in str(raws[0].problem)


def test_one_word_among_counted_times_costs_only_its_own_row(tmp_path: Path) -> None:
    raws = messages(tmp_path, "u,t,i,p\nu1,never,1,2\nu1,86400000,1,2\n", {**VIEWS, "time_unit": "ms"})
    assert (raws[0].at_ms, raws[0].message["timestamp"], raws[1].at_ms) == (-1, "never", DAY_MS)


def test_one_price_that_is_no_number_costs_only_its_own_row(tmp_path: Path) -> None:
    raws = messages(tmp_path, "u,t,i,p\nu1,1970-01-01,1,$3\nu1,1970-01-02,1,2.5\n", VIEWS)
    assert [raw.message["properties"]["price"] for raw in raws] == ["$3", 2.5]


def test_numbers_that_turn_to_fractions_late_in_a_file_are_numbers(tmp_path: Path) -> None:
    rows = "".join(f"u{n},1970-01-02,1,2\n" for n in range(100_000))
    raws = messages(tmp_path, "u,t,i,p\n" + rows + "u,1970-01-02,1,2.5\n", VIEWS)
    assert raws[-1].message["properties"]["price"] == 2.5


@pytest.mark.parametrize("part", [VIEWS, BASKETS, {**BASKETS, "time_unit": "s"}])
def test_a_header_alone_brings_nothing(tmp_path: Path, part: dict[str, Any]) -> None:
    assert messages(tmp_path, "b,u,t,i,p\n", part) == []


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", "u,t,i,p\ncaf\xe9,1970-01-01,1,2\n".encode("latin-1"), "save it as UTF-8"),
        ("a.csv", "\xe9,t,i,p\n".encode("latin-1"), "save it as UTF-8"),
        ("a.csv", b"\x89PNG\r\n\x1a\n\x00\x00", r"a\.csv"),
        ("a.csv", b"", "cannot be read: .*Empty CSV"),
        ("a.xlsx", b"PK\x03\x04", r"a\.xlsx is none of \.parquet, \.csv, \.csv\.gz, \.tsv; export it"),
        ("a.parquet", b"not parquet", r"a\.parquet cannot be read"),
        ("a.csv", b"u,u,t,i,p\n1,2,1970-01-01,1,2\n", "several columns called u"),
    ],
)
def test_files_that_cannot_be_read_are_named(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ConfigError, match=message):
        list(event_messages(tmp_path / name, EventsPart.model_validate(VIEWS), name="m", since_ms=None, until_ms=None))


def test_joined_keys_are_compared_as_they_are_spelled(tmp_path: Path) -> None:
    (tmp_path / "items.csv").write_text("i,c\n007,TEA\n7,MILK\n")
    part = {**VIEWS, "product": {"product_id": "i", "category": {"column": "c", "file": "items.csv", "key": "i"}}}
    raws = messages(tmp_path, "u,t,i\nu1,1970-01-01,007\n", part)
    assert raws[0].message["properties"] == {"product_id": "007", "category": "TEA"}


def test_keys_of_another_type_are_joined_as_text(tmp_path: Path) -> None:
    pq.write_table(pa.table({"i": pa.array([7]), "c": ["MILK"]}), tmp_path / "items.parquet")
    part = {**VIEWS, "product": {"product_id": "i", "category": {"column": "c", "file": "items.parquet", "key": "i"}}}
    assert messages(tmp_path, "u,t,i\nu1,1970-01-01,7\n", part)[0].message["properties"]["category"] == "MILK"


def test_a_catalog_price_that_is_no_number_is_named_with_its_column(tmp_path: Path) -> None:
    (tmp_path / "items.csv").write_text("i,cost\n1,2.5\n2,$3.99\n")
    with pytest.raises(ConfigError, match=r"column 'cost' holds '\$3\.99', expected numbers"):
        catalog_items(tmp_path / "items.csv", CatalogPart(item_id="i", price="cost"))


def test_an_item_says_after_how_many_days_it_is_due_again(tmp_path: Path) -> None:
    (tmp_path / "items.csv").write_text("i,again\n1,7\n2,\n")
    items = catalog_items(tmp_path / "items.csv", CatalogPart(item_id="i", rebuy_after_days="again"))
    assert [item.rebuy_after_days for item in items] == [7.0, None]


def test_traits_that_changed_are_another_message(tmp_path: Path) -> None:
    path, part, ids = tmp_path / "people.csv", TraitsPart(user_id="u", columns=("age", "zip")), []
    for age in (40, 41, 41):
        path.write_text(f"u,age,zip\n007,{age},01234\n")
        raw = next(trait_messages(path, part, name="m", at_ms=DAY_MS))
        ids.append(raw.message["messageId"])
    assert ids[0] != ids[1] == ids[2]
    assert (raw.message["userId"], raw.message["traits"]) == ("007", {"age": 41, "zip": "01234"})


def test_a_file_that_is_given_wins_over_the_name_in_the_mapping(tmp_path: Path) -> None:
    mapping = Mapping.model_validate(
        {"name": "m", "events": {**VIEWS, "file": "rows.csv"}, "catalog": {"file": "items.csv", "item_id": "i"}}
    )
    for name in ("mine.csv", "rows.csv"):
        (tmp_path / name).write_text("u,t,i,p\n")
    with pytest.raises(ConfigError, match=r"items\.csv is not in"):
        locate(tmp_path / "mine.csv", mapping)
    (tmp_path / "items.csv").write_text("i\n")
    files = locate(tmp_path / "mine.csv", mapping)
    assert [path.name for path in files.all()] == ["mine.csv", "items.csv"]
