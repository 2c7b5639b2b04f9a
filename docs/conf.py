"""The documentation site: `make docs`, or `python -m sphinx -W -b html docs docs/_build/html`."""

import importlib.metadata
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "_extensions"))

project = "fedcore"
author = "the fedcore authors"
copyright = "2026, the fedcore authors"
release = importlib.metadata.version("fedcore")

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.viewcode",
    "sphinx_copybutton",
    "wire_reference",
]
myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3
suppress_warnings = ["myst.xref_missing"]  # links to files of the repository that are no pages; tests/docs follows them

autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
default_role = "code"  # docstrings write `name` as Markdown does
highlight_language = "text"

html_theme = "furo"
html_title = "fedcore"
html_static_path: list[str] = []
exclude_patterns = ["_build"]
