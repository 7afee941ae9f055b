"""For google-cloud-ndb, the embedded Datastore behaves like the Cloud SDK's emulator."""

from __future__ import annotations

import datetime
import os
import signal
import socket
import threading
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from google.api_core import exceptions
from google.cloud import ndb
from google.cloud.ndb import exceptions as ndb_exceptions

from gaetk_longtask.dev.pieces import Piece, start_datastore
from gaetk_longtask.dev.processes import MissingPieceError
from tests.missing import missing


class Customer(ndb.Model):
    name = ndb.StringProperty()


class Bill(ndb.Model):
    number = ndb.IntegerProperty()
    country = ndb.StringProperty()
    day = ndb.DateProperty()
    value = ndb.FloatProperty()
    tags = ndb.StringProperty(repeated=True)
    paid = ndb.BooleanProperty()


class Upload(ndb.Model):
    blob = ndb.BlobProperty()


class Everything(ndb.Model):
    integer = ndb.IntegerProperty()
    real = ndb.FloatProperty()
    string = ndb.StringProperty()
    text = ndb.TextProperty()
    blob = ndb.BlobProperty()
    compressed = ndb.BlobProperty(compressed=True)
    moment = ndb.DateTimeProperty()
    zoned = ndb.DateTimeProperty(tzinfo=datetime.UTC)
    day = ndb.DateProperty()
    clock = ndb.TimeProperty()
    json = ndb.JsonProperty()
    key_to = ndb.KeyProperty()
    place = ndb.GeoPtProperty()
    nothing = ndb.StringProperty()
    many = ndb.IntegerProperty(repeated=True)
    customer = ndb.LocalStructuredProperty(Customer)
    customers = ndb.StructuredProperty(Customer, repeated=True)


def start(kind: str, data_dir: Path | None = None) -> Piece:
    try:
        return start_datastore(kind, data_dir=data_dir)
    except MissingPieceError as exc:
        missing(exc)
        raise


def client_of(datastore: Piece, project: str = "demo") -> ndb.Client:
    # ndb reads it again in every count().
    os.environ["DATASTORE_EMULATOR_HOST"] = datastore.host
    return ndb.Client(project=project)


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATASTORE_EMULATOR_HOST", "")


@pytest.fixture(scope="module", params=["sdk", "embedded"])
def running(request: pytest.FixtureRequest) -> Iterator[Piece]:
    with start(request.param) as piece:
        yield piece


@pytest.fixture
def datastore(running: Piece) -> Piece:
    running.reset()
    return running


@pytest.fixture
def client(datastore: Piece) -> ndb.Client:
    return client_of(datastore)


@pytest.fixture
def context(client: ndb.Client) -> Iterator[Any]:
    with client.context(cache_policy=False) as context:
        yield context


@pytest.fixture
def invoices(context: Any) -> list[Bill]:
    made = [
        Bill(
            id=f"i{number}",
            number=number,
            country=("DE", "FR", "US")[number % 3],
            day=datetime.date(2026, 11, 1 + number),
            value=number * 1.5,
            tags=["all", "odd" if number % 2 else "even"],
            paid=number < 5,
        )
        for number in range(10)
    ]
    ndb.put_multi(made)
    return made


def numbers(query: Any, **options: Any) -> list[int]:
    return [invoice.number for invoice in query.fetch(**options)]


@pytest.mark.usefixtures("context")
class TestEntities:
    def test_every_kind_of_value_comes_back_equal(self) -> None:
        values = {
            "integer": -(2**63),
            "real": 0.1,
            "string": "grün \N{SNOWMAN}",
            "text": "x" * 100_000,
            "blob": bytes(range(256)),
            "compressed": b"a" * 100_000,
            "moment": datetime.datetime(2026, 11, 23, 17, 40, 1, 123456),  # noqa: DTZ001 - ndb's own
            "zoned": datetime.datetime(2026, 11, 23, 17, 40, 1, 123456, tzinfo=datetime.UTC),
            "day": datetime.date(1969, 12, 31),
            "clock": datetime.time(23, 59, 59, 999999),
            "json": {"a": [1, None, {"b": 2.5}]},
            "key_to": ndb.Key("Parent", 1, "Child", "x"),
            "place": ndb.GeoPt(51.5, -0.25),
            "nothing": None,
            "many": [3, 1, 2, 1],
        }
        key = Everything(
            customer=Customer(name="a"), customers=[Customer(name="b"), Customer(name=None)], **values
        ).put()

        found = key.get()

        assert {name: getattr(found, name) for name in values} == values
        assert found.customer.name == "a"
        assert [customer.name for customer in found.customers] == ["b", None]

    def test_a_second_put_replaces_the_first(self) -> None:
        key = Customer(id="a", name="first").put()
        Customer(id="a", name="second").put()
        assert key.get().name == "second"

    def test_a_deleted_entity_is_gone(self) -> None:
        key = Customer(name="a").put()
        key.delete()
        assert key.get() is None
        assert Customer.query().fetch() == []

    def test_many_are_read_and_written_at_once(self) -> None:
        keys = ndb.put_multi([Customer(id=number, name=str(number)) for number in range(1, 301)])
        found = ndb.get_multi([*keys, ndb.Key(Customer, "missing")])
        assert [customer and customer.name for customer in found] == [*map(str, range(1, 301)), None]

    def test_ids_are_given_once(self) -> None:
        put = {Customer().put().id() for _ in range(20)}
        allocated = {key.id() for key in Customer.allocate_ids(size=20)}
        assert len(put | allocated) == 40

    def test_namespaces_do_not_see_each_other(self) -> None:
        Customer(id="a", name="none").put()
        Customer(id="a", name="other", namespace="other").put()
        assert ndb.Key(Customer, "a").get().name == "none"
        assert [found.name for found in Customer.query(namespace="other").fetch()] == ["other"]

    def test_projects_do_not_see_each_other(self, datastore: Piece) -> None:
        Customer(id="a").put()

        def ask_elsewhere() -> None:
            with client_of(datastore, "elsewhere").context():
                seen.append(ndb.Key(Customer, "a").get())
                Customer(id="b").put()

        seen: list[Any] = []
        thread = threading.Thread(target=ask_elsewhere)
        thread.start()
        thread.join()
        assert seen == [None]
        assert [found.key.id() for found in Customer.query().fetch()] == ["a"]


@pytest.mark.usefixtures("invoices")
class TestQueries:
    def test_equality(self) -> None:
        assert sorted(numbers(Bill.query(Bill.country == "DE"))) == [0, 3, 6, 9]

    def test_range_and_order(self) -> None:
        query = Bill.query(Bill.value > 3, Bill.value <= 9).order(-Bill.value)
        assert numbers(query) == [6, 5, 4, 3]

    def test_several_orders(self) -> None:
        assert numbers(Bill.query().order(Bill.country, -Bill.number)) == [9, 6, 3, 0, 7, 4, 1, 8, 5, 2]

    def test_dates_and_booleans(self) -> None:
        query = Bill.query(Bill.day >= datetime.date(2026, 11, 4), Bill.paid == True)  # noqa: E712 - a query
        assert numbers(query) == [3, 4]

    def test_repeated_properties_match_by_any_value(self) -> None:
        assert sorted(numbers(Bill.query(Bill.tags == "all", Bill.tags == "odd"))) == [1, 3, 5, 7, 9]

    def test_in(self) -> None:
        assert sorted(numbers(Bill.query(Bill.country.IN(["FR", "US"])))) == [1, 2, 4, 5, 7, 8]

    def test_or(self) -> None:
        assert sorted(numbers(Bill.query(ndb.OR(Bill.number < 2, Bill.country == "US")))) == [0, 1, 2, 5, 8]

    def test_keys_only(self) -> None:
        keys = Bill.query(Bill.number < 2).fetch(keys_only=True)
        assert keys == [ndb.Key(Bill, "i0"), ndb.Key(Bill, "i1")]

    def test_key_range(self) -> None:
        query = Bill.query(Bill._key > ndb.Key(Bill, "i7")).order(Bill._key)
        assert numbers(query) == [8, 9]

    def test_projection(self) -> None:
        found = Bill.query().order(Bill.number).fetch(2, projection=[Bill.number, Bill.country])
        assert [(invoice.number, invoice.country) for invoice in found] == [(0, "DE"), (1, "FR")]
        with pytest.raises(ndb.UnprojectedPropertyError):
            _ = found[0].value

    def test_distinct(self) -> None:
        found = Bill.query(projection=[Bill.country], distinct_on=[Bill.country]).fetch()
        assert [invoice.country for invoice in found] == ["DE", "FR", "US"]

    def test_limit_and_offset(self) -> None:
        assert numbers(Bill.query().order(Bill.number), limit=3, offset=4) == [4, 5, 6]

    def test_pages_by_cursor(self) -> None:
        query, cursor, pages = Bill.query().order(Bill.number), None, []
        while True:
            page, cursor, more = query.fetch_page(4, start_cursor=cursor)
            pages.append([invoice.number for invoice in page])
            if not more:
                break
        assert [page for page in pages if page] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]

    def test_count(self) -> None:
        assert Bill.query(Bill.country == "DE").count() == 4

    def test_more_than_one_batch(self) -> None:
        ndb.put_multi([Bill(number=number) for number in range(10, 1200)])
        assert numbers(Bill.query().order(Bill.number)) == list(range(1200))
        assert Bill.query().count() == 1200

    def test_gql(self) -> None:
        query = ndb.gql("SELECT * FROM Bill WHERE country = :1 ORDER BY number DESC LIMIT 2", "DE")
        assert numbers(query) == [9, 6]

    def test_ancestor(self) -> None:
        parent = Customer(id="p").put()
        Bill(parent=parent, number=100).put()
        Bill(parent=ndb.Key(Customer, "q"), number=101).put()
        assert numbers(Bill.query(ancestor=parent)) == [100]

    def test_what_was_just_put_is_found(self) -> None:
        for number in range(1000, 1050):
            Bill(number=number).put()
            assert numbers(Bill.query(Bill.number == number)) == [number]


class TestTransactions:
    def test_twenty_threads_on_one_entity_lose_nothing(self, client: ndb.Client) -> None:
        with client.context():
            key = Bill(id="counter", number=0).put()

        def increment() -> None:
            with client.context(cache_policy=False):
                ndb.transaction(once)

        def once() -> None:
            invoice = key.get()
            invoice.number += 1
            invoice.put()

        threads = [threading.Thread(target=increment) for _ in range(20)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        with client.context(cache_policy=False):
            assert key.get().number == 20

    def test_of_two_that_read_the_same_the_second_is_aborted(self, client: ndb.Client) -> None:
        with client.context():
            key = Customer(id="a", name="start").put()

        def interfere() -> None:
            with client.context(cache_policy=False):
                Customer(id="a", name="first").put()

        def second() -> None:
            customer = key.get()
            thread = threading.Thread(target=interfere)
            thread.start()
            thread.join()
            customer.name = "second"
            customer.put()

        with client.context(cache_policy=False):
            with pytest.raises(exceptions.Aborted):
                ndb.transaction(second, retries=0)
            assert key.get().name == "first"

    @pytest.mark.usefixtures("context")
    def test_one_that_fails_changes_nothing(self) -> None:
        def fail() -> None:
            Customer(id="a").put()
            Customer(id="b").put()
            raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            ndb.transaction(fail)
        assert Customer.query().fetch() == []

    @pytest.mark.usefixtures("context")
    def test_several_groups_are_committed_together(self) -> None:
        ndb.transaction(lambda: ndb.put_multi([Customer(id=number) for number in range(1, 26)]))
        assert Customer.query().count() == 25

    @pytest.mark.usefixtures("context")
    def test_entities_without_an_id_get_one(self) -> None:
        key = ndb.transaction(lambda: Customer(name="a").put())
        assert key.get().name == "a"

    @pytest.mark.usefixtures("context")
    def test_ancestor_queries_are_part_of_it(self) -> None:
        parent = ndb.Key(Customer, "p")
        Bill(parent=parent, number=1).put()
        assert ndb.transaction(lambda: numbers(Bill.query(ancestor=parent))) == [1]

    @pytest.mark.usefixtures("context")
    def test_read_only_ones_read(self) -> None:
        key = Customer(name="a").put()
        assert ndb.transaction(lambda: key.get().name, read_only=True) == "a"


@pytest.mark.usefixtures("context")
class TestLimits:
    def test_the_largest_property_is_stored(self) -> None:
        key = Upload(blob=b"x" * 1_048_400).put()
        assert len(key.get().blob) == 1_048_400

    def test_a_larger_property_is_an_invalid_argument(self) -> None:
        with pytest.raises(exceptions.InvalidArgument):
            Everything(blob=b"x" * 1_048_488).put()

    def test_three_mebibytes_in_one_request_are_stored(self) -> None:
        keys = ndb.put_multi([Everything(blob=b"x" * 1_000_000) for _ in range(3)])
        assert sum(len(found.blob) for found in ndb.get_multi(keys)) == 3_000_000

    def test_a_long_indexed_string_is_an_invalid_argument(self) -> None:
        Customer(name="x" * 1500).put()
        with pytest.raises((exceptions.InvalidArgument, ndb_exceptions.BadValueError)):
            Customer(name="x" * 1501).put()


class TestEmbedded:
    """The differences to the Cloud SDK's emulator: it follows production, or has features of its own."""

    def test_a_request_may_have_10_mebibytes(self, embedded: Piece) -> None:
        with client_of(embedded).context():
            ndb.put_multi([Everything(blob=b"x" * 1_040_000) for _ in range(10)])

    def test_a_larger_request_is_an_invalid_argument(self, embedded: Piece) -> None:
        with client_of(embedded).context(), pytest.raises(exceptions.InvalidArgument, match="10485760"):
            ndb.put_multi([Everything(blob=b"x" * 1_048_000) for _ in range(11)])

    def test_an_entity_may_have_one_mebibyte_in_all(self, embedded: Piece) -> None:
        with client_of(embedded).context(), pytest.raises(exceptions.InvalidArgument, match="1048572"):
            Everything(blob=b"x" * 600_000, text="x" * 600_000).put()

    def test_it_answers_health_checks(self, embedded: Piece) -> None:
        with urllib.request.urlopen(f"http://{embedded.host}/", timeout=5) as answer:
            assert answer.read() == b"Ok\n"

    @pytest.mark.parametrize("said", [b"", b"P", b"\0" * 70_000, b"PRI but not really", b"GET"])
    def test_nonsense_does_no_harm(self, embedded: Piece, said: bytes) -> None:
        host, port = embedded.host.split(":")
        with socket.create_connection((host, int(port)), timeout=5) as connection:
            connection.sendall(said)
        with client_of(embedded).context():
            Customer(id="after").put()


# The Cloud SDK's emulator writes its file only every few seconds, so a kill loses the last changes.
@pytest.mark.parametrize(
    ("kind", "how"), [("sdk", signal.SIGTERM), ("embedded", signal.SIGTERM), ("embedded", signal.SIGKILL)]
)
def test_with_a_data_dir_what_was_stored_survives(kind: str, how: signal.Signals, tmp_path: Path) -> None:
    with start(kind, tmp_path) as first, client_of(first).context():
        keys = ndb.put_multi([Customer(name=str(number)) for number in range(50)])
        keys[0].delete()
        Customer(id="named", name="old").put()
        Customer(id="named", name="new").put()
        assert first.process is not None
        os.kill(first.process.pid, how)

    with start(kind, tmp_path) as second, client_of(second).context(cache_policy=False):
        found = ndb.get_multi([*keys, ndb.Key(Customer, "named")])
        assert [customer and customer.name for customer in found] == [None, *map(str, range(1, 50)), "new"]
        assert Customer().put() not in keys


def test_a_second_one_on_the_same_data_says_so(tmp_path: Path) -> None:
    with start("embedded", tmp_path) as first, client_of(first).context():
        Customer(id="a").put()
        with pytest.raises(Exception, match="another Datastore emulator uses it"):
            start("embedded", tmp_path)
