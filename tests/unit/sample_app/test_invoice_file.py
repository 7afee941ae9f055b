"""Reading a CSV file of invoices."""

from __future__ import annotations

import csv
import io
from datetime import datetime
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sample_app.importing import BUNDLED_FILE
from sample_app.invoice_file import COLUMNS, InvoiceRow, RejectedRow, UnreadableFileError, read_rows, split_rows

HEADER = ",".join(COLUMNS)
ROW = "536365,85123A,LANTERN,6,2010-12-01T08:26,2.55,17850,United Kingdom"


def read(*rows: str) -> list[InvoiceRow | RejectedRow]:
    return list(read_rows(split_rows("\n".join([HEADER, *rows]).encode())))


def read_good(*rows: str) -> list[InvoiceRow]:
    return [row for row in read(*rows) if isinstance(row, InvoiceRow)]


def row_with(**fields: str) -> str:
    """Return a valid row, except for the given fields."""
    values = dict(zip(COLUMNS, ROW.split(","), strict=True)) | fields
    text = io.StringIO()
    csv.writer(text, lineterminator="").writerow(values.values())
    return text.getvalue()


def test_a_row_keeps_every_field_exactly() -> None:
    (row,) = read_good(ROW)

    assert row == InvoiceRow(
        line_number=2,
        invoice_no="536365",
        stock_code="85123A",
        description="LANTERN",
        quantity=6,
        invoiced_at=datetime(2010, 12, 1, 8, 26),  # noqa: DTZ001  # local time of the shop
        unit_price=Decimal("2.55"),
        customer_id="17850",
        country="United Kingdom",
    )


def test_every_row_of_the_bundled_file_is_in_order() -> None:
    rows = list(read_rows(split_rows(BUNDLED_FILE.read_bytes())))

    assert len(rows) == 10_000
    assert all(isinstance(row, InvoiceRow) for row in rows)


def test_rows_of_the_bundled_file_that_repeat_each_other_have_keys_of_their_own() -> None:
    rows = [row for row in read_rows(split_rows(BUNDLED_FILE.read_bytes())) if isinstance(row, InvoiceRow)]

    assert sum(row.occurrence > 1 for row in rows) == 196
    assert len({row.key_name for row in rows}) == 10_000


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"InvoiceNo": ""}, "InvoiceNo must be digits, optionally after a capital letter, not “”"),
        ({"InvoiceNo": "12/34"}, "not “12/34”"),
        ({"StockCode": " "}, "StockCode must be"),
        ({"Description": "x" * 401}, "Description must be at most 400 characters"),
        ({"Quantity": "1.5"}, "Quantity must be a whole number, not “1.5”"),
        ({"Quantity": "1234567890"}, "Quantity must be a whole number"),
        ({"Quantity": "٣"}, "Quantity must be a whole number"),
        ({"InvoiceDate": "01/12/2010"}, "InvoiceDate must be a time such as 2010-12-01T08:26"),
        ({"InvoiceDate": "2010-02-30T08:26"}, "InvoiceDate “2010-02-30T08:26” does not exist"),
        ({"UnitPrice": "2,55"}, "UnitPrice must be an amount such as 2.55, not “2,55”"),
        ({"UnitPrice": "NaN"}, "UnitPrice must be"),
        ({"UnitPrice": "1E+9999"}, "UnitPrice must be"),
        ({"CustomerID": "Smith"}, "CustomerID must be digits or nothing"),
        ({"Country": ""}, "Country must be"),
        ({"Country": '=HYPERLINK("x")'}, "Country must be"),
        ({"Description": "bell \a"}, "The row contains a control character"),
        ({"Quantity": "one", "Country": "1"}, "Quantity must be a whole number, not “one”; Country must be"),
    ],
)
def test_a_wrong_field_rejects_the_row_and_says_why(fields: dict[str, str], reason: str) -> None:
    (row,) = read(row_with(**fields))

    assert isinstance(row, RejectedRow)
    assert reason in row.reason


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("536365,85123A", "The row must have 8 columns, not 2"),
        (f"{ROW},more", "The row must have 8 columns, not 9"),
        ('536365,"85123A', "check its quotation marks"),
        ('536365,"85123A"x,', "check its quotation marks"),
    ],
)
def test_a_row_that_is_not_a_row_is_rejected(text: str, reason: str) -> None:
    (row,) = read(text)

    assert isinstance(row, RejectedRow)
    assert reason in row.reason


def test_a_stray_quotation_mark_spoils_its_own_row_only() -> None:
    rows = read(ROW, '536365,"85123A,LANTERN', ROW)

    assert [type(row) for row in rows] == [InvoiceRow, RejectedRow, InvoiceRow]


def test_rejected_rows_carry_the_line_that_an_editor_shows() -> None:
    rows = read(ROW, "", "nonsense", ROW, "nonsense")

    assert [row.line_number for row in rows if isinstance(row, RejectedRow)] == [4, 6]


def test_a_quoted_comma_does_not_divide_a_field() -> None:
    (row,) = read_good(row_with(Description='BOX, "LARGE"'))

    assert row.description == 'BOX, "LARGE"'


@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r"])
def test_every_kind_of_line_end_is_read(line_end: str) -> None:
    assert len(split_rows(line_end.join([HEADER, ROW, ROW, ""]).encode())) == 2


def test_a_byte_order_mark_is_no_part_of_the_header() -> None:
    assert split_rows(f"{HEADER}\n{ROW}".encode("utf-8-sig")) == [ROW]


@pytest.mark.parametrize(
    "header",
    ['"' + HEADER.replace(",", '","') + '"', HEADER.replace(",", ", "), f"{HEADER} ", f'"InvoiceNo"{HEADER[9:]}'],
)
def test_a_header_may_have_quotation_marks_and_blanks(header: str) -> None:
    assert split_rows(f"{header}\n{ROW}".encode()) == [ROW]


@pytest.mark.parametrize("mark", ["", "\ufeff"])
@pytest.mark.parametrize("description", ["LANTERN", "Größe Łódź", "BOX, LARGE", "BOX; LARGE", 'BOX "LARGE"', ""])
def test_semicolons_may_separate_the_fields(mark: str, description: str) -> None:
    written = io.StringIO()
    writer = csv.writer(written, delimiter=";")
    writer.writerow(COLUMNS)
    writer.writerow([*ROW.split(",")[:2], description, "6", "2010-12-01T08:26", "2,55", "17850", "Österreich"])
    file = f"{mark}{written.getvalue()}\r\n\r\n".encode()
    (row,) = read_rows(split_rows(file))
    (same,) = read_good(row_with(Description=description, Country="Österreich"))
    assert isinstance(row, InvoiceRow)
    assert row.key_name == same.key_name


def test_what_is_no_row_between_semicolons_is_rejected_with_its_line() -> None:
    rows = [ROW.replace(",", ";"), "", "x;y", '536365;"85123A', ROW.replace(",", ";")]
    read = list(read_rows(split_rows("\n".join([HEADER.replace(",", ";"), *rows]).encode())))
    assert [row.line_number for row in read if isinstance(row, RejectedRow)] == [4, 5]
    assert sum(isinstance(row, InvoiceRow) for row in read) == 2


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "The file is empty"),
        (b"\n \n", "The file is empty"),
        (b"PK\x03\x04\x14\x00\x06\x00workbook", "may be a workbook"),
        (f"{HEADER}\n{ROW}".encode("utf-16"), "is not a text file"),
        (f"{HEADER}\n{ROW}\n{row_with(Description='CAFÉ')}".encode("cp1252"), "Line 3 of the file is not UTF-8"),
        (f"{HEADER.replace(',', ';')}\n".encode(), "no rows below its header"),
        (f"{HEADER.replace(',', '|')}\n{ROW.replace(',', '|')}".encode(), "separated by commas"),
        (f"\n{HEADER}\n{ROW}".encode(), "The first line is “”"),
        (b"x" * 200_000, "separated by commas"),
        (b"\xef\xbb\xbf", "The file is empty"),
        (b"\xef\xbb\xbf\r\n", "The file is empty"),
        (b"<!doctype html>\n<title>Sign in</title>", "“<!doctype html>”"),
        (HEADER.encode(), "no rows below its header"),
        (f"{HEADER}\n\n\n".encode(), "no rows below its header"),
        (f"\ufeff{HEADER}\r\n \r\n".encode(), "no rows below its header"),
    ],
)
def test_a_file_that_is_no_csv_file_of_invoices_is_refused_as_a_whole(data: bytes, message: str) -> None:
    with pytest.raises(UnreadableFileError, match=message):
        split_rows(data)


def test_prices_that_are_equal_have_equal_keys() -> None:
    short, long = read_good(row_with(UnitPrice="2.5")), read_good(row_with(UnitPrice="2.50"))

    assert short[0].key_name == long[0].key_name


def test_equal_prices_in_one_file_are_told_apart() -> None:
    first, second = read_good(row_with(UnitPrice="2.5"), row_with(UnitPrice="2.50"))

    assert first.key_name != second.key_name


# Few values in few fields, so that rows repeat.
ROWS = st.builds(
    row_with,
    InvoiceNo=st.sampled_from(["536365", "C536365"]),
    StockCode=st.sampled_from(["1", "11"]),
    Description=st.sampled_from(["", "1", 'A, "B"']),
    Quantity=st.sampled_from(["1", "-1"]),
    CustomerID=st.sampled_from(["", "1"]),
)


@given(st.lists(ROWS, min_size=1))
def test_no_two_rows_of_a_file_share_a_key(rows: list[str]) -> None:
    assert len({row.key_name for row in read_good(*rows)}) == len(rows)


@given(st.lists(ROWS, min_size=1).flatmap(lambda rows: st.tuples(st.just(rows), st.permutations(rows))))
def test_the_order_of_the_rows_does_not_change_the_keys(orders: tuple[list[str], list[str]]) -> None:
    first, second = ({row.key_name for row in read_good(*rows)} for rows in orders)

    assert first == second


@given(st.lists(ROWS, min_size=2).flatmap(lambda rows: st.tuples(st.just(rows), st.integers(1, len(rows) - 1))))
def test_a_part_of_a_file_has_keys_of_the_whole(rows_and_cut: tuple[list[str], int]) -> None:
    rows, cut = rows_and_cut
    whole = {row.key_name for row in read_good(*rows)}

    assert {row.key_name for row in read_good(*rows[cut:])} <= whole


@given(st.text())
def test_whatever_a_line_holds_it_is_read_or_rejected(text: str) -> None:
    line = text.replace("\n", "").replace("\r", "")

    assert len(list(read_rows([line]))) == (1 if line.strip() else 0)


@given(st.binary())
def test_whatever_a_file_holds_it_is_read_or_refused(data: bytes) -> None:
    with pytest.raises(UnreadableFileError):
        split_rows(data)
