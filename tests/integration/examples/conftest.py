"""Fixtures for the examples of the documentation, and the proof that a test calls the functions that it names.

A test names them in a mark: ``@pytest.mark.calls("upload.md", "Sum.execute_task")``.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack, nullcontext
from typing import Any

import pytest
from flask import Flask

from gaetk_longtask.testing import ManualClock, TaskRunner
from tests.pages import functions, page_named, run, watched

#: The application of a page whose blocks have none.
AN_APP = """
from flask import Flask
from gaetk_longtask import LongTaskManager
app = Flask(__name__)
app.secret_key = "for tests alone"
LongTaskManager(app)
"""

#: Runs the blocks of a page. Returns a task runner for its application, and the names that the page has defined.
Example = Callable[..., tuple[TaskRunner, dict[str, Any]]]


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "calls(page, *functions): the functions of a page that the test calls")


@pytest.fixture(autouse=True)
def _calls_what_it_names(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail a test that does not call what its marks name."""
    marks = list(request.node.iter_markers("calls"))
    with watched() if marks else nullcontext(set()) as called:
        yield
    for mark in marks:
        page, *named = mark.args
        known = functions(page_named(page))
        assert set(named) <= {known[code] for code in called if code in known}


@pytest.fixture
def example(longtask_datastore: str) -> Iterator[Example]:
    """A function that runs the blocks of a page, and adds views: their classes by URL."""
    with ExitStack() as opened:

        def run_page(
            page: str,
            prepared: str = "",
            *,
            only: Collection[int] = (),
            clock: ManualClock | None = None,
            **views: str,
        ) -> tuple[TaskRunner, dict[str, Any]]:
            names = run(page_named(page), prepared, only=only)
            app: Flask = names["app"]
            for endpoint, cls in views.items():
                app.add_url_rule(f"/{endpoint}", view_func=names[cls].as_view(endpoint))
            return opened.enter_context(TaskRunner(app, clock=clock).opened()), names

        yield run_page
