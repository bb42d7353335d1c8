"""Test the documentation: links, names, generated parts and, last, the strict build."""

from __future__ import annotations

import itertools
import re
import subprocess
import sys
from pathlib import Path

import pytest
from test_layers import ALLOWED
from tools import docs_site, draw_layers, man_page

import netmeasure
from netmeasure.cli import options
from netmeasure.cli.exits import Exit
from netmeasure.cli.iperf3.table import OPTIONS

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
KINDS = ("tutorial", "how-to", "reference", "explanation")
PAGES = sorted([*DOCS.rglob("*.md"), *ROOT.glob("*.md")])
REFERENCE = sorted((DOCS / "reference" / "api").glob("*.md"))
OUTSIDE = ("http://", "https://", "mailto:")


def without_code(text: str) -> str:
    """Return a page without its code blocks and its inline code."""
    return re.sub(r"`[^`]*`", "", re.sub(r"^```.*?^```$", "", text, flags=re.M | re.S))


def links(text: str) -> list[str]:
    """Return the targets of the links and pictures of a page."""
    return re.findall(r"\]\(\s*([^)\s]+)\s*\)", without_code(text))


def anchors(text: str) -> set[str]:
    """Return the anchors that the headings of a page make."""
    text = re.sub(r"^```.*?^```$", "", docs_site.with_generated_parts(text), flags=re.M | re.S)
    headings = re.findall(r"^#+ (.*)$", text, flags=re.MULTILINE)
    words = (re.sub(r"[^\w\- ]", "", heading.lower()) for heading in headings)
    return {word.replace(" ", "-") for word in words}


def broken(page: Path, text: str) -> list[str]:
    """Return the links of a page whose file or heading does not exist."""
    found = []
    for link in links(text):
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if link.startswith(OUTSIDE):
            continue
        if not target.is_file() or (anchor and anchor not in anchors(target.read_text())):
            found.append(link)
    return found


def test_every_link_leads_somewhere() -> None:
    found = {page: broken(page, page.read_text()) for page in PAGES}
    assert {page: links for page, links in found.items() if links} == {}


@pytest.mark.parametrize(
    "text",
    [
        "[a](nowhere.md)",
        "[a](README.md#no-such-heading)",
        "[a](#no-such-heading)",
        "![a](docs/_static/none.svg)",
        "[in two\nlines](nowhere.md)",
    ],
)
def test_a_broken_link_is_seen(text: str) -> None:
    assert len(broken(ROOT / "page.md", text)) == 1


def test_code_holds_no_links() -> None:
    assert broken(ROOT / "page.md", "```\na[0](nowhere.md)\n```\n`a[0](nowhere.md)`") == []


def test_every_page_is_of_one_kind_and_in_the_contents() -> None:
    index = (DOCS / "index.md").read_text()
    pages = {page.relative_to(DOCS).as_posix() for page in DOCS.rglob("*.md")}
    assert {page.split("/")[0] for page in pages - {"index.md"}} == set(KINDS)
    listed = set(re.findall(r"^([\w-]+/[\w/-]+)$", index, flags=re.MULTILINE))
    inner = {page for page in pages if page.startswith("reference/api/")} - {
        "reference/api/index.md"
    }
    assert {f"{page}.md" for page in listed} == pages - inner - {"index.md"}


def test_the_reference_describes_every_public_name_once() -> None:
    text = "".join(page.read_text() for page in REFERENCE)
    named = re.findall(r"^\.\. (?:auto)?\w+:: netmeasure\.(\w+)$", text, flags=re.MULTILINE)
    assert set(netmeasure.__all__) - set(named) == set(), "write them into docs/reference/api"
    assert sorted(named) == sorted(netmeasure.__all__)


def test_every_public_name_has_a_docstring() -> None:
    assert docs_site.without_docstring() == []


def test_a_missing_docstring_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(netmeasure.Run, "__doc__", None)
    monkeypatch.setattr(netmeasure.measure, "__doc__", "")
    monkeypatch.setattr(netmeasure.Client.run, "__doc__", None)
    expected = ["netmeasure.Client.run", "netmeasure.Run", "netmeasure.measure"]
    assert docs_site.without_docstring() == expected


def test_the_command_line_reference_has_every_command_and_option() -> None:
    text = docs_site.cli()
    for name, _, parser in docs_site.commands(options.parser()):
        assert f"## netmeasure {name}\n" in text
        section = text.split(f"## netmeasure {name}\n")[1].split("\n## ")[0]
        if name != "iperf3":
            for action in parser._actions:
                for option in set(action.option_strings) - {"-h", "--help"}:
                    assert f"`{option}`" in section


def test_the_reference_of_iperf3s_options_has_every_option() -> None:
    named = set(re.findall(r"`(--?[\w-]+)`", docs_site.iperf3_options()))
    words = {f"-{option.short}" for option in OPTIONS if option.short}
    assert named == words | {f"--{long}" for option in OPTIONS for long in option.longs}


def test_the_drawing_is_of_todays_layers() -> None:
    """`make docs`, or `python -m tools.draw_layers`, draws it again."""
    assert draw_layers.FILE.read_text() == draw_layers.drawing(ALLOWED)


def test_the_architecture_page_describes_every_layer_in_the_groups_of_the_drawing() -> None:
    text = (DOCS / "explanation" / "architecture.md").read_text()
    _, *parts = re.split(r"^\*\*([^*]+)\.\*\* .*$", text.split("## Where to look")[0], flags=re.M)
    described = {
        name: re.findall(r"^\| `([\w.]+)` \|", rows, flags=re.MULTILINE)
        for name, rows in zip(parts[::2], parts[1::2], strict=True)
    }
    assert described == {group.name: group.layers.split() for group in draw_layers.GROUPS}
    assert sorted(itertools.chain(*described.values())) == sorted(ALLOWED)


@pytest.mark.parametrize("kind", ["RrSpec", "RequestSpec"])
def test_the_page_on_new_kinds_of_test_names_every_module_that_knows_of_one(kind: str) -> None:
    text = (DOCS / "how-to" / "add-a-kind-of-test.md").read_text()
    named = set(re.findall(r"`([\w/]+\.py)`", text))
    source = ROOT / "src" / "netmeasure"
    knowing = {
        path.relative_to(source).as_posix()
        for path in source.rglob("*.py")
        if re.search(rf"\b{kind}\b", path.read_text())
    }
    assert len(knowing) > 10
    assert knowing - named == set(), "write them into docs/how-to/add-a-kind-of-test.md"


def test_the_manual_page_is_that_of_the_parsers() -> None:
    """`make docs`, or `python -m tools.man_page`, makes it again."""
    assert man_page.FILE.read_text() == man_page.page(), "run `make docs`"
    assert set(man_page._EXITS) == set(Exit)


# ---- what makes the generated parts --------------------------------------------------------------


def test_columns_of_a_docstring_are_taken_apart() -> None:
    lines = [
        "One stream.",
        "",
        "bytes       receiver: bytes read.",
        "acked_bytes sender: bytes that were",
        "            acknowledged",
        "from_ns, to_ns",
        "            of the stretch",
        "",
        "Text after it.",
    ]
    prose, fields = docs_site.parse_docstring(lines)
    assert prose == ["One stream.", "", "Text after it.", ""]
    assert fields == {
        "bytes": "receiver: bytes read.",
        "acked_bytes": "sender: bytes that were acknowledged",
        "from_ns": "of the stretch",
        "to_ns": "of the stretch",
    }


def test_the_attributes_of_a_docstring_are_taken_apart() -> None:
    lines = [
        "One stream.",
        "",
        "Attributes:",
        "    bytes: Bytes read.",
        "    acked_bytes: Bytes that were: read and",
        "        acknowledged.",
        "",
        "    from_ns: The start.",
        "",
        "Text after it.",
    ]
    prose, fields = docs_site.parse_docstring(lines)
    assert prose == ["One stream.", "", "Text after it.", ""]
    assert fields == {
        "bytes": "Bytes read.",
        "acked_bytes": "Bytes that were: read and acknowledged.",
        "from_ns": "The start.",
    }


def test_special_characters_mean_themselves_but_in_code() -> None:
    assert docs_site.to_markup(["2 * x, |d|, `a*b`"]) == [r"2 \* x, \|d\|, `a*b`"]


def test_arrows_that_follow_from_others_are_left_out() -> None:
    table: dict[str, set[str]] = {"a": set(), "b": {"a"}, "c": {"a", "b"}}
    assert draw_layers.shortest(table) == {"a": set(), "b": {"a"}, "c": {"b"}}


# ---- the build -----------------------------------------------------------------------------------


@pytest.mark.timeout(300)
def test_the_site_builds_without_a_warning_and_needs_no_other_site(tmp_path: Path) -> None:
    pytest.importorskip("sphinx", reason="the extra `docs` is not installed here")
    # a fifth of the time goes into the tables of contents of the reference's many objects
    quick = ("-D", "toc_object_entries=0")
    words = ("-q", "-E", "-W", "--keep-going", *quick, "-b", "html", DOCS, tmp_path / "site")
    done = subprocess.run(
        [sys.executable, "-m", "sphinx", *words],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-5000:]
    for page in (tmp_path / "site").rglob("*.html"):
        loaded = re.findall(r'(?:<script|<img)[^>]*src="([^"]*)"', page.read_text())
        loaded += re.findall(
            r'<link[^>]*rel="(?:stylesheet|preload)"[^>]*href="([^"]*)"', page.read_text()
        )
        assert [one for one in loaded if "//" in one] == []
