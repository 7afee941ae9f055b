"""Adds files outside of docs/ to the documentation if a page links to them, such as ``../queue.yaml``.

A ``.md`` file becomes a page. Any other file is copied.
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
    """Adapt the links to these files. MkDocs reports those that are missing."""
    return _OUTSIDE.sub(r"\1", markdown)
