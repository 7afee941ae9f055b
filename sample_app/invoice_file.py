"""The CSV reader. It checks every row, and rejects invalid rows with a reason. It has no side effects."""

from __future__ import annotations

import csv
import hashlib
import io
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal

#: The format of each column. Prices and quantities are short enough for exact sums in Decimal's 28 digits.
#: A country has to start with a letter, so that a spreadsheet does not read it as a formula.
_RULES = {
    "InvoiceNo": (re.compile(r"[A-Z]?[0-9]{1,12}"), "digits, optionally after a capital letter"),
    "StockCode": (re.compile(r"\S(.{0,38}\S)?"), "1 to 40 characters without spaces at either end"),
    "Description": (re.compile(r".{0,400}"), "at most 400 characters"),
    "Quantity": (re.compile(r"-?[0-9]{1,9}"), "a whole number"),
    "InvoiceDate": (re.compile(r"[0-9]{4}(-[0-9]{2}){2}T[0-9]{2}:[0-9]{2}"), "a time such as 2010-12-01T08:26"),
    "UnitPrice": (re.compile(r"-?[0-9]{1,7}(\.[0-9]{1,4})?"), "an amount such as 2.55"),
    "CustomerID": (re.compile(r"[0-9]{0,12}"), "digits or nothing"),
    "Country": (re.compile(r"[^\W\d_].{0,59}"), "the name of a country"),
}
COLUMNS = tuple(_RULES)

_HEADER = ",".join(COLUMNS)
_CONTROL_CHARACTER = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_REMEDY = "In a spreadsheet, save the table as “CSV UTF-8 (comma separated)” and import that file."


class UnreadableFileError(ValueError):
    """The file is not a CSV file of invoices. The message says what to do about it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class InvoiceRow:
    """One line of an invoice."""

    #: Line of the file, the header being line 1.
    line_number: int
    invoice_no: str
    stock_code: str
    description: str
    quantity: int
    #: Local time of the shop, to the minute.
    invoiced_at: datetime
    #: Pounds sterling.
    unit_price: Decimal
    customer_id: str
    country: str
    #: 1 for the first of several identical rows, 2 for the second. A shop may sell the same item twice.
    occurrence: int = 1

    @property
    def digest(self) -> str:
        """A hash of the row's content. It does not depend on the row's position in the file."""
        said = (
            self.invoice_no,
            self.stock_code,
            self.description,
            str(self.quantity),
            self.invoiced_at.isoformat(),
            str(self.unit_price.normalize()),
            self.customer_id,
            self.country,
        )
        return hashlib.sha256("\n".join(said).encode()).hexdigest()[:32]

    @property
    def key_name(self) -> str:
        """The key for Datastore. The same row has the same key in every file, so importing twice changes nothing."""
        return f"{self.invoice_no}.{self.digest}.{self.occurrence}"


@dataclass(frozen=True, kw_only=True, slots=True)
class RejectedRow:
    """A row that can't be stored."""

    #: Line of the file, the header being line 1.
    line_number: int
    #: A text for the person who corrects the file.
    reason: str


def split_rows(data: bytes) -> list[str]:
    """Return the rows below the header as text, with commas between the fields.

    In some countries, spreadsheets separate fields by semicolons and write a price as 2,55. Such rows are converted.

    Raises `UnreadableFileError` if the file is not UTF-8 text with the right header.
    """
    text = _decode(data)
    if not text.strip():
        raise UnreadableFileError(f"The file is empty. {_REMEDY}")
    header, *rows = [line.rstrip("\n") for line in io.StringIO(text, newline=None)]
    separator = _separator(header)
    if separator is None:
        raise UnreadableFileError(
            f"The first line is {_excerpt(header)}, but it must list the columns, separated by commas: {_HEADER}. "
            "Correct this line, or choose another file."
        )
    if not any(row.strip() for row in rows):
        raise UnreadableFileError("The file has no rows below its header. Choose a file that contains invoice lines.")
    return rows if separator == "," else [_with_commas(row, separator) for row in rows]


def read_rows(rows: Sequence[str]) -> Iterator[InvoiceRow | RejectedRow]:
    """Yield a valid or a rejected row for each line that is not blank, in the order of the file.

    Fields can't contain line breaks. So each line is read on its own, and a stray quotation mark affects only one row.
    """
    occurrences: Counter[str] = Counter()
    for line_number, text in enumerate(rows, start=2):
        if not text.strip():
            continue
        try:
            row = _read_row(text, line_number)
        except ValueError as exc:
            yield RejectedRow(line_number=line_number, reason=str(exc))
            continue
        occurrences[row.digest] += 1
        yield replace(row, occurrence=occurrences[row.digest])


def _decode(data: bytes) -> str:
    if b"\0" in data:
        raise UnreadableFileError(f"The file is not a text file; it may be a workbook or an archive. {_REMEDY}")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as exc:
        line_number = data.count(b"\n", 0, exc.start) + 1
        raise UnreadableFileError(f"Line {line_number} of the file is not UTF-8 text. {_REMEDY}") from exc


def _separator(header: str) -> str | None:
    """Return what separates the columns in the header, or None if it does not list the right ones."""
    for separator in ",;":
        try:
            names = next(csv.reader([header], delimiter=separator), [])
        except csv.Error:  # it is too long
            return None
        if tuple(name.strip() for name in names) == COLUMNS:
            return separator
    return None


def _with_commas(row: str, separator: str) -> str:
    """Return a row with commas between its fields. What is no row stays as it is, and will be rejected."""
    try:
        fields = next(csv.reader([row], delimiter=separator, strict=True), [])
    except csv.Error:
        return row
    if len(fields) == len(COLUMNS):
        price = COLUMNS.index("UnitPrice")
        fields[price] = fields[price].replace(",", ".")
    text = io.StringIO()
    csv.writer(text, lineterminator="").writerow(fields)
    return text.getvalue()


def _read_row(text: str, line_number: int) -> InvoiceRow:
    if _CONTROL_CHARACTER.search(text):
        raise ValueError("The row contains a control character")
    try:
        fields = next(csv.reader([text], strict=True))
    except csv.Error as exc:
        raise ValueError(f"The row is not valid CSV; check its quotation marks ({exc})") from exc
    if len(fields) != len(COLUMNS):
        raise ValueError(f"The row must have {len(COLUMNS)} columns, not {len(fields)}")
    problems = [
        f"{column} must be {expected}, not {_excerpt(value)}"
        for (column, (pattern, expected)), value in zip(_RULES.items(), fields, strict=True)
        if not pattern.fullmatch(value)
    ]
    if problems:
        raise ValueError("; ".join(problems))
    invoice_no, stock_code, description, quantity, invoiced_at, unit_price, customer_id, country = fields
    return InvoiceRow(
        line_number=line_number,
        invoice_no=invoice_no,
        stock_code=stock_code,
        description=description,
        quantity=int(quantity),
        invoiced_at=_time(invoiced_at),
        unit_price=Decimal(unit_price),
        customer_id=customer_id,
        country=country,
    )


def _time(text: str) -> datetime:
    try:
        return datetime.fromisoformat(text)
    except ValueError as exc:
        raise ValueError(f"InvoiceDate {_excerpt(text)} does not exist") from exc


def _excerpt(text: str) -> str:
    return f"“{text}”" if len(text) <= 60 else f"“{text[:60]}…”"
