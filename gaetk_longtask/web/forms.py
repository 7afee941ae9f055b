"""The forms of requests: one that can't be read completely is refused; Werkzeug would take it for an empty one."""

from __future__ import annotations

from http import HTTPStatus
from io import BytesIO
from typing import IO, Any
from urllib.parse import parse_qsl

from flask import Request
from werkzeug.exceptions import BadRequest, HTTPException, RequestEntityTooLarge
from werkzeug.formparser import FormDataParser

from gaetk_longtask.web.problems import ProblemError

_URLENCODED, _MULTIPART = "application/x-www-form-urlencoded", "multipart/form-data"
_REPLACED = "\ufffd"  #: what Werkzeug puts in the place of bytes that are not UTF-8
_ERROR = "gaetk_longtask.form_error"  #: the key of the form's error in the WSGI environment


class BadFormError(BadRequest):
    """A form that can't be read; Flask answers 400 if it is raised in the application's own code."""

    description = "The form can't be read, or a part of it is missing."


class NotUtf8Error(BadFormError):
    """A form that is not encoded in UTF-8."""

    description = "The form is not encoded in UTF-8."


def watch(request: Request) -> None:
    """Make the request raise `BadFormError` wherever its form is read first, and each time after that."""
    make = request.make_form_data_parser

    def make_strict() -> FormDataParser:
        if _ERROR in request.environ:  # the body is used up, so a second try would find an empty form
            raise request.environ[_ERROR]
        parser = make()
        if getattr(request, "_cached_data", None) is None:
            if "stream" in vars(request):
                return parser  # the author has read the body
            try:
                request.stream  # noqa: B018  # raises if the body is too large
            except HTTPException as exc:
                raise _remembered(request, exc) from None
        parse, parser.silent = parser.parse, False
        open_file = parser.stream_factory
        opened: list[IO[bytes]] = []

        def open_remembered(*args: Any, **details: Any) -> IO[bytes]:
            opened.append(file := open_file(*args, **details))
            return file

        def parse_strictly(
            stream: IO[bytes], mimetype: str, content_length: int | None, options: dict[str, str] | None = None
        ) -> Any:
            try:
                if mimetype == _URLENCODED:
                    stream = _checked(stream)
                found = parse(stream, mimetype, content_length, options)
                if mimetype == _MULTIPART:
                    _check_fields(found[1], found[2])
            except UnicodeError as exc:
                raise _remembered(request, NotUtf8Error()) from exc
            except (ValueError, OSError) as exc:
                raise _remembered(request, BadFormError()) from exc
            except HTTPException as exc:  # too large, or cut off
                _remembered(request, exc)
                raise
            else:
                opened.clear()
                return found
            finally:
                for file in opened:  # of a form that is refused
                    file.close()

        parser.stream_factory = open_remembered
        parser.parse = parse_strictly  # type: ignore[method-assign]  # of this object alone
        return parser

    request.make_form_data_parser = make_strict  # type: ignore[method-assign]  # of this request alone


def problem_of(request: Request, exc: HTTPException) -> ProblemError | None:
    """Return the problem for the visitor if the exception is about the request's form."""
    if exc is not request.environ.get(_ERROR):
        return None
    match exc:
        case NotUtf8Error():
            return ProblemError(HTTPStatus.BAD_REQUEST, "This form is not encoded in UTF-8. Nothing has started.")
        case RequestEntityTooLarge():
            return ProblemError(
                HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "This form is larger than we accept. Nothing has started."
            )
        case _:
            return ProblemError(
                HTTPStatus.BAD_REQUEST, "This form did not arrive completely. Nothing has started. Send it again."
            )


def check_type(request: Request) -> None:
    """Raise `ProblemError` with 415 if the request has a body that is no form."""
    if request.mimetype in (_URLENCODED, _MULTIPART):
        return
    if not request.content_length and not request.get_data():
        return
    if request.mimetype == "application/json":
        raise ProblemError(
            HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
            "This URL accepts form fields, not JSON. To accept JSON, override prepare_task.",
        )
    raise ProblemError(
        HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
        "This URL accepts form fields only. To accept another type of content, override prepare_task.",
    )


def check_length(request: Request) -> None:
    """Raise `ProblemError` with 411 for a body whose end the server does not show; Werkzeug would take it for empty."""
    chunked = "Transfer-Encoding" in request.headers and not request.environ.get("wsgi.input_terminated")
    if chunked and request.content_length is None:
        raise ProblemError(
            HTTPStatus.LENGTH_REQUIRED, "This form did not arrive completely. Nothing has started. Send it again."
        )


def check_query(request: Request) -> None:
    """Raise `ProblemError` with 400 if the query is not UTF-8; Werkzeug would keep the bytes quoted."""
    try:
        parse_qsl(request.query_string.decode(), errors="strict")
    except UnicodeError as exc:
        raise ProblemError(HTTPStatus.BAD_REQUEST, "The query of this URL is not UTF-8.") from exc


def _remembered(request: Request, error: HTTPException) -> HTTPException:
    request.environ[_ERROR] = error
    return error


def _checked(stream: IO[bytes]) -> IO[bytes]:
    """Return the stream of a form, read again; raise `UnicodeError` if a name or value is not UTF-8."""
    body = stream.read()
    parse_qsl(body.decode(), keep_blank_values=True, errors="strict")
    return BytesIO(body)


def _check_fields(form: Any, files: Any) -> None:
    if any(name is None for name in [*form, *files]):
        raise ValueError("a part has no name")
    texts = [text for item in form.items(multi=True) for text in item]
    if any(_REPLACED in text for text in [*texts, *(name or "" for name in files)]):
        raise UnicodeError
