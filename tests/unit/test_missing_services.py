from __future__ import annotations

from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

SOME_SERVICES_ARE_MISSING = """
    import pytest
    from tests.missing import missing

    @pytest.fixture(scope="session")
    def queue():
        missing("queued is not installed; apt install queued")

    @pytest.mark.parametrize("number", range(3))
    def test_with_a_queue(queue, number):
        raise AssertionError

    def test_with_a_browser():
        missing(FileNotFoundError("no browser; apt install browser"))

    def test_without_a_service():
        pass

    @pytest.mark.skip(reason="of another reason")
    def test_of_something_else():
        pass
"""
NOTHING_IS_MISSING = """
    import pytest

    def test_without_a_service():
        pass

    @pytest.mark.skip(reason="of another reason")
    def test_of_something_else():
        pass
"""
HALF_COVERED = """
    def covered():
        return 1

    def uncovered():
        a = 1
        b = 2
        c = 3
        return a + b + c

    covered()
"""


class Project:
    """A project with a coverage limit of 95 %, of which the tests cover half."""

    def __init__(self, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
        self.pytester = pytester
        self._patch = monkeypatch
        monkeypatch.setenv("PYTHONPATH", str(ROOT))
        monkeypatch.delenv("CI", raising=False)
        monkeypatch.delenv("COVERAGE_PROCESS_CONFIG", raising=False)
        pytester.makepyfile(half=HALF_COVERED)
        (pytester.path / ".coveragerc").write_text("[report]\nfail_under = 95\n")

    def run(self, tests: str, *options: str, ci: str | None = None) -> pytest.RunResult:
        if ci is not None:
            self._patch.setenv("CI", ci)
        self.pytester.makepyfile(test_it=f"import half\n{_unindented(tests)}")
        arguments = ("-p", "tests.missing", "-p", "no:cacheprovider", *options)
        return self.pytester.runpytest_subprocess(*arguments)


def _unindented(text: str) -> str:
    return "\n".join(line[4:] for line in text.splitlines())


@pytest.fixture
def project(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Project:
    return Project(pytester, monkeypatch)


@pytest.mark.parametrize(("processes", "ci"), [((), "false"), (("-n1",), None)])
def test_what_is_missing_is_listed_once_with_how_to_get_it(
    project: Project, processes: tuple[str, ...], ci: str | None
) -> None:
    result = project.run(SOME_SERVICES_ARE_MISSING, "--cov=half", *processes, ci=ci)

    assert result.ret == 0
    result.assert_outcomes(passed=1, skipped=5)
    result.stdout.fnmatch_lines(
        [
            "half.py*",
            "*services that are missing here*",
            "3 tests skipped: queued is not installed; apt install queued",
            "1 test skipped: no browser; apt install browser",
            "The coverage is not judged, because not every test ran.",
        ]
    )
    result.stdout.no_fnmatch_line("*skipped: of another reason*")


def test_in_ci_a_missing_service_is_a_failure(project: Project) -> None:
    result = project.run(SOME_SERVICES_ARE_MISSING, ci="true")

    assert result.ret == 1
    result.stdout.fnmatch_lines(["*missing: queued is not installed; apt install queued*"])


def test_the_coverage_is_judged_where_everything_ran(project: Project) -> None:
    result = project.run(NOTHING_IS_MISSING, "--cov=half", "-n1")

    assert result.ret == 1
    result.stdout.fnmatch_lines(["*Coverage failure*"])
    result.stdout.no_fnmatch_line("*services that are missing here*")


def test_a_failure_stays_a_failure_where_a_service_is_missing(project: Project) -> None:
    failing = SOME_SERVICES_ARE_MISSING + "\n    def test_that_fails():\n        assert False\n"

    assert project.run(failing, "--cov=half").ret == 1
