"""A short run of the chaos test, which takes minutes with `nox -s chaos`."""

from __future__ import annotations

from gaetk_longtask.dev.processes import MissingPieceError
from tests.chaos.battlefield import Battlefield
from tests.chaos.campaign import Campaign, Plan
from tests.missing import missing

PLAN = Plan(
    tasks=20,
    seed=1,
    fire_seconds=10,
    quiet_seconds=110,
    kill_every_seconds=2.0,
    memcached_every_seconds=4.0,
    memcached_down_seconds=1.0,
    datastore_every_seconds=2.0,
    datastore_down_seconds=1.0,
    hurry_after_seconds=6.0,
)


def test_twenty_tasks_survive_kills_duplicates_and_outages() -> None:
    try:
        with Battlefield(seed=PLAN.seed, with_cut_off=True) as field:
            outcome = Campaign(field, PLAN, say=print).run()
    except MissingPieceError as exc:
        missing(exc)
        raise

    print(outcome.table())
    assert outcome.complaints() == []
    hits = ("workers killed", "memcached stopped and started", "outages of Datastore", "deliveries duplicated")
    assert all(outcome.counts[hit] for hit in hits)
