"""What a CSV file of invoices says: every row read and checked, or rejected with the reason; pure."""

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

#: Every column with what its values look like. A price and a quantity of that many digits multiply and add up
#: exactly in Decimal's 28; a country that starts with a letter is no formula to the spreadsheet that opens a report.
_RULES = {
    "InvoiceNo": (re.compile(r"[A-Z]?[0-9]{1,12}"), "digits, perhaps after a capital letter"),
    "StockCode": (re.compile(r"\S(.{0,38}\S)?"), "1 to 40 characters without spaces around them"),
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
    """The file as a whole is not a CSV file of invoices; the message says what to do about it."""


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
    #: Counts rows that are equal in all of this: a shop may well sell the same item twice.
    occurrence: int = 1

    @property
    def digest(self) -> str:
        """Differs where what the row says differs, wherever in a file it stands."""
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
        """The same for the same row in whatever file and order, so that importing twice changes nothing."""
        return f"{self.invoice_no}.{self.digest}.{self.occurrence}"


@dataclass(frozen=True, kw_only=True, slots=True)
class RejectedRow:
    """A row that can't be stored."""

    #: Line of the file, the header being line 1.
    line_number: int
    #: Written for the person who corrects the file.
    reason: str


def split_rows(data: bytes) -> list[str]:
    """Return the rows below the header, still as text.

    Raises `UnreadableFileError` for whatever is not UTF-8 text under our header.
    """
    if not data.strip():
        raise UnreadableFileError(f"The file is empty. {_REMEDY}")
    header, *rows = [line.rstrip("\n") for line in io.StringIO(_decode(data), newline=None)]
    if header.rstrip() != _HEADER:
        raise UnreadableFileError(
            f"The first line is {_excerpt(header)}, but it must name the columns, separated by commas: {_HEADER}. "
            "Correct the first line, or choose another file."
        )
    if not any(rows):
        raise UnreadableFileError("The file has no rows below its header. Choose a file that holds invoice lines.")
    return rows


def read_rows(rows: Sequence[str]) -> Iterator[InvoiceRow | RejectedRow]:
    """Yield something for every row but the blank ones, in the order of the file.

    A field can't hold a line break, so every line is read on its own: a stray quotation mark spoils one row only.
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
        raise UnreadableFileError(f"The file is not text; it may be a workbook or an archive. {_REMEDY}")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as exc:
        line_number = data.count(b"\n", 0, exc.start) + 1
        raise UnreadableFileError(f"Line {line_number} of the file is not UTF-8 text. {_REMEDY}") from exc


def _read_row(text: str, line_number: int) -> InvoiceRow:
    if _CONTROL_CHARACTER.search(text):
        raise ValueError("There is a control character in the row")
    try:
        fields = next(csv.reader([text], strict=True))
    except csv.Error as exc:
        raise ValueError(f"The row is no CSV, check its quotation marks ({exc})") from exc
    if len(fields) != len(COLUMNS):
        raise ValueError(f"{len(COLUMNS)} columns are needed, not {len(fields)}")
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
