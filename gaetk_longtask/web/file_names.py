"""Encodes the name of a download, so that the server can send it and browsers read it."""

from __future__ import annotations

import re
from unicodedata import normalize
from urllib.parse import quote

from werkzeug.datastructures import Headers

_HEADER = "Content-Disposition"
_ASCII = re.compile(r"[ -~]*")
_CONTROL_CHARACTER = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_FILE_NAME = re.compile(r'; *filename=(?:"((?:[^"\\]|\\.)*)"|([^;]*))', re.IGNORECASE)


def encode_file_name(headers: Headers) -> None:
    """Encode a file name with other characters than ASCII, as RFC 6266 says; a header can't hold them.

    Werkzeug does not, unless the response is that of `send_file`. Its test client shows such a header, but gunicorn
    does not send the response.
    """
    header = headers.get(_HEADER, "")
    found = _FILE_NAME.search(header)
    if found is None or _ASCII.fullmatch(header):
        return
    quoted, plain = found.groups()
    name = plain.strip() if quoted is None else re.sub(r"\\(.)", r"\1", quoted)
    name = _CONTROL_CHARACTER.sub(" ", name)
    headers.set(
        _HEADER,
        header[: found.start()],
        filename=normalize("NFKD", name).encode("ascii", "ignore").decode(),  # for old browsers
        **{"filename*": f"UTF-8''{quote(name, safe='', errors='replace')}"},
    )
