"""How the documentation is built: `make docs`."""

from driftway.version import __version__

project, author, release = "driftway", "the driftway authors", __version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build"]
html_theme = "pydata_sphinx_theme"
html_title = "driftway"
html_sidebars = {"**": []}
html_theme_options = {"show_prev_next": False, "secondary_sidebar_items": ["page-toc"]}
myst_heading_anchors = 3
default_role = "code"
autodoc_member_order = "bysource"
autodoc_inherit_docstrings = False
autodoc_typehints = "signature"
autodoc_default_options = {"members": True, "show-inheritance": True}

SECTIONS = ("Arguments:", "Returns:", "Raises:")


def _as_written(app, what, name, obj, options, lines: list[str]) -> None:
    """Docstrings are written for people: keep stars and bars, and show indented formulas as they are."""
    shown: list[str] = []
    before, literal = "", False
    for line in lines:
        if line.strip():
            indented = line.startswith("    ")
            if indented and not before.startswith("    ") and before not in SECTIONS:
                shown, literal = [*shown, "::", ""], True
            elif not indented and literal:
                shown, literal = [*shown, ""], False
            before = line.rstrip()
        shown.append(line if literal else line.replace("*", r"\*").replace("|", r"\|"))
    lines[:] = shown


def setup(app) -> None:
    """Called by Sphinx; the priority is before napoleon's."""
    app.connect("autodoc-process-docstring", _as_written, priority=400)
