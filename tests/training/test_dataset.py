"""What training sees: the window, nothing past the cut, and what a profile would have known."""

from pathlib import Path

import pyarrow as pa
import pytest

from bespoke.clock import HOUR_MS, to_ms
from bespoke.errors import TrainingError
from bespoke.events import UserId
from bespoke.models.history import InteractionWeights
from storage.lake import Kind, Lake
from tests.support.messages import DAY_0, event
from training.dataset import baskets, fingerprint, histories, read_interactions, require_recent, to_interactions, within

START = to_ms(DAY_0)


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    made = Lake(tmp_path / "lake")
    events = [event("u1", 1, "Order Completed", "a", "b"), event("u2", 2, "Product Viewed", "a")]
    events.append(event("u1", 3, "Order Completed", "c"))
    made.write_events(0, 0, 2, events[:2])
    made.write_events(0, 2, 3, events[2:])
    return made


def lines(lake: Lake, *, until: int = 100) -> pa.Table:
    return read_interactions(lake, since_ms=None, until_ms=START + until * HOUR_MS)


@pytest.mark.usefixtures("ray_session")
class TestReadingTheLake:
    """Through Ray Data, from Parquet files."""

    def test_every_line_comes_in_order(self, lake: Lake) -> None:
        assert lines(lake)["item_id"].to_pylist() == ["a", "b", "a", "c"]

    def test_nothing_at_or_past_the_cut_is_seen(self, lake: Lake) -> None:
        assert lines(lake, until=3)["item_id"].to_pylist() == ["a", "b", "a"]

    def test_an_empty_window_says_so(self, lake: Lake, tmp_path: Path) -> None:
        with pytest.raises(TrainingError, match="widen it"):
            read_interactions(lake, since_ms=START + 50 * HOUR_MS, until_ms=START + 60 * HOUR_MS)
        with pytest.raises(TrainingError, match="bring events in first"):
            read_interactions(Lake(tmp_path / "none"), since_ms=None, until_ms=START)

    def test_histories_hold_what_was_known_at_the_cut(self, lake: Lake) -> None:
        known = histories(lines(lake), at_ms=START + 3 * HOUR_MS)
        assert [line.item_id for line in known[UserId("u1")].recent] == ["a", "b"]
        assert set(histories(lines(lake), at_ms=START + 9 * HOUR_MS, users=[UserId("u2")])) == {"u2"}

    def test_baskets_are_purchases_at_one_time(self, lake: Lake) -> None:
        assert [(basket.user_id, set(basket.items)) for basket in baskets(lines(lake))] == [
            ("u1", {"a", "b"}),
            ("u1", {"c"}),
        ]

    def test_without_purchases_every_interaction_counts(self, lake: Lake) -> None:
        views = within(lines(lake), since_ms=START + 2 * HOUR_MS, until_ms=START + 3 * HOUR_MS)
        assert [basket.user_id for basket in baskets(views)] == ["u2"]

    def test_the_fingerprint_is_of_the_data_not_of_its_files(self, lake: Lake, tmp_path: Path) -> None:
        other = Lake(tmp_path / "other")
        events = [event("u1", 1, "Order Completed", "a", "b"), event("u2", 2, "Product Viewed", "a")]
        other.write_events(0, 0, 3, [*events, event("u1", 3, "Order Completed", "c")])
        assert fingerprint(lines(lake)) == fingerprint(lines(other))
        assert fingerprint(lines(lake)) != fingerprint(lines(lake, until=3))

    def test_types_that_weigh_nothing_are_left_out(self, lake: Lake) -> None:
        buying = to_interactions(lines(lake), weights=InteractionWeights(view=0))
        assert set(buying.users.ids) == {"u1"}

    def test_files_that_are_merged_away_meanwhile_are_listed_anew(self, lake: Lake) -> None:
        class Compacted(Lake):
            """A lake whose files are merged right after they were listed for the first time."""

            def files(self, kind: Kind) -> list[Path]:
                listed = super().files(kind)
                for day in self.days(kind):
                    self.compact(kind, day, committed={0: 3})
                return listed

        assert len(lake.files("events")) == 2
        assert lines(Compacted(lake.root)).equals(lines(lake))
        assert len(lake.files("events")) == 1


def test_history_older_than_the_window_is_told_with_the_cut_that_sees_it(lake: Lake) -> None:
    # Newer, but nothing to learn from.
    lake.write_events(0, 3, 4, [event("u1", 24 * 400, "Newsletter Read")])
    require_recent(lake, since_ms=START + 3 * HOUR_MS)
    with pytest.raises(TrainingError, match=r"newest event is from 2026-01-01; use --until 2026-01-02"):
        require_recent(lake, since_ms=START + 4 * HOUR_MS)
