"""Headers of responses: those that protect our pages, added after every hook of the application; names of downloads."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self
from unicodedata import normalize
from urllib.parse import quote

from flask import Response, request
from werkzeug.datastructures import Headers

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

_KEY = "gaetk_longtask.protection"  #: the key of a request's `Protection` in the WSGI environment
_POLICY = "content-security-policy"
_FRAMES = "x-frame-options"
_SANDBOX = ("Content-Security-Policy", "sandbox")

_DISPOSITION = "Content-Disposition"
_ASCII = re.compile(r"[ -~]*")
_CONTROL_CHARACTER = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_NOT_IN_FILE_NAMES = re.compile(r'[\x00-\x1f\x7f-\x9f"*/:<>?\\|]')  #: on any operating system
_LONGEST_FILE_NAME = 100
_FILE_NAME = re.compile(r'; *filename=(?:"((?:[^"\\]|\\.)*)"|([^;]*))', re.IGNORECASE)


@dataclass(slots=True)
class Protection:
    """What the answer to one request needs. Set while the request is handled."""

    sandbox: bool = False  #: nothing in the document may run
    framing: bool = False  #: a page of another site must not frame it

    @classmethod
    def all(cls) -> Self:
        """Return a protection from everything."""
        return cls(sandbox=True, framing=True)

    def final(self, headers: list[tuple[str, str]]) -> list[tuple[str, str]]:
        """Return the headers with what is missing; browsers apply all policies, so ours can only restrict."""
        if not self.sandbox and not self.framing:
            return headers
        named = [(low, value) for name, value in headers if (low := name.lower()) in (_POLICY, _FRAMES)]
        added: list[tuple[str, str]] = []
        if self.sandbox and not any(name == _POLICY and _is_sandbox(value) for name, value in named):
            added.append(_SANDBOX)
        if self.framing and not any(_says_who_may_frame(name, value) for name, value in named):
            added += [("Content-Security-Policy", "frame-ancestors 'self'"), ("X-Frame-Options", "SAMEORIGIN")]
        return headers + added


class ProtectedApp:
    """A WSGI application whose answers get the headers that `protection` was told."""

    def __init__(self, app: WSGIApplication) -> None:
        self.app = app  # as Werkzeug's middleware name it

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Call the application; change only the list of headers."""
        asked = environ.setdefault(_KEY, Protection())

        def start(status: str, headers: list[tuple[str, str]], exc_info: Any = None, /) -> Any:
            final = asked.final(headers)
            return start_response(status, final) if exc_info is None else start_response(status, final, exc_info)

        return self.app(environ, start)


def protected_environ(protection: Protection) -> dict[str, Any]:
    """Return what a WSGI environment must contain so that any answer is protected; for a check of the application."""
    return {_KEY: protection}


def keep_out_of_frames() -> None:
    """Keep the answer to the current request out of the frames of other sites."""
    _current().framing = True


def keep_sandbox(response: Response) -> None:
    """Keep the sandbox of a response that has one, even if a hook of the application replaces its policy."""
    if any(_is_sandbox(value) for value in response.headers.getlist("Content-Security-Policy")):
        _current().sandbox = True


def sandboxed(response: Response) -> Response:
    """Forbid everything in a response that could run or submit."""
    response.headers.add(*_SANDBOX)
    return response


def attached(response: Response, title: str, extension: str) -> Response:
    """Make a response a download; its file is named after a title."""
    name = " ".join(_NOT_IN_FILE_NAMES.sub(" ", title).split())[:_LONGEST_FILE_NAME].strip(" .")
    response.headers.set(_DISPOSITION, "attachment", filename=f"{name or 'result'}{extension}")
    return response


def encode_file_name(headers: Headers) -> None:
    """Encode a file name with other characters than ASCII, as RFC 6266 says; a header can't hold them.

    Werkzeug does not, unless the response is that of `send_file`. Its test client shows such a header, but gunicorn
    does not send the response.
    """
    header = headers.get(_DISPOSITION, "")
    found = _FILE_NAME.search(header)
    if found is None or _ASCII.fullmatch(header):
        return
    quoted, plain = found.groups()
    name = plain.strip() if quoted is None else re.sub(r"\\(.)", r"\1", quoted)
    name = _CONTROL_CHARACTER.sub(" ", name)
    headers.set(
        _DISPOSITION,
        header[: found.start()],
        filename=normalize("NFKD", name).encode("ascii", "ignore").decode(),  # for old browsers
        **{"filename*": f"UTF-8''{quote(name, safe='', errors='replace')}"},
    )


def _current() -> Protection:
    protection: Protection = request.environ.setdefault(_KEY, Protection())
    return protection


def _is_sandbox(policy: str) -> bool:
    """Return whether a policy is the one that `sandboxed` sets; other sandboxes may allow scripts."""
    return policy.strip().lower() == "sandbox"


def _says_who_may_frame(name: str, value: str) -> bool:
    if name == _FRAMES:
        return bool(value.strip())
    directives = (directive.split() for policy in value.split(",") for directive in policy.split(";"))
    return name == _POLICY and any(words and words[0].lower() == "frame-ancestors" for words in directives)
