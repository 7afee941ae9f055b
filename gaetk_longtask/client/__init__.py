"""A client for programs: starts tasks over HTTP, follows them to their end, cancels and retries them, gets results.

It needs ``requests``, which Google's client libraries install.
"""

from gaetk_longtask.client.bar import ProgressBar, progress_text
from gaetk_longtask.client.documents import (
    LinksDocument,
    PartsDocument,
    PhaseDocument,
    ProgressDocument,
    StatusDocument,
)
from gaetk_longtask.client.tasks import (
    Client,
    ClientError,
    NoResultError,
    ProblemAnswerError,
    StillRunningError,
    Task,
)

__all__ = [
    "Client",
    "ClientError",
    "LinksDocument",
    "NoResultError",
    "PartsDocument",
    "PhaseDocument",
    "ProblemAnswerError",
    "ProgressBar",
    "ProgressDocument",
    "StatusDocument",
    "StillRunningError",
    "Task",
    "progress_text",
]
