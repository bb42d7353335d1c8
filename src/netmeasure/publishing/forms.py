"""Name the forms of a report, without importing their writers."""

from __future__ import annotations

#: The forms by their names, which are also the ends of file names.
FORMS = {
    "html": "a page for browsers, light and dark",
    "svg": "the charts as a drawing",
    "png": "the charts as a picture",
    "md": "the words and the tables, as Markdown",
}
