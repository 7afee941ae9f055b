"""docs/upload.md: files as people have them."""

from __future__ import annotations

from io import BytesIO
from typing import Any

import pytest
from flask import abort, render_template_string

from tests.integration.examples.conftest import Example
from tests.pages import blocks, page_named
from tests.support import JSON

UPLOAD = "upload.md"
READABLE = {
    "commas": b"40,a\n2,b\n",
    "semicolons": b"40;a\n2;b\n",
    "semicolons and decimal commas": b"40;1,50\n2;0,99\n",
    "a byte order mark": b"\xef\xbb\xbf40,a\n2,b\n",
    "a byte order mark and a header": "\ufeffMenge;Größe\n40;a\n2;b\n".encode(),
    "a byte order mark alone in its line": b"\xef\xbb\xbf\n40,a\n2,b\n",
    "a header": b"amount,name\n40,a\n2,b\n",
    "a quoted header": b'"amount","name"\n"40","a"\n"2","b"\n',
    "empty lines": b"\n40\n\n\n2\n\n",
    "lines of blanks": b"40\n   \n2\n\t\n",
    "lines of separators": b"40,a\n,\n2,b\n,,\n",
    "empty lines before a header": b"\n\namount;name\n40;a\n2;b\n",
    "line ends of Windows": b"40,a\r\n2,b\r\n\r\n",
    "line ends of old Macs": b"40,a\r2,b\r",
    "no line end": b"42",
    "a line break within a field": b'40,"a\nb"\n2,c\n',
    "other letters": "40,Müller\n2,Łódź\n".encode(),
    "letters that some editors take for line ends": "40,a\u2028b\n2,c\x85d\n".encode(),
    "blanks around the numbers": b" 40 , a\n 2, b\n",
    "signs": b"-40\n+82\n",
}
UNREADABLE = {
    "latin-1": "40,Müller\n".encode("latin-1"),
    "UTF-16": "40,a\n".encode("utf-16"),
    "a workbook": b"PK\x03\x04\x14\x00\x06\x00\x08\x00\xff\xfe",
    "a PDF": b"%PDF-1.7 \xe2\xe3\xcf\xd3",
    "nothing": b"",
    "a byte order mark only": b"\xef\xbb\xbf",
    "blank lines only": b"\n \r\n\n",
    "separators only": b",,\n,\n",
    "a field without an end": b'"' + b"40\n" * 100_000,
}


def form(data: bytes | None, name: str = "numbers.csv") -> dict[str, Any]:
    """Return the test client's arguments for a form with a file, or without one."""
    return {"method": "POST", "data": {} if data is None else {"file": (BytesIO(data), name)}}


@pytest.mark.calls("upload.md", "index", "rows_in", "Sum.execute_task")
def test_the_form_sends_what_the_task_adds_up(example: Example) -> None:
    runner, _ = example(UPLOAD)
    page = runner.client.get("/").text
    assert all(
        part in page for part in ('action="/sum"', 'method="post"', 'enctype="multipart/form-data"', 'name="file"')
    )
    assert runner.run("/sum", **form(b"40,a\n2,b\n")).json == {"sum": 42}


@pytest.mark.parametrize("data", READABLE.values(), ids=READABLE)
def test_a_file_is_read_as_a_spreadsheet_saves_it(example: Example, data: bytes) -> None:
    runner, _ = example(UPLOAD)
    assert runner.run("/sum", **form(data)).json == {"sum": 42}


def test_a_file_with_a_header_and_no_rows_adds_up_to_nothing(example: Example) -> None:
    runner, _ = example(UPLOAD)
    assert runner.run("/sum", **form(b"amount,name\n")).json == {"sum": 0}


@pytest.mark.parametrize("data", [*UNREADABLE.values(), None], ids=[*UNREADABLE, "no file"])
def test_a_file_that_is_no_csv_file_is_refused_at_once_and_with_a_message(example: Example, data: bytes | None) -> None:
    runner, _ = example(UPLOAD)
    task = runner.start("/sum", **form(data))
    runner.deliver()
    assert task.document["error"] == "Please choose a CSV file in UTF-8."
    assert "Please choose a CSV file in UTF-8." in task.page().text


@pytest.mark.parametrize(
    ("data", "cell"),
    [
        (b"40\nmany\n", "many"),
        (b"amount\n40\n2.50\n", "2.50"),
        (b"Menge;Preis\n40;1\n2,5;1\n", "2,5"),
        ("40\nzwölf\n".encode(), "zwölf"),
        (b"40\t2\n40\t2\n", "40\t2"),
        (b"40\n" + b"9" * 5_000, "9" * 5_000),
        (b"40\n" + b"x" * 100_000, "x" * 100_000),
    ],
)
def test_what_is_no_number_is_shown(example: Example, data: bytes, cell: str) -> None:
    runner, _ = example(UPLOAD)
    task = runner.start("/sum", **form(data))
    runner.deliver()
    assert task.document["error"] == f"“{cell[:40]}” is not a whole number."


def test_several_files_and_the_name_alone_are_refused(example: Example) -> None:
    runner, _ = example(UPLOAD)
    two = {"file": [(BytesIO(b"1\n"), "a.csv"), (BytesIO(b"2\n"), "b.csv")]}
    for data in (two, {"file": "numbers.csv"}):
        task = runner.start("/sum", method="POST", data=data)
        runner.deliver()
        assert task.document["error"] == "Please choose a CSV file in UTF-8."


def test_a_program_gets_the_status_document(example: Example) -> None:
    runner, _ = example(UPLOAD)
    answer = runner.client.post(
        "/sum", data={"file": (BytesIO(b"42\n"), "n.csv")}, headers={"Accept": "application/json"}
    )
    assert (answer.status_code, answer.json["status"]) == (202, "ready")
    runner.deliver_all()
    document = runner.client.get(answer.json["links"]["self"], headers={"Accept": "application/json"}).json
    assert runner.client.get(document["links"]["result"]).json == {"sum": 42}


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        ("n.csv", "n.csv"),
        ("Umsätze März.csv", "Umsätze März.csv"),
        ("Łódź.csv", "Łódź.csv"),
        ("c:/data/n.csv", "n.csv"),
        ("c:\\\\data\\\\n.csv", "n.csv"),  # each backslash is escaped
        ("../../n.csv", "n.csv"),
        ("a %22b%22.csv", 'a "b".csv'),  # a browser's encoding of quotation marks
        ("", ""),
    ],
)
@pytest.mark.calls("upload.md", "NamedSum.prepare_task", "NamedSum.execute_task")
def test_the_name_of_a_file_is_kept_without_its_folders(example: Example, sent: str, kept: str) -> None:
    runner, _ = example(UPLOAD, named="NamedSum")
    assert runner.run("/named", **form(b"42\n", sent)).json == {"sum": 42, "name": kept}


def test_without_a_file_there_is_no_name_and_a_message(example: Example) -> None:
    runner, _ = example(UPLOAD, named="NamedSum")
    task = runner.start("/named", **form(None))
    runner.deliver()
    assert task.document["error"] == "Please choose a CSV file in UTF-8."


def test_a_request_may_be_refused_before_there_is_a_task(example: Example) -> None:
    runner, names = example(UPLOAD)

    class Strict(names["Sum"]):  # type: ignore[misc]  # made by the page
        def prepare_task(self, **kwargs: Any) -> Any:
            return super().prepare_task(**kwargs) if kwargs else abort(400, "Please choose a CSV file.")

    runner.app.add_url_rule("/strict", view_func=Strict.as_view("strict"))
    answer = runner.client.post("/strict")
    assert (answer.status_code, "Please choose a CSV file." in answer.text) == (400, True)
    assert not runner.queue.tasks


def test_the_form_with_a_progress_bar_starts_the_task_as_the_script_does(example: Example) -> None:
    runner, _ = example(UPLOAD)
    [source] = blocks(page_named(UPLOAD), "html+jinja")
    with runner.app.test_request_context():
        page = render_template_string(source)
    assert f'data-longtask-limit="{runner.app.config["MAX_CONTENT_LENGTH"]}"' in page
    with runner.client.get("/_longtask/static/longtask-upload.js") as script:
        assert script.status_code == 200
    answer = runner.client.post("/sum", data={"file": (BytesIO(b"42\n"), "n.csv")}, headers=JSON)
    assert answer.status_code == 202
    assert "_longtaskjob=query" in answer.headers["Location"]
