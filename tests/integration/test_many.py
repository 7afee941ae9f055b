"""Many tasks are cancelled, retried and deleted, in the terminal and on the operators' pages."""

from __future__ import annotations

import html
import json
import re
from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from flask_wtf.csrf import CSRFProtect
from werkzeug.test import TestResponse

from gaetk_longtask import LongTask, LongTaskManager, Status
from gaetk_longtask.exceptions import EnqueueRefusedError
from gaetk_longtask.listing import Filter
from gaetk_longtask.operators import many
from gaetk_longtask.operators.many import Action, Obstacle
from gaetk_longtask.testing import Faults, InMemoryQueue, ManualClock
from tests.integration.conftest import Invoke, Stock
from tests.support import Work, load, services_of, start

SAME_ORIGIN = {"Sec-Fetch-Site": "same-origin"}
HOUR = timedelta(hours=1)


class Told(Work):
    def task_ended(self, task: LongTask) -> None:
        """Need nothing."""


@pytest.fixture
def app(make_app: Callable[..., Flask], work: type[Work]) -> Flask:
    return make_app(work, Told, LONGTASK_ADMIN=lambda: True)


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    """An operator's browser."""
    client = app.test_client()
    client.environ_base["HTTP_ACCEPT"] = "text/html"
    client.environ_base["HTTP_SEC_FETCH_SITE"] = "same-origin"
    return client


@pytest.fixture
def states(stored: Callable[[], list[LongTask]]) -> Callable[[], Counter[str]]:
    """A function that returns how many tasks are in each state."""
    return lambda: Counter(task.status_name for task in stored())


def form_of(page: str, button: str) -> dict[str, list[str]]:
    """Return the fields of the form with this button."""
    [form] = [each for each in re.findall(r"<form method=\"post\".*?</form>", page, re.DOTALL) if button in each]
    fields: dict[str, list[str]] = {}
    for name, value in re.findall(r'<input type="hidden" name="([^"]*)" value="([^"]*)">', form):
        fields.setdefault(name, []).append(html.unescape(value))
    return fields


def press(client: FlaskClient, page: TestResponse, button: str) -> TestResponse:
    assert page.status_code == 200, page.text
    return client.post("/_longtask/many", data=form_of(page.text, button))


def heading(page: TestResponse) -> str:
    assert page.status_code == 200, page.text
    [text] = re.findall(r"<h1>(.*?)</h1>", page.text)
    return html.unescape(text)


def runaways(stock: Stock) -> None:
    """Store 2,000 tasks, of which 60 of one endpoint have not ended."""
    stock.many(970, status=Status.FINISHED, age=HOUR)
    stock.many(970, status=Status.STARTED, endpoint="other", age=HOUR)
    stock.many(40, status=Status.STARTED, endpoint="runaway", age=HOUR, fence=1)
    stock.many(20, status=Status.ERROR, endpoint="runaway", age=HOUR)


# In the terminal.


def test_the_runaways_among_2000_tasks_end_in_one_command(
    invoke: Invoke, stock: Stock, states: Callable[[], Counter[str]]
) -> None:
    runaways(stock)
    result = invoke("cancel", "--all", "--endpoint", "runaway", "--yes")
    assert (result.exit_code, result.output) == (0, "60 tasks cancelled\n")
    assert states() == {"finished": 970, "started": 970, "cancelled": 60}


def test_a_command_about_many_tasks_asks_first(
    invoke: Invoke, stock: Stock, states: Callable[[], Counter[str]]
) -> None:
    stock.many(3)
    refused = invoke("cancel", "--all", input="n\n")
    assert refused.exit_code == 1
    assert "Cancel 3 tasks? [y/N]" in refused.stderr
    assert "Nothing was done. To act without a question, add --yes." in refused.stderr
    assert invoke("cancel", "--all").exit_code == 1  # without an answer
    assert states() == {"ready": 3}
    assert invoke("cancel", "--all", input="y\n").exit_code == 0
    assert states() == {"cancelled": 3}


def test_a_dry_run_names_the_tasks_and_changes_nothing(
    invoke: Invoke, stock: Stock, states: Callable[[], Counter[str]]
) -> None:
    stock.many(30, status=Status.FAILED, failures=1)
    [named] = stock.many(1)
    result = invoke("retry", "--all", "--dry-run")
    assert len(result.stdout.splitlines()) == 26
    assert "… and 5 more\n30 tasks would be retried.\n" in result.stderr
    assert json.loads(invoke("delete", named, "--dry-run", "--json").stdout) == {"would_do": [named], "not_done": []}
    assert states() == {"failed": 30, "ready": 1}


def test_several_tasks_are_named_by_the_beginning_of_their_ids(invoke: Invoke, stock: Stock, app: Flask) -> None:
    ids = [stock(id=letter * 22, status=Status.DONE if letter == "c" else Status.READY) for letter in "abc"]
    result = invoke("cancel", "aaaa", "bbbb", "cccc", "dddd", "aaaa", "--yes", "--json")
    assert result.exit_code == 1
    assert json.loads(result.stdout) == {
        "done": ids[:2],
        "not_done": [
            {"id": "dddd", "reason": "there is no such task, or it was deleted"},
            {"id": ids[2], "reason": "it is done"},
        ],
        "left": False,
    }
    assert "it is done" in invoke("cancel", ids[0], ids[2], "--yes").stderr


def test_the_filters_of_list_select_tasks(invoke: Invoke, stock: Stock, states: Callable[[], Counter[str]]) -> None:
    stock(id="a", created_by="anna", age=2 * HOUR, status=Status.FAILED)
    stock(id="b", created_by="otto", age=2 * HOUR, status=Status.FAILED)
    stock(id="c", created_by="anna", status=Status.FAILED)
    stock(id="d", created_by="anna", age=2 * HOUR, status=Status.CANCELLED)
    chosen = ["--all", "--created-by", "anna", "--older-than", "1h", "--status", "failed"]
    assert json.loads(invoke("retry", *chosen, "--dry-run", "--json").stdout)["would_do"] == ["a"]
    assert invoke("delete", *chosen, "--yes").stdout == "1 task deleted\n"
    assert states() == {"failed": 2, "cancelled": 1}


def test_a_limit_leaves_tasks_for_the_next_call(invoke: Invoke, stock: Stock) -> None:
    stock.many(120)
    first = json.loads(invoke("cancel", "--all", "--limit", "70", "--yes", "--json").stdout)
    assert (len(first["done"]), first["left"]) == (70, True)
    assert invoke("cancel", "--all", "--limit", "70", "--yes").stdout == "50 tasks cancelled\n"


def test_one_task_that_the_queue_refuses_does_not_stop_the_others(
    app: Flask, invoke: Invoke, stock: Stock, queue: InMemoryQueue, states: Callable[[], Counter[str]]
) -> None:
    stock.many(3, status=Status.CANCELLED)
    queue.errors.append(EnqueueRefusedError("no such queue"))
    result = invoke("retry", "--all", "--yes")
    assert result.exit_code == 1
    assert result.stdout == "2 tasks retried\n"
    assert "the queue refused it" in result.stderr
    assert states() == {"ready": 2, "failed": 1}


def test_one_task_that_datastore_does_not_answer_for_does_not_stop_the_others(
    app: Flask, stock: Stock, faults: Faults
) -> None:
    ids = stock.many(3)
    services = services_of(app)
    for _ in range(10):
        faults.lose_request("Commit")
    with services.ndb_context():
        report = many.act_on(services, Action.CANCEL, ids)
    assert Obstacle.STORE in {each.obstacle for each in report.refused}
    assert len(report.done) + len(report.refused) == 3


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["cancel"], "Name tasks by their IDs, or use --all with filters."),
        (["delete", "abc", "--all"], "Name tasks by their IDs, or use --all with filters."),
        (["delete", "abc", "--endpoint", "work"], "Filters need --all."),
        (["cancel", "--all", "--status", "done"], "A task that is done can't be cancelled."),
        (["retry", "--all", "--older-than", "soon"], "is not an age"),
        (["delete", "--all", "--untold"], "--untold needs IDs."),
    ],
)
def test_a_wrong_command_line_says_what_is_wrong(invoke: Invoke, arguments: list[str], why: str) -> None:
    result = invoke(*arguments)
    assert result.exit_code == 2
    assert why in " ".join(result.stderr.split())


def test_a_typo_in_an_endpoint_is_noted(invoke: Invoke) -> None:
    result = invoke("cancel", "--all", "--endpoint", "wrok", "--yes")
    assert result.stdout == "0 tasks cancelled\n"
    assert "Did you mean 'work'?" in result.stderr


def test_a_handler_is_told_before_its_task_is_deleted(
    app: Flask, invoke: Invoke, states: Callable[[], Counter[str]]
) -> None:
    task = start(app, "told")
    result = invoke("delete", task.id, "--yes")
    assert result.exit_code == 1
    assert "its handler has not been told of its end yet" in result.stderr
    assert "task_ended has not returned yet" in invoke("list").stdout
    assert states() == {"cancelled": 1}
    assert invoke("delete", task.id, "--yes", "--untold").exit_code == 0
    assert states() == {}


# On the pages.


def test_the_runaways_among_2000_tasks_end_in_one_page(
    client: FlaskClient, stock: Stock, states: Callable[[], Counter[str]]
) -> None:
    runaways(stock)
    question = client.get("/_longtask/many?all=1&endpoint=runaway&action=cancel")
    assert heading(question) == "Cancel 60 tasks?"
    assert "Working <b>40</b>" in question.text
    done = press(client, question, "Cancel the tasks")
    assert heading(done) == "60 tasks cancelled"
    assert "Continue" not in done.text
    assert states() == {"finished": 970, "started": 970, "cancelled": 60}


def test_a_task_that_starts_after_the_question_is_not_hit(
    client: FlaskClient, stock: Stock, clock: ManualClock, states: Callable[[], Counter[str]]
) -> None:
    stock.many(2)
    question = client.get("/_longtask/many?all=1&action=delete")
    clock.advance(timedelta(milliseconds=1))
    stock.many(1)
    assert heading(press(client, question, "Delete for good")) == "2 tasks deleted"
    assert states() == {"ready": 1}


def test_more_tasks_than_one_request_does_go_on_with_a_button(
    client: FlaskClient, stock: Stock, monkeypatch: pytest.MonkeyPatch, states: Callable[[], Counter[str]]
) -> None:
    monkeypatch.setattr(many, "_IDS", 20)
    monkeypatch.setattr(many.act_on_all, "__kwdefaults__", many.act_on_all.__kwdefaults__ | {"limit": 50})
    stock.many(65)
    stock.many(15, status=Status.STARTED)
    page = client.get("/_longtask/many?all=1&action=cancel")
    assert heading(page) == "Cancel 80 tasks?"
    page = press(client, page, "Cancel the tasks")
    assert heading(page) == "50 tasks cancelled"
    assert "There may be more tasks." in page.text
    page = press(client, page, "Continue")
    assert heading(page) == "80 tasks cancelled"
    assert states() == {"cancelled": 80}


def test_a_slow_request_stops_in_time_and_names_the_rest(app: Flask, stock: Stock) -> None:
    ids = stock.many(3)
    services, ticks = services_of(app), iter(range(0, 1000, 15))
    with services.ndb_context():
        report = many.act_on(services, Action.CANCEL, ids, monotonic=lambda: next(ticks))
        assert (report.done, report.rest) == (ids[:2], ids[2:])
        ticks = iter(range(0, 1000, 30))
        everything = many.act_on_all(services, Action.CANCEL, Filter(), services.clock(), monotonic=lambda: next(ticks))
    assert everything.place is not None


def test_selected_tasks_are_named_and_what_could_not_be_done_is_listed(
    client: FlaskClient, stock: Stock, states: Callable[[], Counter[str]]
) -> None:
    ready, done, failed = (stock(status=status) for status in (Status.READY, Status.DONE, Status.FAILED))
    page = client.get(f"/_longtask/many?action=retry&id={ready}&id={done}&id={failed}&id={'x' * 22}")
    assert heading(page) == "Try 4 tasks again?"
    page = press(client, page, "Try again")
    assert heading(page) == "1 task started again"
    assert page.text.count("Its state does not allow it:") == 2
    assert page.text.count("There is no such task, or it was deleted.") == 1
    assert states() == {"ready": 2, "done": 1}


def test_pressing_twice_does_no_harm(client: FlaskClient, stock: Stock) -> None:
    page = client.get(f"/_longtask/many?action=delete&id={stock()}")
    assert heading(press(client, page, "Delete for good")) == "1 task deleted"
    again = press(client, page, "Delete for good")
    assert heading(again) == "0 tasks deleted"
    assert "There is no such task, or it was deleted." in again.text


def test_a_task_whose_handler_was_not_told_can_be_deleted_anyway(
    app: Flask, client: FlaskClient, states: Callable[[], Counter[str]]
) -> None:
    task = start(app, "told")
    page = press(client, client.get(f"/_longtask/many?action=delete&id={task.id}"), "Delete for good")
    assert heading(page) == "0 tasks deleted"
    assert "Its handler has not been told of its end yet." in page.text
    assert "Handler not told yet" in client.get("/_longtask/tasks").text
    assert (
        "Its handler has not been told of its end yet (task_ended)." in client.get(f"/_longtask/tasks/{task.id}").text
    )
    assert heading(press(client, page, "Delete them anyway")) == "1 task deleted"
    assert states() == {}


def test_the_list_offers_the_actions_with_its_filter(client: FlaskClient, stock: Stock) -> None:
    task_id = stock(status=Status.FAILED, created_by="a & b")
    page = client.get("/_longtask/tasks?status=failed&user=a+%26+b&older=").text
    [form] = re.findall(r'<form class="lt-many" action="([^"]*)">.*?</form>', page, re.DOTALL)
    assert form == "/_longtask/many"
    assert f'name="id" value="{task_id}"' in page
    assert '<input type="hidden" name="user" value="a &amp; b">' in page
    answer = client.get("/_longtask/many?status=failed&user=a+%26+b&all=1&action=retry")
    assert heading(answer) == "Try 1 task again?"
    assert 'href="/_longtask/tasks?status=failed&amp;user=a+%26+b"' in answer.text


def test_the_page_of_a_task_names_no_fact_without_a_value(client: FlaskClient, stock: Stock) -> None:
    page = client.get(f"/_longtask/tasks/{stock()}").text
    names = re.findall(r"<dt[^>]*>(.*?)</dt>", page)
    assert "ID" in names
    assert not {"Note", "Duration"} & set(names)


def test_a_task_is_deleted_from_its_own_page(client: FlaskClient, stock: Stock) -> None:
    task_id = stock(status=Status.DONE)
    page = client.get(f"/_longtask/tasks/{task_id}").text
    [address] = re.findall(r'<a href="([^"]*)">Delete…</a>', page)
    done = press(client, client.get(html.unescape(address)), "Delete for good")
    assert heading(done) == "1 task deleted"


@pytest.mark.parametrize(
    ("query", "why"),
    [
        ("action=cancel", "Select tasks first, or all that the filter finds."),
        ("action=burn&all=1", "This address is invalid."),
        ("all=1", "This address is invalid."),
        ("action=cancel&id=../x", "This address is invalid."),
        ("action=cancel&all=1&status=odd", "This address is invalid."),
        ("action=cancel&all=1&asked_at=yesterday", "This address is invalid."),
        ("action=cancel&all=1&asked_at=2026-01-01", "This address is invalid."),
        ("action=cancel&" + "&".join(f"id={number}" for number in range(201)), "This address is invalid."),
    ],
)
def test_an_odd_request_is_refused(client: FlaskClient, stock: Stock, query: str, why: str) -> None:
    stock()
    fields = [pair.split("=") for pair in query.split("&")]
    form: dict[str, list[str]] = {}
    for name, value in fields:
        form.setdefault(name, []).append(value)
    for answer in (client.get(f"/_longtask/many?{query}"), client.post("/_longtask/many", data=form)):
        assert answer.status_code == 400
        assert why in answer.text


@pytest.mark.parametrize("place", ["nowhere", "done.", "ready.abc"])
def test_an_odd_place_is_refused(client: FlaskClient, stock: Stock, place: str) -> None:
    stock()
    assert client.post("/_longtask/many", data={"action": "cancel", "all": "1", "place": place}).status_code == 400


def test_a_time_in_the_future_hits_no_later_tasks(
    client: FlaskClient, stock: Stock, states: Callable[[], Counter[str]]
) -> None:
    stock.many(1, age=-HOUR)
    data = {"action": "cancel", "all": "1", "asked_at": "2999-01-01T00:00:00+00:00"}
    assert heading(client.post("/_longtask/many", data=data)) == "0 tasks cancelled"
    assert states() == {"ready": 1}


def test_a_button_whose_token_has_expired_leads_to_the_question_again(app: Flask, stock: Stock) -> None:
    CSRFProtect(app)
    client, task_id = app.test_client(), stock()
    sent = {"action": "cancel", "id": task_id, "csrf_token": "expired"}
    answer = client.post("/_longtask/many", data=sent, headers=SAME_ORIGIN | {"Accept": "text/html"})
    assert answer.status_code == 400
    [address] = re.findall(r'<a href="([^"]*)">Back to the task</a>', answer.text)
    question = client.get(html.unescape(address))
    assert heading(question) == "Cancel 1 task?"
    assert form_of(question.text, "Cancel the tasks")["csrf_token"]
    assert heading(press_with_session(client, question)) == "1 task cancelled"
    assert load(app, task_id).status is Status.CANCELLED


def press_with_session(client: FlaskClient, page: TestResponse) -> TestResponse:
    return client.post("/_longtask/many", data=form_of(page.text, "Cancel the tasks"), headers=SAME_ORIGIN)


# Start, watch, result, endpoints.


def test_a_start_can_be_delayed(app: Flask, invoke: Invoke, clock: ManualClock) -> None:
    found = json.loads(invoke("start", "work", "--delay", "2h", "--json").stdout)
    assert load(app, found["id"]).starts_at == clock() + 2 * HOUR
    assert invoke("start", "work", "--delay", "31d").exit_code == 2


def test_watch_ends_with_the_task(
    app: Flask, invoke: Invoke, queue: InMemoryQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    from gaetk_longtask.operators.cli import watching

    task = start(app)
    monkeypatch.setattr(watching, "sleep", lambda seconds: queue.deliver_all(app.test_client()))
    result = invoke("watch", task.id[:8])
    assert (result.exit_code, result.stderr) == (0, "Starting\n")
    assert result.stdout.startswith(f"{task.id} done ")
    cancelled = start(app)
    with app.app_context():
        LongTaskManager.cancel(cancelled.id)
    assert invoke("watch", cancelled.id).exit_code == 1


@pytest.mark.parametrize(
    ("made", "printed"),
    [
        ("text with an ä\n", "text with an ä\n"),
        (b"\x00\xff", b"\x00\xff"),
        ({"day": 1}, '{\n  "day": 1\n}\n'),
    ],
)
def test_result_prints_what_the_work_returned(
    app: Flask, work: type[Work], invoke: Invoke, queue: InMemoryQueue, made: Any, printed: str | bytes, tmp_path: Any
) -> None:
    work.do = lambda handler: made
    task = start(app)
    assert "has no result: it is ready" in invoke("result", task.id).stderr
    queue.deliver_all(app.test_client())
    wanted = printed if isinstance(printed, bytes) else printed.encode()
    assert invoke("result", task.id).stdout_bytes == wanted
    path = tmp_path / "result"
    assert invoke("result", task.id, "--output", str(path)).stdout == ""
    assert path.read_bytes() == wanted
    assert load(app, task).status is Status.DONE  # the visitor has not seen it
    json.loads(invoke("result", task.id, "--json").stdout)


def test_result_prints_what_was_yielded(app: Flask, work: type[Work], invoke: Invoke, queue: InMemoryQueue) -> None:
    work.do = lambda handler: (f"{line}\n" for line in ("a,b", "1,2"))
    task = start(app)
    queue.deliver_all(app.test_client())
    assert invoke("result", task.id).stdout == "a,b\n1,2\n"
    assert json.loads(invoke("result", task.id, "--json").stdout) == "a,b\n1,2\n"


def test_endpoints_lists_the_handlers(invoke: Invoke) -> None:
    told, work = json.loads(invoke("endpoints", "--json").stdout)
    assert (told["endpoint"], told["rules"], told["task_ended"]) == ("told", ["/told"], True)
    assert (work["endpoint"], work["queue"], work["task_ended"]) == ("work", "default", False)
    assert "told      /told  default  " in invoke("endpoints").stdout
