"""A collector and a processor that are killed while events come in lose nothing that was acknowledged."""

from pathlib import Path

from benchmarks.recovery import survived


def test_three_kills_lose_and_double_nothing(tmp_path: Path) -> None:
    found = survived(tmp_path, None, kills=3, seed=1, per_s=100, people=30, lake_share=0.0)
    assert found["acknowledged"] > 0
    assert found["transitions"] > 0
    must_be_zero = [name for name in found if name.endswith(("_lost", "_twice", "_mismatches"))]
    assert {name: found[name] for name in must_be_zero} == dict.fromkeys(must_be_zero, 0)
    assert len(must_be_zero) == 6
