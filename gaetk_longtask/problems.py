"""What went wrong with a visitor's request: a problem document for programs, a page for people."""

from __future__ import annotations

from http import HTTPStatus

from flask import Response, jsonify, make_response, render_template, request

from gaetk_longtask.protocol import wants_json


class ProblemError(Exception):
    """Ends the handling of a request with a problem document (RFC 9457), or the page that says the same."""

    def __init__(
        self,
        status: HTTPStatus,
        detail: str,
        *,
        start_url: str | None = None,
        retry_url: str | None = None,
        reference: str | None = None,
        allow: tuple[str, ...] = (),
        retry_after_seconds: int | None = None,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.start_url = start_url  #: where the visitor may start again
        self.retry_url = retry_url  #: where the same task may be tried again, by POST
        self.reference = reference  #: what the operator finds in the log
        self.allow = allow  #: the methods that are possible instead
        self.retry_after_seconds = retry_after_seconds

    def response(self) -> Response:
        """Answer the current request."""
        if wants_json(request):
            document = {
                "type": "about:blank",
                "title": self.status.phrase,
                "status": self.status.value,
                "detail": self.detail,
                **({"reference": self.reference} if self.reference else {}),
                **({"retry": self.retry_url} if self.retry_url else {}),
            }
            response = jsonify(document)
            response.mimetype = "application/problem+json"
        else:
            response = make_response(render_template("gaetk_longtask/problem.html", problem=self))
        response.status_code = self.status
        if self.allow:
            response.headers["Allow"] = ", ".join(self.allow)
        if self.retry_after_seconds is not None:
            response.headers["Retry-After"] = str(self.retry_after_seconds)
        return response
