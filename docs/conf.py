"""Settings of Sphinx."""

import re
from importlib.metadata import version as installed_version

from sphinx.application import Sphinx

project = "aifactory-bench"
author = "The aifactory-bench developers"
copyright = "the aifactory-bench developers, Apache-2.0"
release = installed_version("aifactory-bench")
version = release

extensions = ["myst_parser"]
source_suffix = {".md": "markdown"}
exclude_patterns = ["_build"]
nitpicky = True

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3
"""Headings down to this level can be linked to, as `page.md#heading`."""

_OUTSIDE = re.compile(r"\[([^\]]+)\]\(\.\./([^)#]+)\)")


def _name_files_of_the_repository(_app: Sphinx, _page: str, source: list[str]) -> None:
    """Where a page links to a file of the repository, say its path: beside these pages the file is not there."""
    source[0] = _OUTSIDE.sub(r"\1 (`\2`)", source[0])


def setup(app: Sphinx) -> None:
    """Hook it in."""
    app.connect("source-read", _name_files_of_the_repository)


html_theme = "furo"
html_title = f"aifactory-bench {release}"
