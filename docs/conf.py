"""The manual's Sphinx configuration: `make manual` builds it, with the repository as its source folder."""

from importlib.metadata import version as installed

import click
from sphinx.application import Sphinx

project = "kube-proxy-harness"
author = "the kube-proxy-harness authors"
version = release = installed(project)

extensions = ["myst_parser", "sphinx_click", "sphinx_copybutton", "sphinxcontrib.mermaid"]
source_suffix = {".md": "markdown"}
include_patterns = ["docs/**", "README.md", "ARCHITECTURE.md", "CHANGELOG.md", "CONTRIBUTING.md"]
exclude_patterns = ["docs/conf.py"]
root_doc = "docs/index"

myst_heading_anchors = 4
myst_fence_as_directive = ["mermaid"]
suppress_warnings = ["myst.header"]  # the glossary's terms stand directly below its title

linkcheck_ignore = [r"http://(127\.|10\.)"]  # addresses in commands

html_theme = "furo"
html_title = "kube-proxy-harness"
html_show_sourcelink = False
html_copy_source = False


def _escaped(app: Sphinx, context: click.Context, lines: list[str]) -> None:
    """Help is plain text: an asterisk in it is one."""
    lines[:] = [line.replace("*", r"\*") for line in lines]


def setup(app: Sphinx) -> None:
    for part in ("description", "options", "epilog"):
        app.connect(f"sphinx-click-process-{part}", _escaped)
