"""The overview for operators and its cost: the number of queries does not depend on the number of tasks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest
from flask import Flask
from google.appengine.datastore import datastore_index, datastore_pb
from google.cloud import datastore, ndb
from google.cloud.datastore_v1.services.datastore.transports import DatastoreGrpcTransport
from google.cloud.datastore_v1.types import CompositeFilter, LookupRequest, PropertyFilter, PropertyOrder, Query
from google.cloud.datastore_v1.types import Filter as QueryFilter

from gaetk_longtask import LongRunningTaskHandler, LongTask, LongTaskManager, Status, listing
from gaetk_longtask.datastore import calls as datastore_calls
from gaetk_longtask.exceptions import ConfigurationError, TooLargeError
from gaetk_longtask.info import Progress
from gaetk_longtask.listing import Filter, latest
from gaetk_longtask.operators import overview
from gaetk_longtask.operators.overview import NoSuchTaskError, Row
from gaetk_longtask.payloads.serializers import JSONSerializer
from gaetk_longtask.progress.datastore import DatastoreProgressStore
from gaetk_longtask.progress.snapshot import Snapshot
from gaetk_longtask.runtime import Runtime
from gaetk_longtask.testing import Faults, InMemoryProgressStore, InMemoryQueue, ManualClock, put_between
from tests.integration.conftest import Stock
from tests.support import services_of, start

INDEX_YAML = Path(__file__).parents[2] / "index.yaml"
HOUR = timedelta(hours=1)


class Report(LongRunningTaskHandler):
    def title_of(self, parameters: Any) -> str | None:
        return f"Invoices of {parameters['month']}" if "month" in parameters else None

    def execute_task(self, parameters: Any) -> str:
        raise AssertionError


@pytest.fixture
def app(make_app: Callable[..., Flask]) -> Flask:
    return make_app(Report)


@pytest.fixture
def services(app: Flask) -> Runtime:
    return services_of(app)


@pytest.fixture
def faults(ndb_client: ndb.Client, services: Runtime) -> Faults:
    """Counts the calls to Datastore from now on."""
    return put_between(ndb_client)


class Recorder(grpc.UnaryUnaryClientInterceptor):
    """Records all queries and lookups."""

    def __init__(self) -> None:
        self.queries: list[Query] = []
        self.lookups: list[LookupRequest] = []

    def intercept_unary_unary(self, continuation: Any, details: Any, request: Any) -> Any:
        if str(details.method).endswith("/RunQuery"):
            self.queries.append(request.query)
        if str(details.method).endswith("/Lookup"):
            self.lookups.append(request)
        return continuation(details, request)


@pytest.fixture
def recorder(ndb_client: ndb.Client, services: Runtime) -> Recorder:
    """Records the application's calls to Datastore from now on."""
    recorder = Recorder()
    unlimited = grpc.insecure_channel(ndb_client.host, [("grpc.max_receive_message_length", -1)])  # as NDB's own
    channel = grpc.intercept_channel(unlimited, recorder)
    ndb_client.stub = DatastoreGrpcTransport(host=ndb_client.host, channel=channel)
    return recorder


def listed(services: Runtime, limit: int = listing.PAGE, **wanted: Any) -> list[str]:
    with services.ndb_context():
        return [row.id for row in overview.tasks(services, Filter(**wanted), limit=limit).rows]


# Lists.


def test_the_youngest_tasks_come_first(services: Runtime, stock: Stock) -> None:
    stock(id="old", age=2 * HOUR)
    stock(id="new", age=HOUR)
    assert listed(services) == ["new", "old"]


def test_a_row_shows_all_details(services: Runtime, stock: Stock, clock: ManualClock) -> None:
    stock(id="a", endpoint="report", status=Status.ERROR, failures=2, age=HOUR)
    with services.ndb_context():
        [row] = overview.tasks(services, Filter()).rows
    assert (row.id, row.endpoint, row.status, row.attempts) == ("a", "report", Status.ERROR, 3)
    assert row.created_at == clock() - HOUR


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ({}, ["e", "d", "c", "b", "a"]),
        ({"status": Status.FAILED}, ["c", "b"]),
        ({"endpoint": "report"}, ["d", "b", "a"]),
        ({"endpoint": "report", "status": Status.FAILED}, ["b"]),
        ({"older_than": 4 * HOUR}, ["b", "a"]),
        ({"younger_than": 2 * HOUR}, ["e", "d"]),
        ({"older_than": 2 * HOUR, "younger_than": 3 * HOUR}, ["d", "c"]),
        ({"endpoint": "report", "younger_than": 4 * HOUR}, ["d", "b"]),
        ({"status": Status.FAILED, "older_than": 4 * HOUR}, ["b"]),
        ({"endpoint": "other", "status": Status.FAILED, "younger_than": HOUR}, []),
        ({"endpoint": "unknown"}, []),
        ({"created_by": "anna"}, ["c", "b"]),
        ({"created_by": "anna", "endpoint": "report", "status": Status.FAILED, "older_than": 4 * HOUR}, ["b"]),
        ({"created_by": "otto"}, []),
    ],
    ids=str,
)
def test_a_filter_hides_other_tasks(services: Runtime, stock: Stock, wanted: dict[str, Any], found: list[str]) -> None:
    stock(id="a", endpoint="report", status=Status.READY, age=5 * HOUR)
    stock(id="b", endpoint="report", status=Status.FAILED, age=4 * HOUR, created_by="anna")
    stock(id="c", endpoint="other", status=Status.FAILED, age=3 * HOUR, created_by="anna")
    stock(id="d", endpoint="report", status=Status.FINISHED, age=2 * HOUR)
    stock(id="e", endpoint="other", status=Status.STARTED, age=HOUR)
    assert listed(services, **wanted) == found


@pytest.mark.parametrize("wanted", [{}, {"status": Status.FAILED}, {"older_than": 5 * HOUR}], ids=str)
def test_a_cursor_goes_through_all_of_them_once_even_where_time_has_moved_on(
    services: Runtime, stock: Stock, clock: ManualClock, wanted: dict[str, Any]
) -> None:
    for number in range(12):  # three of the same age each
        stock(id=f"t{number:02}", status=Status.FAILED, age=HOUR * (number // 3 + 4))
    with services.ndb_context():
        pages = [overview.tasks(services, Filter(**wanted), limit=4)]
        while (cursor := pages[-1].cursor) is not None:
            clock.advance(HOUR)
            pages.append(overview.tasks(services, Filter(**wanted), limit=4, cursor=cursor))
    ids = [row.id for page in pages for row in page.rows]
    assert sorted(ids) == [f"t{number:02}" for number in range(3 if "older_than" in wanted else 0, 12)]
    assert all(page.rows for page in pages)


@pytest.mark.parametrize(
    "cursor", ["", "x", "1.x", "1.AAAA", "1.Zm9v", "é", "99999999999999.AAAA", "1.", ".AAAA", "1.é"]
)
def test_an_invalid_cursor_is_refused(services: Runtime, stock: Stock, cursor: str) -> None:
    stock()
    with services.ndb_context(), pytest.raises(ValueError, match="cursor"):
        overview.tasks(services, Filter(), cursor=cursor)


def test_a_task_at_work_has_its_latest_progress(
    app: Flask, services: Runtime, progress: InMemoryProgressStore, clock: ManualClock
) -> None:
    task = start(app, "report")
    snapshot = Snapshot.of(task, now=clock(), beat_seconds=0.5)
    progress.write(snapshot.beating(Progress(message="Reading", step=3, total_steps=4), clock()))
    with services.ndb_context():
        [row] = overview.tasks(services, Filter()).rows
    assert row.live is not None
    assert row.live.info.progress.percent == 75


@pytest.mark.parametrize("wanted", [{}, {"status": Status.FAILED}, {"endpoint": "report", "older_than": HOUR}], ids=str)
def test_a_row_has_the_title_of_its_task(services: Runtime, stock: Stock, wanted: dict[str, Any]) -> None:
    for number in range(5):
        stock(id=f"t{number}", status=Status.FAILED, age=2 * HOUR, title=f"Invoices {number}")
    for age in (2 * HOUR, 3 * HOUR):
        stock(status=Status.FAILED, age=age)
    with services.ndb_context():
        pages = [overview.tasks(services, Filter(**wanted), limit=3)]
        while pages[-1].cursor:
            pages.append(overview.tasks(services, Filter(**wanted), limit=3, cursor=pages[-1].cursor))
    rows = [row for page in pages for row in page.rows]
    assert {row.id: row.title for row in rows if row.title} == {
        f"t{number}": f"Invoices {number}" for number in range(5)
    }
    assert len(rows) == 7


def test_the_list_has_tasks_of_a_version_without_titles(
    services: Runtime, stock: Stock, ndb_client: ndb.Client
) -> None:
    stock(id="new", title="Invoices of May")
    old = stock()
    client = datastore.Client(project=ndb_client.project)
    entity = client.get(client.key("LongTask", old))
    del entity["title"]
    client.put(entity)
    with services.ndb_context():
        rows = overview.tasks(services, Filter()).rows
    assert {row.id: row.title for row in rows} == {"new": "Invoices of May", old: None}


def test_the_list_works_without_a_progress_store(
    services: Runtime, stock: Stock, progress: InMemoryProgressStore
) -> None:
    stock(id="a", status=Status.STARTED)
    progress.is_down = True
    assert listed(services) == ["a"]


# Cost.


@pytest.mark.parametrize("stored", [30, 300])
def test_a_list_costs_the_same_however_many_tasks_there_are(
    services: Runtime, stock: Stock, faults: Faults, stored: int
) -> None:
    with faults.resting():
        stock.many(stored, status=Status.STARTED)
    assert len(listed(services)) == listing.PAGE
    assert faults.calls == ["RunQuery", "Lookup"]


def test_a_list_asks_for_what_its_rows_show_and_for_no_large_values(
    services: Runtime, stock: Stock, recorder: Recorder
) -> None:
    """The Cloud SDK's classic emulator sends whole entities nevertheless."""
    for _ in range(20):
        stock(parameters_blob=b"x" * 250_000)
    assert len(listed(services)) == 20
    [query] = recorder.queries
    assert [each.property.name for each in query.projection] == ["__key__"]
    assert {tuple(lookup.property_mask.paths) for lookup in recorder.lookups} == {tuple(overview._SHOWN)}


def test_a_client_that_can_not_ask_for_properties_loads_whole_tasks(
    services: Runtime, stock: Stock, recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(datastore_calls, "_KNOWS_MASKS", False)
    stock(id="a")
    assert listed(services) == ["a"]
    assert not recorder.lookups[0].property_mask.paths


def test_a_row_needs_only_what_a_list_asks_for(services: Runtime) -> None:
    """Else a row would silently show a default value."""
    read = set()

    class Watched:
        def __init__(self, task: LongTask) -> None:
            self._task = task

        def __getattr__(self, name: str) -> Any:
            own = getattr(LongTask, name, None)
            if isinstance(own, property):
                return own.fget(self)
            read.add(own._name if isinstance(own, ndb.Property) else name)
            return getattr(self._task, name)

    with services.ndb_context():
        for status in (Status.FAILED, Status.STARTED, Status.FINISHED):
            task = LongTask(key=LongTask.key_of("a"), status_name=status.value, failures=1, end_untold=True)
            Row.of(Watched(task), None)  # type: ignore[arg-type]  # like one
    assert read - {"__key__"} == set(overview._SHOWN)


def test_a_task_that_is_deleted_meanwhile_is_left_out(
    services: Runtime, stock: Stock, monkeypatch: pytest.MonkeyPatch
) -> None:
    stock.many(3)
    gone = stock()
    load = LongTask.load_all

    def delete_and_load(names: list[str], **options: Any) -> list[LongTask | None]:
        LongTask.key_of(gone).delete()
        return load(names, **options)

    monkeypatch.setattr(LongTask, "load_all", delete_and_load)
    assert len(listed(services)) == 3


def test_the_progress_of_all_listed_tasks_is_one_request_more_where_datastore_has_it(
    make_app: Callable[..., Flask], stock: Stock, ndb_client: ndb.Client, clock: ManualClock
) -> None:
    app = Flask("tests")
    LongTaskManager(app, ndb_client=ndb_client, queue=InMemoryQueue(), clock=clock)
    services = services_of(app)
    assert isinstance(services.progress, DatastoreProgressStore)
    app.add_url_rule("/report", view_func=Report.as_view("report"))
    ids = {start(app, "report").id for _ in range(3)}
    faults = put_between(ndb_client)
    with services.ndb_context():
        found = overview.tasks(services, Filter())
    assert {row.id for row in found.rows if row.live} == ids
    assert faults.calls == ["RunQuery", "Lookup", "Lookup"]


def test_counting_ends_early(services: Runtime, stock: Stock, faults: Faults, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(overview, "COUNTED", 10)
    with faults.resting():
        stock.many(13, status=Status.FAILED)
        stock.many(2, status=Status.READY)
    with services.ndb_context():
        counts = overview.count(Status)
    assert counts == {**dict.fromkeys(Status, 0), Status.FAILED: overview.COUNTED, Status.READY: 2}
    assert faults.calls == ["RunQuery"] * len(Status)


def test_statistics_cost_one_query_for_each_endpoint(services: Runtime, stock: Stock, faults: Faults) -> None:
    with faults.resting():
        stock.many(overview.LAST_RUNS + 10, endpoint="report", status=Status.FINISHED, run_seconds=1.0)
    with services.ndb_context():
        found = overview.statistics(["report", "other"])
    assert [each.runs for each in found] == [overview.LAST_RUNS, 0]
    assert faults.calls == ["RunQuery", "RunQuery"]


# Indexes.


def legacy(query: Query) -> datastore_pb.Query:
    """Return a query in the format of App Engine's first runtime, which its index tools read."""
    translated = datastore_pb.Query(app="tests", kind=query.kind[0].name)
    for one in _conditions(query.filter):
        condition = translated.filter.add(op=getattr(datastore_pb.Query.Filter, PropertyFilter.Operator(one.op).name))
        condition.property.add(name=one.property.name, multiple=False).value.SetInParent()
    for each in query.order:
        order = translated.order.add(property=each.property.name)
        descending = each.direction == PropertyOrder.Direction.DESCENDING
        order.direction = datastore_pb.Query.Order.DESCENDING if descending else datastore_pb.Query.Order.ASCENDING
    projected = [each.property.name for each in query.projection]
    translated.keys_only = projected == ["__key__"]
    translated.property_name.extend(name for name in projected if name != "__key__")
    return translated


def _conditions(found: QueryFilter) -> list[PropertyFilter]:
    if found.composite_filter.filters:
        assert found.composite_filter.op == CompositeFilter.Operator.AND
        return [one for each in found.composite_filter.filters for one in _conditions(each)]
    return [found.property_filter] if found.property_filter.property.name else []


def test_index_yaml_has_what_every_query_needs_and_nothing_else(services: Runtime, recorder: Recorder) -> None:
    """The emulators need no index.yaml, but production refuses a query without its index."""
    ages: list[dict[str, Any]] = [{}, {"older_than": HOUR}, {"younger_than": HOUR}]
    with services.ndb_context():
        for age in ages:
            for status in (None, Status.FAILED):
                for endpoint in (None, "report"):
                    for user in (None, "anna"):
                        overview.tasks(services, Filter(status=status, endpoint=endpoint, created_by=user, **age))
        overview.count(Status)
        overview.statistics(["report"])
        services.store.last_runs("report", 10)
        services.store.due(10)
        services.store.expired(10)
        with pytest.raises(NoSuchTaskError):
            overview.find(services, "abcdef01")
    defined = datastore_index.ParseIndexDefinitions(INDEX_YAML.read_text()).indexes
    queries = [legacy(query) for query in recorder.queries]
    assert len(queries) == 24 + len(Status) + 6
    missing = [str(query) for query in queries if datastore_index.MinimalCompositeIndexForQuery(query, defined)]
    assert missing == []
    for index in defined:
        others = [each for each in defined if each is not index]
        assert any(datastore_index.MinimalCompositeIndexForQuery(query, others) for query in queries), index


@pytest.mark.parametrize("ask", [lambda s: overview.tasks(s, Filter()), lambda s: overview.statistics(["report"])])
def test_an_index_that_was_not_deployed_is_named(
    services: Runtime, faults: Faults, ask: Callable[[Runtime], Any]
) -> None:
    faults.lose_request("RunQuery", grpc.StatusCode.FAILED_PRECONDITION)
    with services.ndb_context(), pytest.raises(ConfigurationError, match=r"index\.yaml"):
        ask(services)


# One task.


def test_a_task_is_found_by_its_id_or_by_how_that_begins(services: Runtime, stock: Stock) -> None:
    stock(id="abcdefgh-1")
    stock(id="abcdefgh-2")
    stock(id="-b_")
    with services.ndb_context():
        assert overview.find(services, "abcdefgh-1").id == "abcdefgh-1"
        assert overview.find(services, "-").id == "-b_"
        for text, why in [
            ("abcdefgh", "more than one"),
            ("nothing", "no task"),
            ("", "not the id"),
            ("a b", "not the id"),
            ("é", "not the id"),
            ("a" * 65, "not the id"),
        ]:
            with pytest.raises(NoSuchTaskError, match=why):
                overview.find(services, text)


def test_a_task_is_found_by_the_reference_of_any_attempt(services: Runtime, stock: Stock) -> None:
    stock(id="one", references=["00000001", "0000000a"])
    stock(id="two", references=["00000002"])
    with services.ndb_context():
        assert [overview.find(services, text).id for text in ("00000001", "0000000A", "00000002")] == [
            "one",
            "one",
            "two",
        ]
        with pytest.raises(NoSuchTaskError, match="no task whose id begins with 00000003, or which has this reference"):
            overview.find(services, "00000003")


def test_a_reference_with_which_an_id_begins_is_ambiguous(services: Runtime, stock: Stock) -> None:
    stock(id="abcdef01-the-id")
    stock(id="other", references=["abcdef01"])
    with services.ndb_context(), pytest.raises(NoSuchTaskError, match="more than one"):
        overview.find(services, "abcdef01")


def test_a_task_whose_id_begins_with_its_own_reference_is_found(services: Runtime, stock: Stock) -> None:
    stock(id="abcdef01-the-id", references=["abcdef01"])
    with services.ndb_context():
        assert overview.find(services, "abcdef01").id == "abcdef01-the-id"


def test_an_id_that_others_begin_with_is_found_all_the_same(services: Runtime, stock: Stock) -> None:
    stock(id="abc")
    stock(id="abcd")
    with services.ndb_context():
        assert overview.find(services, "abc").id == "abc"


def test_a_stale_snapshot_does_not_hide_the_durable_state(
    app: Flask, services: Runtime, progress: InMemoryProgressStore, clock: ManualClock
) -> None:
    task = start(app, "report")
    stale = progress.stored[task.id]
    with services.ndb_context():
        services.store.cancel(task.id)
        progress.stored[task.id] = stale
        cancelled = services.store.get(task.id)
        assert cancelled is not None
        assert latest(services, cancelled).info.status is Status.CANCELLED


def parameters_of(services: Runtime, task: LongTask) -> dict[str, str]:
    with services.ndb_context():
        return overview.parameters(services, task, JSONSerializer())


def test_parameters_are_described_shortly(app: Flask, services: Runtime) -> None:
    task = start(app, "report", {"month": "March", "file": b"x" * 100_000, "rows": list(range(5000))})
    shown = parameters_of(services, task)
    assert shown["month"] == "'March'"
    assert all(len(text) < 1000 for text in shown.values())


def test_parameters_that_are_no_dict_have_no_name(app: Flask, services: Runtime) -> None:
    task = start(app, "report", [1, 2])
    assert parameters_of(services, task) == {"": "[1, 2]"}


def test_large_parameters_are_not_loaded(app: Flask, services: Runtime, faults: Faults) -> None:
    with faults.resting(), app.app_context():
        task = LongTaskManager.start("report", "x" * (overview.LARGEST_SHOWN + 1))
    with pytest.raises(TooLargeError, match="1,048,577 bytes"):
        parameters_of(services, task)
    assert faults.calls == []


# Statistics.


def test_statistics_of_an_endpoint(services: Runtime, stock: Stock) -> None:
    for number in range(20):
        stock(endpoint="report", status=Status.FINISHED, run_seconds=float(number + 1))
    stock(endpoint="report", status=Status.FAILED)
    stock.many(3, endpoint="report", status=Status.CANCELLED)
    stock.many(4, endpoint="report", status=Status.STARTED)
    stock.many(5, endpoint="other", status=Status.FAILED)
    with services.ndb_context():
        [found] = overview.statistics(["report"])
    assert Counter(succeeded=found.succeeded, failed=found.failed, cancelled=found.cancelled, runs=found.runs) == {
        "succeeded": 20,
        "failed": 1,
        "cancelled": 3,
        "runs": 24,
    }
    assert found.success_rate == pytest.approx(20 / 21)
    assert (found.median_seconds, found.p95_seconds) == (10.5, 19)


def test_only_the_runs_that_ended_last_count(services: Runtime, stock: Stock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(overview, "LAST_RUNS", 10)
    stock.many(5, endpoint="report", status=Status.FAILED, age=5 * HOUR)
    stock.many(overview.LAST_RUNS, endpoint="report", status=Status.DONE, run_seconds=2.0, age=HOUR)
    with services.ndb_context():
        [found] = overview.statistics(["report"])
    assert (found.runs, found.failed) == (overview.LAST_RUNS, 0)


def test_an_endpoint_without_runs_has_no_rate(services: Runtime) -> None:
    with services.ndb_context():
        [found] = overview.statistics(["report"])
    assert (found.runs, found.success_rate, found.median_seconds, found.p95_seconds) == (0, None, None, None)
