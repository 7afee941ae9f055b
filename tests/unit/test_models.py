"""The library's entity kinds and the properties of a task's entity."""

from __future__ import annotations

from dataclasses import fields
from datetime import timedelta

from google.cloud import ndb
from google.cloud.datastore import helpers
from google.cloud.ndb import model

from gaetk_longtask import LongTask, Status
from gaetk_longtask.datastore import calls as datastore_calls
from gaetk_longtask.info import Progress, TaskInfo
from gaetk_longtask.models import LongTaskPart
from tests.unit.conftest import ID, NOW, info_of


def test_an_entity_has_the_attributes_of_a_task_info() -> None:
    known = info_of(
        status=Status.FAILED,
        attempt=2,
        progress=Progress(message="Reading", step=2, total_steps=3),
        created_by="anna",
        namespace="shop",
        ended_at=NOW + timedelta(hours=1),
        expires_at=NOW + timedelta(days=30),
        error="There are no invoices.",
        error_reference="00c0ffee",
    )
    task = LongTask(
        key=ndb.Key(LongTask, ID, project="tests", database="tests", namespace="tests"),
        endpoint=known.endpoint,
        path=known.path,
        base_url=known.base_url,
        status_name="failed",
        failures=2,
        progress_stored=known.progress.stored(),
        created_at=NOW,
        created_by=known.created_by,
        namespace=known.namespace,
        requested_at=NOW,
        ended_at=known.ended_at,
        expires_at=known.expires_at,
        error=known.error,
        error_reference=known.error_reference,
    )
    assert task.info == known
    assert all(getattr(task, field.name) == getattr(known, field.name) for field in fields(known))
    assert task.url == known.url


def test_an_entity_is_written_as_ndb_would_write_it() -> None:
    place = {"project": "tests", "database": "tests", "namespace": "tests"}
    task = LongTask(
        key=ndb.Key(LongTask, ID, **place),
        created_at=NOW,
        run_seconds=1.5,
        failures=2,
        tells_end=True,
        references=["00c0ffee", "cafe"],
        parameters_manifest={"pieces": []},
        parameters_blob=b"{}",
    )
    # Whatever a later version may have added.
    task.key_of_later = ndb.Key(LongTask, "other", **place)
    task.list_of_later = [1, 2]
    task.point_of_later = ndb.GeoPt(1, 2)
    ndbs_own = helpers.entity_to_protobuf(model._entity_to_ds_entity(task))
    assert len(ndbs_own.properties) > len(fields(TaskInfo))
    for name in list(ndbs_own.properties):
        value = ndbs_own.properties[name]
        if value.exclude_from_indexes and "null_value" in value:
            del ndbs_own.properties[name]
    assert datastore_calls._to_protobuf(task) == ndbs_own


def test_the_progress_is_stored_under_its_old_name() -> None:
    assert "progress" in LongTask._properties
    assert "progress_stored" not in LongTask._properties


def test_nothing_of_a_part_is_indexed_but_whether_it_is_open_and_when_it_expires() -> None:
    properties = LongTaskPart._properties or {}
    assert {name for name, prop in properties.items() if prop._indexed} == {"open", "expires_at"}
    assert not LongTaskPart._default_indexed
