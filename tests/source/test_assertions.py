"""Test that no search in a text can succeed by accident, by the port, pid, time or folder in it.

A random port has five digits, so a search for "226" finds it in 42263. The name of one of pytest's
folders contains its test's name. A search text needs a letter or a separator on both sides of its
digits ("226 " would be found at the end of a port, "\b226\b" only as a number of its own).
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
#: Digits, even hexadecimal ones, or a decimal number, with nothing before or nothing after it.
_BARE = re.compile(r"\W*[0-9a-f]*\d[0-9a-f]*(\.\d+)?\W*", re.ASCII)
#: The methods that look for their first argument in a string, and the functions of `re`.
_METHODS = {"count", "find", "index", "rfind", "rindex"}
_FUNCTIONS = {"search", "findall", "finditer"}
#: This much of a test's name is in the name of its folder.
_NAME_IN_FOLDER = 30


def found_by_accident(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Yield the line and the code of each search that a random text could satisfy."""
    for function in ast.walk(tree):
        if not isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        has_folder = any(one.arg.startswith("tmp_path") for one in function.args.args)
        for node in ast.walk(function):
            if not isinstance(node, ast.expr):
                continue
            for wanted in map(_text, _looked_for(node)):
                if wanted is None:
                    continue
                in_folder = has_folder and wanted and wanted in function.name[:_NAME_IN_FOLDER]
                if in_folder or _is_bare_number(wanted):
                    yield node.lineno, ast.unparse(node)


def _is_bare_number(text: str) -> bool:
    ends = text[:1].isalnum() or text[-1:].isalnum()
    return ends and _BARE.fullmatch(text) is not None


def _looked_for(node: ast.expr) -> list[ast.expr]:
    """Return the text that an expression looks for."""
    if isinstance(node, ast.Compare) and isinstance(node.ops[0], ast.In | ast.NotIn):
        return [node.left]
    if not isinstance(node, ast.Call):
        return []
    found = [keyword.value for keyword in node.keywords if keyword.arg == "match"]
    if isinstance(node.func, ast.Attribute):
        name, count = node.func.attr, len(node.args)
        if (name in _METHODS and count) or (name in _FUNCTIONS and count > 1):
            found.append(node.args[0])
    return found


def _text(node: ast.expr) -> str | None:
    """Return a literal string; what an f-string fills in is a number if it is formatted as one."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str | bytes):
        return node.value if isinstance(node.value, str) else node.value.decode("latin-1")
    if not isinstance(node, ast.JoinedStr):
        return None
    pieces = []
    for piece in node.values:
        if isinstance(piece, ast.FormattedValue):
            layout = _text(piece.format_spec) if piece.format_spec is not None else None
            pieces.append("0" if re.fullmatch(r".*[dxfX]", layout or "") else "{word}")
        else:
            pieces.append(_text(piece) or "")
    return "".join(pieces)


@pytest.mark.parametrize(
    "code",
    [
        'assert "226" not in str(error)',
        'assert b"226" in output',
        'assert "226 " in output',
        'assert ":80" in output',
        'assert "0.4" in output',
        'assert f"{code:02x}" in str(error)',
        'assert output.count("12") == 1',
        'assert re.search("12", output)',
        'pytest.raises(KeyError, match="0")',
        'assert "client" not in output',
    ],
)
def test_a_careless_search_is_seen(code: str) -> None:
    tree = ast.parse(f"def test_of_a_client(tmp_path):\n    {code}\n")
    assert len(list(found_by_accident(tree))) == 1


@pytest.mark.parametrize(
    "code",
    [
        'assert " 226 " in output',
        'assert "226 done" in output',
        'assert "0.4 s" in output',
        'assert "127.0.0.1:" in output',
        'assert f"127.0.0.1:{port}" in output',
        'assert re.search(r"\\b226\\b", output)',
        'pytest.raises(KeyError, match="^0$")',
        'assert "server" not in output',
    ],
)
def test_a_careful_search_is_not(code: str) -> None:
    tree = ast.parse(f"def test_of_a_client(tmp_path):\n    {code}\n")
    assert list(found_by_accident(tree)) == []


def test_no_test_searches_carelessly() -> None:
    careless = [
        f"{path.relative_to(TESTS)}:{line}: {code}"
        for path in sorted(TESTS.rglob("*.py"))
        for line, code in found_by_accident(ast.parse(path.read_text()))
    ]
    assert not careless, "\n".join(careless)
