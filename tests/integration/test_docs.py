"""The example applications in docs/ work as their pages say."""

from __future__ import annotations

from io import BytesIO
from typing import Any

import pytest
from flask import Flask

from gaetk_longtask.testing.runner import TaskRunner
from tests.pages import DOCS, blocks, file_name, run

pytestmark = pytest.mark.usefixtures("longtask_datastore")


def example(page: str, **views: str) -> tuple[TaskRunner, dict[str, Any]]:
    """Return a task runner for the application of a page, with additional views by endpoint."""
    names = run(DOCS / page, "def write_archive(year): ...")
    app: Flask = names["app"]
    for endpoint, cls in views.items():
        app.add_url_rule(f"/{endpoint}", view_func=names[cls].as_view(endpoint))
    return TaskRunner(app), names


def test_the_upload_example_adds_its_numbers_up() -> None:
    runner, _ = example("upload.md")
    with runner.opened():
        assert runner.run("/sum", method="POST", data={"file": (BytesIO(b"40,a\n2,b\n"), "n.csv")}).json == {"sum": 42}


@pytest.mark.parametrize("file", [b"\xff\xfe", None])
def test_an_invalid_upload_is_refused_with_a_message(file: bytes | None) -> None:
    runner, _ = example("upload.md")
    with runner.opened():
        task = runner.start("/sum", method="POST", data={"file": (BytesIO(file), "n.csv")} if file else {})
        runner.deliver()
        assert task.document["error"] == "Please choose a CSV file in UTF-8."


def test_an_uploads_name_may_be_kept() -> None:
    runner, _ = example("upload.md", named="NamedSum")
    with runner.opened():
        result = runner.run("/named", method="POST", data={"file": (BytesIO(b"42\n"), "c:/n.csv")})
        assert result.json == {"sum": 42, "name": "n.csv"}


@pytest.mark.parametrize("url", ["/squares?count=3", "/many?count=3"])
def test_a_download_is_a_file(url: str) -> None:
    runner, _ = example("download.md", many="ManySquares")
    with runner.opened():
        result = runner.run(url)
    assert result.text == "0,0\r\n1,1\r\n2,4\r\n"
    assert result.mimetype == "text/csv"
    assert result.headers["Content-Disposition"] == "attachment; filename=squares.csv"


def log_in(runner: TaskRunner, **session: str) -> None:
    with runner.client.session_transaction() as kept:
        kept.clear()
        kept.update(session)


def test_behind_a_login_every_user_has_their_own_tasks() -> None:
    runner, _ = example("login.md", shared="SharedReport")
    with runner.opened():
        log_in(runner, user="anna")
        own, shared = runner.start("/report"), runner.start("/shared")
        assert [runner.deliver().status_code for _ in range(2)] == [200, 200]
        assert own.result().text == "A report for anna."
        log_in(runner, user="ben")
        assert [runner.client.get(task.url).status_code for task in (own, shared)] == [403, 403]
        log_in(runner, user="ben", role="accountant")
        assert [runner.client.get(task.url).status_code for task in (own, shared)] == [403, 303]
        log_in(runner)
        assert runner.client.get(own.url).headers["Location"] == "/login"


def test_behind_a_login_a_form_with_an_old_token_leads_to_the_button() -> None:
    runner, names = example("login.md")
    names["app"].config["WTF_CSRF_TIME_LIMIT"] = -1
    with runner.opened():
        log_in(runner, user="anna")
        url = runner.start("/report").url
        for name in ("cancel", "retry"):
            page = runner.client.post(url.replace("=query", f"={name}"), follow_redirects=True)
            assert page.status_code == 405
            assert "Press the button again." in page.text
        assert runner.client.post("/report").text == "This form has expired. Please load it again."


def test_behind_a_login_cron_still_sweeps() -> None:
    runner, _ = example("login.md")
    with runner.opened():
        assert runner.client.get("/_longtask/sweep", headers={"X-Appengine-Cron": "true"}).status_code == 200


def test_a_handler_that_has_moved_reports() -> None:
    runner, names = example("migrate.md")
    with runner.opened():
        with runner.datastore():
            names["Order"](id=7, customer="anna", total=42).put()
        assert runner.run("/report/anna").text == "7,42\r\n"


def test_the_tutorials_tests_pass_for_its_last_application(pytester: pytest.Pytester) -> None:
    for block in blocks(DOCS / "tutorial.md", "python"):
        if name := file_name(block):
            (pytester.path / name).write_text(block, encoding="utf-8")
    tests = (pytester.path / "test_main.py").read_text().count("def test_")
    pytester.runpytest_subprocess("-p", "no:cacheprovider").assert_outcomes(passed=tests)


def test_the_tutorials_first_application_counts_prime_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    first = next(block for block in blocks(DOCS / "tutorial.md", "python") if file_name(block) == "main.py")
    names: dict[str, Any] = {"__name__": "main"}
    exec(compile(first, "main.py", "exec"), names)
    names["range"] = lambda *limits: range(*(20 if limit == 2_000_000 else limit for limit in limits))
    with TaskRunner(names["app"]).opened() as runner:
        assert runner.run("/primes").text == "There are 8 prime numbers below 2,000,000."
