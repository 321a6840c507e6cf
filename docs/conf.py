"""How Sphinx builds these pages: sphinx-build -W -b html docs docs/_build/html."""

import contextlib
import doctest
from pathlib import Path

project = "chainrule"
author = "the chainrule authors"
project_copyright = author

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.napoleon",
]
exclude_patterns = ["_build"]
myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 2

autodoc_typehints = "signature"
autodoc_member_order = "bysource"
autosummary_generate = False

html_theme = "furo"
html_title = "chainrule"
html_static_path = ["_static"]
html_css_files = ["tables.css"]


def write_out_signs(app, what, name, obj, options, lines):
    """Keep the mathematics of docstrings, such as |x| and a*b, from being markup."""
    in_example = False
    for number, line in enumerate(lines):
        in_example = bool(line.strip()) and (in_example or ">>> " in line)
        if not in_example:
            # Text between double backticks is literal already.
            parts = line.split("``")
            parts[::2] = [p.replace("*", r"\*").replace("|", r"\|") for p in parts[::2]]
            lines[number] = "``".join(parts)


def draw_gallery(app):
    """Run the gallery's examples, each of which saves its figure beside its page."""
    pages = Path(app.srcdir) / "gallery"
    figures = pages / "figures"
    figures.mkdir(exist_ok=True)
    flags = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS
    for page in sorted(pages.glob("*.md")):
        with contextlib.chdir(figures):
            results = doctest.testfile(
                str(page), module_relative=False, optionflags=flags, encoding="utf-8"
            )
        if results.failed:
            raise RuntimeError(f"{page.name}: {results.failed} examples fail")


def setup(app):
    app.connect("builder-inited", draw_gallery)
    # Before Napoleon, at 500, makes markup of its own.
    app.connect("autodoc-process-docstring", write_out_signs, priority=400)
