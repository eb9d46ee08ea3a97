"""What every control store promises; a new engine subclasses :class:`ControlStoreContract` and gives an address."""

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from bespoke.clock import DAY_MS, to_ms
from bespoke.errors import ConfigError, Forbidden, NotFound, Unauthorized
from bespoke.experiments import BUCKETS, ExperimentState, Health, parse_experiment, parse_state
from storage.control import Alert, ControlStore, JobState, KeyInfo, Observation, Scope
from storage.control_traffic import Served, ServedHealth
from storage.sql import Superseded

AT = datetime(2026, 11, 23, 6, 15, tzinfo=UTC)
LEASE = timedelta(minutes=1)

OpenControl = Callable[[], ControlStore]


def point(control: ControlStore, *targets: str) -> None:
    """Point ``champion`` at one target after the other."""
    for target in targets:
        control.set_pointer("champion", target, by="ada", reason="better", at=AT)


def roll_back(control: ControlStore) -> str:
    """Roll ``champion`` back."""
    return control.rollback_pointer("champion", by="ada", reason="worse", at=AT)


class ControlStoreContract:
    """Subclasses give the fixture ``url``: where a store can be created."""

    @pytest.fixture
    def url(self) -> str:
        """Return the address of a store that does not exist yet."""
        raise NotImplementedError

    @pytest.fixture
    def open_control(self, url: str) -> Iterator[OpenControl]:
        """Return what opens the store; everything that it opened is closed at the end."""
        opened: list[ControlStore] = []

        def open_one() -> ControlStore:
            opened.append(ControlStore(url))
            return opened[-1]

        yield open_one
        for control in opened:
            control.close()

    @pytest.fixture
    def control(self, open_control: OpenControl) -> ControlStore:
        """Return an empty store."""
        return open_control()

    def test_a_key_opens_what_its_scopes_say(self, control: ControlStore) -> None:
        info, secret = control.create_key("shop", ["recommend", "ingest"], AT)
        assert info == KeyInfo(info.key_id, "shop", (Scope.INGEST, Scope.RECOMMEND), AT)
        assert control.authenticate(secret, "ingest", at=AT) == control.authenticate(secret, "recommend", at=AT) == info

    def test_a_key_without_the_scope_is_forbidden(self, control: ControlStore) -> None:
        _, secret = control.create_key("shop", ["ingest", "admin"], AT)
        with pytest.raises(Forbidden, match=r"\(shop\) has the scopes admin, ingest; this needs 'profiles'"):
            control.authenticate(secret, "profiles", at=AT)

    def test_secrets_that_were_never_given_out_are_unknown(self, control: ControlStore) -> None:
        info, secret = control.create_key("shop", ["ingest"], AT)
        forged = f"bespoke_{info.key_id}_{'A' * 43}"
        for wrong in ("", "x", secret[:-1], secret + "x", secret.swapcase(), forged, "bespoke_", "ü\ud800"):
            with pytest.raises(Unauthorized, match="not known") as caught:
                control.authenticate(wrong, "ingest", at=AT)
            assert type(caught.value) is Unauthorized

    def test_a_revoked_key_is_refused_and_says_when(self, control: ControlStore) -> None:
        info, secret = control.create_key("shop", ["ingest"], AT)
        control.revoke_key(info.key_id, AT + timedelta(days=1))
        control.revoke_key(info.key_id, AT + timedelta(days=2))
        with pytest.raises(Unauthorized, match="revoked at 2026-11-24T06:15:00"):
            control.authenticate(secret, "ingest", at=AT)
        assert [key.revoked_at for key in control.list_keys()] == [AT + timedelta(days=1)]

    def test_a_key_is_good_until_it_expires_and_not_a_moment_longer(self, control: ControlStore) -> None:
        until = AT + timedelta(days=90)
        info, secret = control.create_key("trial", ["ingest"], AT, expires_at=until)
        assert control.authenticate(secret, "ingest", at=until - timedelta(milliseconds=1)) == info
        with pytest.raises(Unauthorized, match=r"\(trial\) expired at 2027-02-21T06:15:00"):
            control.authenticate(secret, "ingest", at=until)
        assert control.list_keys()[0].expires_at == until

    def test_a_keys_rate_allows_a_second_of_it_at_once(self, control: ControlStore) -> None:
        control.create_key("shop", ["ingest"], AT, rate=2.5)
        control.create_key("site", ["ingest"], AT + timedelta(hours=1), rate=5, burst=50)
        assert [(key.rate, key.burst) for key in control.list_keys()] == [(2.5, 3), (5.0, 50)]

    @pytest.mark.parametrize(
        "limits", [{"rate": 0}, {"rate": float("nan")}, {"burst": 5}, {"rate": 5, "burst": 0}, {"expires_at": AT}]
    )
    def test_limits_that_allow_nothing_are_refused(self, control: ControlStore, limits: dict[str, Any]) -> None:
        with pytest.raises(ConfigError, match="expected"):
            control.create_key("shop", ["ingest"], AT, **limits)
        assert control.list_keys() == []

    def test_an_unknown_key_cannot_be_revoked(self, control: ControlStore) -> None:
        with pytest.raises(NotFound, match="'nope': no such key"):
            control.revoke_key("nope", AT)

    def test_keys_are_listed_oldest_first_without_secrets(self, control: ControlStore) -> None:
        made = [control.create_key(name, ["ingest"], AT + timedelta(hours=n)) for n, name in enumerate("ab")]
        assert control.list_keys() == [info for info, _ in made]
        assert not any(secret in repr(control.list_keys()) for _, secret in made)

    def test_secrets_are_recognisable_and_never_alike(self, control: ControlStore) -> None:
        secrets = {control.create_key("shop", ["ingest"], AT)[1] for _ in range(20)}
        assert len(secrets) == 20
        assert all(secret.startswith("bespoke_") and ":" not in secret for secret in secrets)

    @pytest.mark.parametrize("scopes", [[], ["read"], ["ingest", "write"]])
    def test_unknown_scopes_are_refused(self, control: ControlStore, scopes: list[str]) -> None:
        with pytest.raises(
            ConfigError, match="expected some of ingest, recommend, profiles, experiments, admin, catalog, metrics"
        ):
            control.create_key("shop", scopes, AT)
        assert control.list_keys() == []

    def test_a_pointer_names_what_it_was_last_set_to(self, control: ControlStore) -> None:
        assert control.pointer("champion") is None
        point(control, "als@1", "als@2")
        control.set_pointer("challenger", "buy_again@1", by="ada", reason="try", at=AT)
        assert control.pointer("champion") == "als@2"
        assert control.pointers() == {"champion": "als@2", "challenger": "buy_again@1"}

    def test_a_pointer_keeps_its_history(self, control: ControlStore) -> None:
        point(control, "als@1", "als@2")
        roll_back(control)
        history = control.pointer_history("champion")
        assert [entry.value for entry in history] == ["als@1", "als@2", "als@1"]
        assert [(entry.by, entry.reason, entry.at) for entry in history][1:] == [
            ("ada", "better", AT),
            ("ada", "worse", AT),
        ]

    def test_rolling_back_again_goes_further_back(self, control: ControlStore) -> None:
        point(control, "als@1", "als@2", "als@3")
        assert [roll_back(control), roll_back(control)] == ["als@2", "als@1"]
        assert control.pointer("champion") == "als@1"
        with pytest.raises(NotFound, match="nothing to go back to"):
            roll_back(control)

    def test_a_pointer_set_after_a_rollback_returns_to_what_served_before(self, control: ControlStore) -> None:
        point(control, "als@1", "als@2")
        roll_back(control)
        point(control, "als@3")
        assert roll_back(control) == "als@1"

    def test_setting_a_pointer_to_the_same_again_does_not_hide_what_was_before(self, control: ControlStore) -> None:
        point(control, "als@1", "als@2", "als@2")
        assert roll_back(control) == "als@1"

    def test_a_pointer_that_never_moved_cannot_be_rolled_back(self, control: ControlStore) -> None:
        with pytest.raises(NotFound, match="'champion': it never named anything else"):
            roll_back(control)
        point(control, "als@1")
        with pytest.raises(NotFound):
            roll_back(control)

    def test_experiments_in_force_and_their_history(self, control: ControlStore) -> None:
        first, second = {"salt": "s1", "shares": {"a": 0.5}}, {"salt": "s2", "shares": {}}
        control.set_experiment("hero", first, by="ada", at=AT)
        control.set_experiment("hero", second, by="bob", at=AT + timedelta(days=1), reason="new phase")
        assert control.experiments() == {"hero": second}
        assert control.experiment("hero") == second
        assert [entry.value for entry in control.experiment_history("hero")] == [first, second]

    def test_an_ended_experiment_is_in_force_no_longer(self, control: ControlStore) -> None:
        control.set_experiment("hero", {"salt": "s"}, by="ada", at=AT)
        control.end_experiment("hero", by="ada", at=AT)
        assert (control.experiments(), control.experiment("hero")) == ({}, None)
        assert [entry.value for entry in control.experiment_history("hero")] == [{"salt": "s"}, None]

    def test_an_experiment_is_changed_in_the_knowledge_of_all_others(self, control: ControlStore) -> None:
        control.set_experiment("other", {"traffic": 0.4}, by="ada", at=AT)
        seen = []

        def change(states: Mapping[str, dict[str, Any]]) -> dict[str, Any]:
            seen.append(dict(states))
            return {"traffic": 1 - states["other"]["traffic"]}

        for _ in range(2):
            control.change_experiment("hero", change, action="experiment.ramp", by="bob", at=AT, reason="room")
        assert seen == [{"other": {"traffic": 0.4}}, {"other": {"traffic": 0.4}, "hero": {"traffic": 0.6}}]
        assert [entry.value for entry in control.experiment_history("hero")] == [{"traffic": 0.6}]
        (entry,) = control.audit_trail(subject="experiment:hero")
        assert (entry.action, entry.by, entry.details["reason"]) == ("experiment.ramp", "bob", "room")

    def test_a_change_that_is_refused_changes_nothing(self, control: ControlStore) -> None:
        def refuse(_: Mapping[str, dict[str, Any]]) -> dict[str, Any]:
            raise ConfigError("no")

        with pytest.raises(ConfigError, match="no"):
            control.change_experiment("hero", refuse, action="experiment.start", by="bob", at=AT)
        assert (control.experiments(), control.audit_trail()) == ({}, [])

    def test_changes_by_many_at_once_follow_one_another(self, control: ControlStore) -> None:
        def more(states: Mapping[str, dict[str, Any]]) -> dict[str, Any]:
            return {"n": states.get("hero", {"n": 0})["n"] + 1}

        with ThreadPoolExecutor(4) as pool:
            changes = [
                pool.submit(control.change_experiment, "hero", more, action="experiment.ramp", by="ada", at=AT)
                for _ in range(12)
            ]
        states = [change.result() or {} for change in changes]
        assert sorted(state["n"] for state in states) == list(range(1, 13))

    def test_an_experiment_that_waits_begins_when_its_last_pointer_is_set(self, control: ControlStore) -> None:
        arms = [{"name": "old", "share": 1.0}, {"name": "new", "share": 0.0, "model": "challenger"}]
        ramp = [{"after": "1 day", "shares": {"new": 0.5}}]
        declared = parse_experiment("hero", {"salt": "s", "variants": arms, "ramp": ramp})
        waiting = ExperimentState.begin(declared, at_ms=to_ms(AT), by="ada")
        control.set_experiment("hero", waiting.model_dump(mode="json"), by="ada", at=AT)
        later = AT + timedelta(days=9)
        for n, pointer in enumerate(("champion", "challenger", "challenger", "popular")):
            control.set_pointer(pointer, f"als@{n}", by="bob", reason="", at=later + n * LEASE)
        state = parse_state("hero", control.experiment("hero"))
        assert [phase.at_ms for phase in state.timeline] == [to_ms(later + LEASE), to_ms(later + LEASE) + DAY_MS]
        actions = [entry.action for entry in control.audit_trail(subject="experiment:hero")]
        assert actions == ["experiment.begin", "experiment.set"]

    def test_a_pointer_that_somebody_else_moved_is_not_rolled_back(self, control: ControlStore) -> None:
        point(control, "als@1", "als@2", "als@3")
        with pytest.raises(Superseded, match="no longer names als@2"):
            control.rollback_pointer("champion", by="guard", reason="", at=AT, expected="als@2")
        assert control.rollback_pointer("champion", by="guard", reason="", at=AT, expected="als@3") == "als@2"

    def test_health_of_versions_is_kept_by_replica_for_an_hour(self, control: ControlStore) -> None:
        served = Served("als@1", "hero", "new")
        rows = [
            ServedHealth(served, AT + timedelta(minutes=n), Health(count=n, errors=1, latency=(1,) * BUCKETS))
            for n in (0, 1)
        ]
        control.save_health("replica-1", [replace(rows[0], health=Health(9)), rows[1]], at=AT)
        control.save_health("replica-1", rows[:1], at=AT)
        control.save_health("replica-2", rows[:1], at=AT)
        assert control.health(since=AT) == [rows[0], rows[0], rows[1]]
        assert control.health(since=AT, until=AT + timedelta(minutes=1)) == [rows[0], rows[0]]
        control.save_health("replica-2", [], at=AT + timedelta(hours=1, seconds=1))
        assert control.health(since=AT) == [rows[1]]

    def test_a_pointer_and_an_experiment_may_share_a_name(self, control: ControlStore) -> None:
        control.set_experiment("champion", {"salt": "s"}, by="ada", at=AT)
        point(control, "als@1")
        assert (control.pointers(), control.experiments()) == ({"champion": "als@1"}, {"champion": {"salt": "s"}})

    def test_jobs_are_claimed_oldest_first_and_once(self, control: ControlStore) -> None:
        ids = [control.enqueue("train", {"model": model}, by="ada", at=AT) for model in ("als", "popularity")]
        claimed = [control.claim(f"w{n}", at=AT, lease=LEASE) for n in range(3)]
        assert [job and (job.job_id, job.worker, job.attempts, job.state) for job in claimed] == [
            (ids[0], "w0", 1, JobState.RUNNING),
            (ids[1], "w1", 1, JobState.RUNNING),
            None,
        ]
        assert claimed[0] is not None
        assert (claimed[0].kind, claimed[0].arguments, claimed[0].by) == ("train", {"model": "als"}, "ada")

    def test_workers_that_claim_at_once_never_get_the_same_job(self, control: ControlStore) -> None:
        for n in range(20):
            control.enqueue("train", {"n": n}, by="ada", at=AT)
        with ThreadPoolExecutor(5) as pool:
            claimed = list(pool.map(lambda n: control.claim(f"w{n}", at=AT, lease=LEASE), range(20)))
        assert sorted(job.arguments["n"] for job in claimed if job) == list(range(20))

    def test_a_finished_job_keeps_its_result(self, control: ControlStore) -> None:
        job_id = control.enqueue("train", {}, by="ada", at=AT)
        control.claim("w", at=AT, lease=LEASE)
        control.finish(job_id, "w", at=AT + LEASE, result={"version": "als@1"})
        job = control.job(job_id)
        assert (job.state, job.result, job.error, job.finished_at) == (
            JobState.DONE,
            {"version": "als@1"},
            None,
            AT + LEASE,
        )

    def test_a_failed_job_keeps_its_error_and_is_not_claimed_again(self, control: ControlStore) -> None:
        job_id = control.enqueue("train", {}, by="ada", at=AT)
        control.claim("w", at=AT, lease=LEASE)
        control.finish(job_id, "w", at=AT, error="no data")
        assert (control.job(job_id).state, control.job(job_id).error) == (JobState.FAILED, "no data")
        assert control.claim("w", at=AT + 9 * LEASE, lease=LEASE) is None

    def test_a_dead_worker_s_job_is_taken_over_when_its_lease_has_run_out(self, control: ControlStore) -> None:
        job_id = control.enqueue("train", {}, by="ada", at=AT)
        control.claim("dead", at=AT, lease=LEASE)
        assert control.claim("w", at=AT + LEASE / 2, lease=LEASE) is None
        job = control.claim("w", at=AT + LEASE, lease=LEASE)
        assert job is not None
        assert (job.job_id, job.attempts, job.lease_until) == (job_id, 2, AT + 2 * LEASE)

    def test_a_worker_that_was_taken_over_cannot_finish_the_job(self, control: ControlStore) -> None:
        job_id = control.enqueue("train", {}, by="ada", at=AT)
        control.claim("slow", at=AT, lease=LEASE)
        control.claim("w", at=AT + LEASE, lease=LEASE)
        with pytest.raises(Superseded, match="'slow' no longer holds it"):
            control.finish(job_id, "slow", at=AT + LEASE)
        control.finish(job_id, "w", at=AT + LEASE)
        with pytest.raises(Superseded):
            control.finish(job_id, "w", at=AT + LEASE)

    def test_a_renewed_lease_keeps_others_away(self, control: ControlStore) -> None:
        job_id = control.enqueue("train", {}, by="ada", at=AT)
        control.claim("w", at=AT, lease=LEASE)
        control.renew(job_id, "w", at=AT + LEASE / 2, lease=LEASE)
        assert control.claim("other", at=AT + LEASE, lease=LEASE) is None
        with pytest.raises(Superseded):
            control.renew(job_id, "other", at=AT, lease=LEASE)

    def test_jobs_are_listed_newest_first(self, control: ControlStore) -> None:
        ids = [control.enqueue("train", {}, by="ada", at=AT) for _ in range(3)]
        assert [job.job_id for job in control.list_jobs(limit=2)] == [ids[2], ids[1]]
        with pytest.raises(NotFound, match="job 99"):
            control.job(99)

    def test_what_changes_is_in_the_audit_trail_newest_first(self, control: ControlStore) -> None:
        info, secret = control.create_key("shop", ["ingest"], AT, by="ada")
        control.revoke_key(info.key_id, AT, by="bob")
        point(control, "als@1", "als@2")
        roll_back(control)
        control.set_experiment("hero", {"salt": "s"}, by="ada", at=AT)
        control.end_experiment("hero", by="ada", at=AT)
        trail = control.audit_trail()
        assert [(entry.action, entry.by) for entry in reversed(trail)] == [
            ("key.create", "ada"),
            ("key.revoke", "bob"),
            ("pointer.set", "ada"),
            ("pointer.set", "ada"),
            ("pointer.rollback", "ada"),
            ("experiment.set", "ada"),
            ("experiment.end", "ada"),
        ]
        assert secret not in repr(trail)

    def test_others_may_add_to_the_audit_trail(self, control: ControlStore) -> None:
        control.record("profile.erase", "user:u1", by="ada", at=AT, details={"ticket": 7})
        control.record("profile.erase", "user:u2", by="ada", at=AT)
        (entry,) = control.audit_trail(subject="user:u1")
        assert (entry.at, entry.by, entry.action, entry.details) == (AT, "ada", "profile.erase", {"ticket": 7})
        assert len(control.audit_trail(limit=1)) == 1

    def test_everything_survives_reopening(self, open_control: OpenControl) -> None:
        with open_control() as control:
            _, secret = control.create_key("shop", ["ingest"], AT)
            point(control, "als@1")
            control.enqueue("train", {}, by="ada", at=AT)
        again = open_control()
        assert again.authenticate(secret, "ingest", at=AT).name == "shop"
        assert again.pointer("champion") == "als@1"
        assert len(again.list_jobs()) == 1
        assert len(again.audit_trail()) == 2

    def test_sizes_of_segments_are_kept_by_ten_minutes(self, control: ControlStore) -> None:
        noon = datetime(2026, 1, 1, 12, tzinfo=UTC)
        control.save_sizes({"a": 1, "b": 5}, at=noon)
        control.save_sizes({"a": 2}, at=noon + timedelta(minutes=9))
        control.save_sizes({"a": 3}, at=noon + timedelta(minutes=10))
        assert control.sizes("a") == [(noon, 2), (noon + timedelta(minutes=10), 3)]
        assert control.sizes("a", limit=1) == control.sizes("a", since=noon + timedelta(minutes=5))

    def test_a_time_of_the_schedule_has_one_job_however_many_ask(self, control: ControlStore) -> None:
        def ask(_: int) -> int | None:
            return control.enqueue_slot("nightly", to_ms(AT), "drift", {}, by="schedule", at=AT)

        with ThreadPoolExecutor(4) as threads:
            found = list(threads.map(ask, range(8)))
        assert sum(job is not None for job in found) == 1
        assert len(control.list_jobs()) == 1
        assert control.last_slot("nightly") == to_ms(AT)

    def test_a_time_is_let_go_where_the_last_job_still_runs(self, control: ControlStore) -> None:
        one, two, three = (to_ms(AT) + n for n in (1, 2, 3))
        control.pass_slot("nightly", to_ms(AT))
        first = control.enqueue_slot("nightly", one, "drift", {}, by="schedule", at=AT)
        assert control.enqueue_slot("nightly", two, "drift", {}, by="schedule", at=AT) is None
        job = control.claim("w", at=AT, lease=timedelta(minutes=1))
        assert job is not None and job.job_id == first
        control.finish(job.job_id, "w", at=AT)
        assert control.enqueue_slot("nightly", three, "drift", {}, by="schedule", at=AT) is not None
        assert control.last_slot("other") is None

    def test_entries_of_one_kind_do_not_wait_for_one_another(self, control: ControlStore) -> None:
        asked = [control.enqueue_slot(name, to_ms(AT), "drift", {}, by="schedule", at=AT) for name in ("one", "other")]
        assert None not in asked

    def test_observations_come_back_in_order_and_are_not_doubled(self, control: ControlStore) -> None:
        later = AT + timedelta(hours=1)
        found = [Observation("drift", "age", at, 0.1, False) for at in (later, AT)]
        control.observe(found)
        control.observe([replace(found[1], value=0.2, off=True, words="moved")])
        assert [(one.at, one.value, one.off) for one in control.observed("drift")] == [
            (AT, 0.2, True),
            (later, 0.1, False),
        ]
        assert control.observed("drift", subject="other") == control.observed("drift", since=later + timedelta(1)) == []

    def test_an_alert_is_on_until_it_is_off_and_whoever_acknowledged_it_stays(self, control: ControlStore) -> None:
        later = AT + timedelta(minutes=5)
        alert = Alert("stale", "", AT, AT, 2.0, "two periods", AT)
        control.raise_alert(alert, at=AT)
        assert control.acknowledge("stale", by="ada", at=AT) == 1
        control.raise_alert(replace(alert, last=later, value=3.0), at=later)
        (on,) = control.alerts()
        assert (on.since, on.last, on.value, on.acknowledged_by) == (AT, later, 3.0, "ada")
        control.end_alert(on, at=later)
        assert control.alerts() == []
        trail = [entry.action for entry in reversed(control.audit_trail(subject="alert:stale"))]
        assert trail == ["alert.on", "alert.acknowledge", "alert.off"]
        with pytest.raises(NotFound, match="no alert 'stale' is on"):
            control.acknowledge("stale", by="ada", at=AT)
