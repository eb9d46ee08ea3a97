"""The control store in PostgreSQL keeps the contract, with several writers at once."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from storage.control import ControlStore
from tests.contracts.control import AT, LEASE, ControlStoreContract, point
from tests.support.servers import fresh_schema


class TestPostgresControlStore(ControlStoreContract):
    """The store for several machines."""

    @pytest.fixture
    def url(self, postgres_server: str) -> Iterator[str]:
        with fresh_schema(postgres_server) as url:
            yield url


@pytest.fixture
def control(postgres_server: str) -> Iterator[ControlStore]:
    with fresh_schema(postgres_server) as url, ControlStore(url) as opened:
        yield opened


def test_pointers_that_many_move_at_once_go_back_step_by_step(control: ControlStore) -> None:
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: point(control, f"als@{n}"), range(24)))
    targets = [str(decision.value) for decision in control.pointer_history("champion")]
    assert sorted(targets) == sorted(f"als@{n}" for n in range(24))
    back = [control.rollback_pointer("champion", by="ada", reason="", at=AT) for _ in range(23)]
    assert back == targets[-2::-1]


def test_a_key_that_many_revoke_at_once_is_revoked_once(control: ControlStore) -> None:
    info, _ = control.create_key("shop", ["ingest"], AT)
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(lambda _: control.revoke_key(info.key_id, AT), range(6)))
    actions = [entry.action for entry in control.audit_trail(subject=f"key:{info.key_id}")]
    assert actions == ["key.revoke", "key.create"]


def test_a_job_left_behind_is_taken_over_by_one_of_many(control: ControlStore) -> None:
    control.enqueue("train", {}, by="ada", at=AT)
    control.claim("dead", at=AT, lease=LEASE)
    with ThreadPoolExecutor(6) as pool:
        claimed = list(pool.map(lambda n: control.claim(f"w{n}", at=AT + LEASE, lease=LEASE), range(6)))
    assert [job.attempts for job in claimed if job] == [2]
