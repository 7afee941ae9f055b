"""The sample application on the local stack, as a visitor uses it."""

from __future__ import annotations

import csv
import re
import signal
import socket
import threading
from collections import defaultdict
from decimal import Decimal

from gaetk_longtask.pytest_plugin import LocalStack
from sample_app.importing import BUNDLED_FILE
from sample_app.invoice_file import COLUMNS
from tests.programs import Program

from .conftest import Answer, Visitor

HEADER = ",".join(COLUMNS)
# In another month, so that the report of the bundled invoices does not change.
GOOD_ROW = "700001,22423,CAKESTAND,2,2011-03-07T10:15,12.75,17850,France"


def test_the_bundled_file_is_imported_whole(visitor: Visitor, bundled_import: Answer) -> None:
    assert bundled_import.status == 200
    assert re.search(r"imported</dt><dd>10,000<", bundled_import.text)
    assert re.search(r"skipped</dt><dd>0<", bundled_import.text)
    assert "more than <strong>1,000</strong> invoice lines stored" in visitor.get("/").text
    assert "data-longtask-upload " in visitor.get("/").text
    assert visitor.get("/_longtask/static/longtask-upload.js").status == 200


def test_importing_the_file_again_changes_nothing(visitor: Visitor, report: Answer) -> None:
    again = visitor.collect(visitor.upload("/import", BUNDLED_FILE.read_bytes())).text

    assert "10,000 rows read" in again
    assert visitor.collect(visitor.get("/intrastat?month=2010-12")).body == report.body


def test_the_report_is_right_for_every_country_and_day(report: Answer) -> None:
    rows = list(csv.DictReader(report.text.splitlines()))
    reported = {(row["Date"], row["Country"]): (int(row["Quantity"]), Decimal(row["ValueGBP"])) for row in rows}
    assert len(reported) == len(rows)
    assert reported == straight_from_the_file()


def straight_from_the_file() -> dict[tuple[str, str], tuple[int, Decimal]]:
    """Return the totals, calculated without the application's code."""
    totals: defaultdict[tuple[str, str], tuple[int, Decimal]] = defaultdict(lambda: (0, Decimal()))
    with BUNDLED_FILE.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            key = row["InvoiceDate"][:10], row["Country"]
            quantity, value = totals[key]
            sold = int(row["Quantity"])
            totals[key] = quantity + sold, value + sold * Decimal(row["UnitPrice"])
    return dict(totals)


def test_the_report_is_a_csv_download(report: Answer) -> None:
    assert report.headers["Content-Type"] == "text/csv; charset=utf-8"
    assert report.headers["Content-Disposition"] == "attachment; filename=intrastat-2010-12.csv"


def test_the_example_of_the_readme_counts(visitor: Visitor) -> None:
    assert "Counted 1 seconds." in visitor.collect(visitor.get("/count/1")).text


def test_an_upload_is_redirected_so_that_the_file_is_not_sent_twice(visitor: Visitor) -> None:
    started = visitor.upload("/import", f"{HEADER}\n{GOOD_ROW}\n".encode())

    assert started.status == 303
    assert visitor.follow(started)["status"] == "done"


def test_operators_of_the_local_stack_see_all_tasks_within_the_pages_of_the_application(
    visitor: Visitor, bundled_import: Answer
) -> None:
    assert '<a href="/_longtask/tasks">All tasks</a>' in visitor.get("/").text
    overview = visitor.get("/_longtask/tasks").text
    assert f"Import of {BUNDLED_FILE.name}" in overview
    assert 'aria-label="Invoices"' in overview


def test_a_program_gets_the_status_document_at_once(visitor: Visitor) -> None:
    started = visitor.get("/count/0", accept="application/json")

    assert started.status == 202
    assert started.json["links"]["self"]
    assert visitor.follow(started)["status"] == "done"


def test_every_page_keeps_to_the_content_security_policy(visitor: Visitor, bundled_import: Answer) -> None:
    started = visitor.get("/count/1")
    pages = [visitor.get("/"), visitor.get(started.location), bundled_import]

    for page in pages:
        assert page.headers["Content-Security-Policy"].startswith("default-src 'none';")
        assert not re.search(r"<style|\sstyle=|<script(?![^>]*\ssrc=)|\son[a-z]+=", page.text)


def addresses(output: str) -> set[int]:
    """Return the ports in the output of the stack."""
    return {int(port) for port in re.findall(r"127\.0\.0\.1:(\d+)", output)}


def is_open(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


def test_the_demo_ends_after_the_report_and_leaves_nothing_running() -> None:
    with Program("sample_app.demo", "--once", "--port", "0") as demo:
        demo.wait_for("Creating the INTRASTAT report")
        code = demo.wait(seconds=150)

    assert code == 0, demo.output
    assert re.search(r"^  100 %  done$", demo.output, re.MULTILINE)
    table = [line.split() for line in demo.lines if re.match(r"  2010-12-0\d", line)]
    expected = straight_from_the_file()
    assert [(line[0], " ".join(line[1:-2])) for line in table] == sorted(expected)
    quantity, value = (sum(total[column] for total in expected.values()) for column in (0, 1))
    assert ["Total", f"{quantity:,}", f"{value:,}"] in [line.split() for line in demo.lines]
    assert len(addresses(demo.output)) >= 3
    assert not any(is_open(port) for port in addresses(demo.output))


def test_the_stack_of_a_test_run_does_nothing_by_itself(stack: LocalStack) -> None:
    assert [thread.name for thread in threading.enumerate() if thread.name == "cron"] == []


def test_the_demo_keeps_the_site_and_its_log_running_until_ctrl_c() -> None:
    with Program("sample_app.demo", "--port", "0") as demo:
        site = demo.wait_for("The site is still running at ", seconds=150)
        demo.wait_for("Press Ctrl-C")
        assert Visitor(site).get("/").status == 200
        Visitor(site).get("/count/0")
        demo.wait_for("  app        | INFO longtask.finished ")

        demo.process.send_signal(signal.SIGINT)

        assert demo.wait(seconds=40) == 0
    assert not any(is_open(port) for port in addresses(demo.output))


def test_the_demo_says_why_it_failed() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with Program("sample_app.demo", "--once", "--port", str(port)) as demo:
            code = demo.wait(seconds=60)

    assert code == 1
    assert f"port {port} is not free" in demo.output
    assert "The demo failed" in demo.output
