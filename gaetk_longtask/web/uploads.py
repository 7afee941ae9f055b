"""The attributes of a form for which `longtask-upload.js` shows the progress of its upload."""

from __future__ import annotations

from flask import current_app, request
from markupsafe import Markup

from gaetk_longtask.payloads.chunks import LIMIT_BYTES
from gaetk_longtask.web.requests import asked_language


def upload_attributes() -> Markup:
    """Return the attributes in the visitor's language, with the limit of the application; templates call it.

    The limit is ``MAX_CONTENT_LENGTH``, or 32 MiB if that is less or not set: App Engine accepts no larger request.
    """
    language = asked_language(request)
    gettext = language.gettext
    attributes = {
        "data-longtask-lang": language.code,
        "data-longtask-limit": min(current_app.config.get("MAX_CONTENT_LENGTH") or LIMIT_BYTES, LIMIT_BYTES),
        "data-longtask-uploading": gettext("Uploading: %(number)s", number="{}"),
        "data-longtask-uploaded": gettext("Uploaded. The work is about to start."),
        "data-longtask-cancel": gettext("Cancel the upload"),
        "data-longtask-cancelled": gettext("The upload was cancelled. Nothing has started."),
        "data-longtask-too-large": gettext(
            "This upload is larger than %(size)s, the most that we accept. Nothing was sent.", size="{}"
        ),
        "data-longtask-failed": gettext(
            "The server did not accept the upload. Check your connection, or reload the page, and try again."
        ),
    }
    pairs = Markup(" ").join(Markup('{}="{}"').format(name, value) for name, value in attributes.items())
    return Markup("data-longtask-upload ") + pairs
