"""Brings into the documentation what its pages link to outside of docs/, such as ``../queue.yaml``.

In the repository these links lead to the files as they are. In the documentation a ``.md`` file becomes a page, and
anything else is a file to look at.
"""

from __future__ import annotations

import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]
_OUTSIDE = re.compile(r"(?<=\]\()\.\./([^)#\s]+)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the files that pages link to."""
    linked = {"CHANGELOG.md"}
    for page in files.documentation_pages():
        linked.update(_OUTSIDE.findall(page.content_string))
    for path in sorted(linked):
        if (ROOT / path).is_file():
            files.append(File(path, str(ROOT), config.site_dir, config.use_directory_urls))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Lead the links there; what is missing is found by MkDocs."""
    return _OUTSIDE.sub(r"\1", markdown)
