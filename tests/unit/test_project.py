"""The project's documents and settings agree with its files."""

from __future__ import annotations

import ast
import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
COMMANDS = {
    "demo": "pip install nox && nox -s demo",
    "tests": "pip install nox && nox -s tests",
}


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)


def sessions():
    """Return the names of the sessions in noxfile.py."""
    statements = ast.parse((ROOT / "noxfile.py").read_text()).body
    functions = [node for node in statements if isinstance(node, ast.FunctionDef)]
    return {node.name for node in functions if any("nox.session" in ast.unparse(each) for each in node.decorator_list)}


def class_source(source, name):
    (found,) = [node for node in ast.parse(source).body if isinstance(node, ast.ClassDef) and node.name == name]
    return ast.get_source_segment(source, found)


@pytest.mark.parametrize("session", COMMANDS)
def test_the_readme_gives_each_command_in_one_line(session):
    assert COMMANDS[session] + "\n" in blocks("sh")
    assert session in sessions()


def test_ci_runs_the_command_that_the_readme_gives_for_the_tests():
    assert re.search(rf"^{re.escape(COMMANDS['tests'])}\b", (ROOT / ".ci/run").read_text(), re.MULTILINE)


@pytest.mark.parametrize(
    "document", ["README.md", "CONTRIBUTING.md", ".ci/run", *(f"docs/{page.name}" for page in ROOT.glob("docs/*.md"))]
)
def test_every_session_that_a_document_names_exists(document):
    named = re.findall(r"\bnox -s ([a-z_]+(?: [a-z_]+)*)", (ROOT / document).read_text())
    assert {name for names in named for name in names.split()} <= sessions()


def test_the_example_of_the_readme_makes_an_application_with_the_task_at_its_url():
    [block] = blocks("python")
    namespace = {"__name__": "example"}
    exec(compile(block, "README.md", "exec"), namespace)
    assert namespace["app"].url_map.bind("localhost").match("/count/3") == ("count", {"seconds": 3})


def test_the_example_of_the_readme_is_the_task_of_the_sample_app():
    sample = (ROOT / "sample_app" / "counting.py").read_text()
    assert class_source(blocks("python")[0], "Count") == class_source(sample, "Count")


def test_every_file_that_a_document_links_to_exists():
    for document in [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")]:
        links = re.findall(r"\]\((?!https?:)([^)#]+)(?:#[^)]*)?\)", document.read_text(encoding="utf-8"))
        assert [link for link in links if not (document.parent / link).exists()] == []


def test_the_changelog_has_a_section_for_unreleased_changes():
    assert re.search(r"^## \[Unreleased\]$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)


def test_every_ignore_comment_has_a_code_and_a_reason():
    exemption = re.compile(r"# (?:noqa|type: ignore|pragma: no cover)")
    with_code = re.compile(r"# (?:noqa: [A-Z]+[0-9]+(?:, [A-Z]+[0-9]+)*|type: ignore\[[a-z, -]+\]|pragma: no cover)")
    sources = [path for folder in ("gaetk_longtask", "sample_app", "tests") for path in (ROOT / folder).rglob("*.py")]
    bare = []
    for path in {ROOT / "noxfile.py", *sources} - {Path(__file__)}:
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
            if found := exemption.search(line):
                reason = with_code.sub("", line[found.start() :]).strip(" #-")
                if not reason or exemption.search(reason):
                    bare.append(f"{path.relative_to(ROOT)}:{number}")
    assert bare == []


def test_ci_runs_both_sessions_of_tests():
    for name in (".ci/run", ".github/workflows/ci.yml"):
        named = re.findall(r"\bnox -s ([a-z_]+(?: [a-z_]+)*)", (ROOT / name).read_text())
        assert {"tests", "tests_dev"} <= {each for names in named for each in names.split()}


def test_the_workflows_run_sessions_that_exist():
    workflows = "\n".join(path.read_text() for path in (ROOT / ".github" / "workflows").glob("*.yml"))
    named = set(re.findall(r"\bnox -s ([a-z_]+)$", workflows, re.MULTILINE))
    assert named
    assert named <= sessions()


def test_github_runs_the_tests_on_every_python_that_the_project_declares():
    workflow = (ROOT / ".github" / "workflows" / "ci.yml").read_text()
    (matrix,) = re.findall(r"^ +python: \[(.+)\]$", workflow, re.MULTILINE)
    declared = re.findall(r'"Programming Language :: Python :: (3\.\d+)"', (ROOT / "pyproject.toml").read_text())
    assert re.findall(r'"([^"]+)"', matrix) == declared


def test_pre_commit_uses_the_ruff_of_the_lint_session():
    groups = tomllib.loads((ROOT / "pyproject.toml").read_text())["dependency-groups"]
    (ruff,) = [requirement for requirement in groups["lint"] if requirement.startswith("ruff")]
    hooks = re.findall(r'additional_dependencies: \["(ruff.*)"\]', (ROOT / ".pre-commit-config.yaml").read_text())
    assert set(hooks) == {ruff}


def test_the_map_names_every_module():
    guide = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    package = ROOT / "gaetk_longtask"
    outside = {package / "dev", package / "operators" / "doctor"}
    modules = [path for path in package.rglob("*.py") if path.name != "__init__.py" and not outside & {*path.parents}]
    assert [path.name for path in modules if f"`{path.name}`" not in guide] == []
