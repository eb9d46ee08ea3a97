"""A batch from file to file is whole or absent, and says of every row what became of it."""

from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bespoke.clock import to_ms
from bespoke.errors import ConfigError
from bespoke.events import ItemId, UserId
from bespoke.profiles import Profile, Recent
from serving.batch import BatchRecommender, plan_batch
from serving.batch_files import BatchRequest, _becoming, recommend_to_folder
from storage.control import ControlStore
from storage.features import OnlineFeatures, apply_feature_repo
from storage.profiles import StoredProfile
from storage.settings import Settings

Publish = Callable[[str, dict[str, float]], str]


def test_a_file_of_people_becomes_a_folder_of_lists_in_their_order(
    settings: Settings, publish: Publish, now: datetime, tmp_path: Path, ray_session: None
) -> None:
    version = publish("test", {f"i{n}": float(10 - n) for n in range(10)})
    with ControlStore(settings.control_url) as control:
        control.set_pointer("champion", version, by="t", reason="t", at=now)
    apply_feature_repo(settings)
    features = OnlineFeatures(settings)
    bought = Recent(to_ms(now), ItemId("i7"), "purchase", 1.0)
    features.push([StoredProfile(UserId("u3"), Profile(recent=(bought,), received_ms=to_ms(now)), 1, 0)])
    features.close()
    users = [f"u{n}" for n in range(1_100)]
    pq.write_table(pa.table({"user_id": [*users, None, "u0"], "more": [0] * 1_102}), tmp_path / "people.parquet")
    told: list[tuple[int, int]] = []
    request = BatchRequest(tmp_path / "people.parquet", tmp_path / "lists", num_results=3, workers=1)
    done = recommend_to_folder(request, settings, at=now, on_progress=lambda *one: told.append(one))
    assert (done.people, done.rows, done.rejected, done.model_version) == (1_100, 3_300, 2, version)
    made = pq.read_table(tmp_path / "lists")
    assert made["user_id"].to_pylist()[::3] == users
    assert made["item_id"].to_pylist()[9:12] == ["i7", "i0", "i1"]
    single = BatchRecommender.of(settings, plan_batch(settings, num_results=3, at=now))
    assert single(pa.table({"row": [3], "user_id": ["u3"]})).select(made.column_names).equals(made.slice(9, 3))
    rejected = pq.read_table(tmp_path / "lists" / "_rejected.parquet").to_pylist()
    assert [(row["row"], row["reason"]) for row in rejected] == [
        (1_100, "no id"),
        (1_101, "it comes twice; the first one counts"),
    ]
    assert orjson.loads((tmp_path / "lists" / "_about.json").read_bytes())["rows"] == 3_300
    assert told[-1] == (1_100, 1_100)
    with pytest.raises(ConfigError, match="it is there already"):
        recommend_to_folder(request, settings, at=now)


def test_a_job_that_fails_leaves_nothing_and_one_that_was_killed_is_cleared_away(tmp_path: Path) -> None:
    with pytest.raises(KeyError), _becoming(tmp_path / "out") as folder:
        (folder / "part").write_text("half")
        raise KeyError
    assert list(tmp_path.iterdir()) == []
    killed = tmp_path / ".out.partial"
    killed.mkdir()
    (killed / "part").write_text("half")
    with _becoming(tmp_path / "out") as folder:
        assert list(folder.iterdir()) == []
        (folder / "part").write_text("whole")
        assert not (tmp_path / "out").exists()
    assert [path.name for path in tmp_path.rglob("*")] == ["out", "part"]
