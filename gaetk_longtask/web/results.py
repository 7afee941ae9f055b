"""Builds the response with a result if the handler does not override `display_result`."""

from __future__ import annotations

import base64
from datetime import time, timedelta, tzinfo
from math import isfinite
from typing import Any

from flask import Response, jsonify

from gaetk_longtask.payloads.yielded import YieldedResult


def response_with(result: Any) -> Response:
    """Return text as HTML in which no script can run, `bytes` as a download, anything else as JSON."""
    match result:
        case str() | YieldedResult(is_text=True):
            return Response(result, mimetype="text/html", headers={"Content-Security-Policy": "sandbox"})
        case bytes() | YieldedResult():
            headers = {"Content-Disposition": "attachment"}
            return Response(result, mimetype="application/octet-stream", headers=headers)
        case _:
            return jsonify(jsonable(result))


def jsonable(value: Any) -> Any:
    """Convert a result to what Flask's JSON accepts: sets become lists, keys strings, bytes Base64."""
    match value:
        case dict():
            return {str(key): jsonable(one) for key, one in value.items()}
        case list() | tuple() | set() | frozenset():
            return [jsonable(one) for one in value]
        case bytes():
            return base64.b64encode(value).decode()
        case float() if not isfinite(value):
            return None
        case time():
            return value.isoformat()
        case timedelta():
            return value.total_seconds()
        case tzinfo():
            return str(value)
        case _:
            return value
