"""How Sphinx builds the documentation: `make docs`. What is special is in tools/docs_site.py."""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tools import docs_site  # noqa: E402

from netmeasure import __version__  # noqa: E402

project = "netmeasure"
author = "The netmeasure authors"
copyright = author
version = release = __version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "tools.docs_site"]
exclude_patterns = ["_build"]
nitpicky = True
nitpick_ignore_regex = docs_site.FOREIGN_NAMES
suppress_warnings: list[str] = []

myst_heading_anchors = 4
myst_enable_extensions = ["colon_fence"]

default_role = "literal"
smartquotes_action = "q"  # quotes, but no dashes: texts have options such as --json
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
autodoc_default_options = {
    "members": True,
    "undoc-members": True,
    "no-value": True,
    # fields of the bases, but nothing of these and of what they inherit from
    "inherited-members": "Struct, NetmeasureError, ABC",
    # those of every exception, and a list for the encoder of results
    "exclude-members": "add_note, args, derived, with_traceback",
}
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 90

html_theme = "furo"
html_title = f"netmeasure {version}"
html_static_path = ["_static"]
html_css_files = ["netmeasure.css"]
html_copy_source = False
html_show_sourcelink = False
html_theme_options = {
    "source_repository": "https://github.com/netmeasure/netmeasure/",
    "source_branch": "main",
    "source_directory": "docs/",
}
