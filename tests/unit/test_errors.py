"""Test the tree of exceptions."""

from __future__ import annotations

import ast
import inspect
import pickle
from collections.abc import Iterator
from pathlib import Path

import pytest

import netmeasure
from netmeasure import errors

PACKAGE = Path(errors.__file__).parent
TREE = [
    value
    for value in vars(errors).values()
    if inspect.isclass(value) and issubclass(value, BaseException)
]
EVERY_ERROR = pytest.mark.parametrize("error", TREE, ids=lambda error: error.__name__)


@EVERY_ERROR
def test_every_error_derives_from_the_base(error: type[errors.NetmeasureError]) -> None:
    assert issubclass(error, errors.NetmeasureError)
    assert error.__name__.endswith("Error")


def test_no_other_module_defines_exceptions() -> None:
    """Exceptions that never leave their module are allowed; their names begin with an
    underscore."""
    sources = [path for path in PACKAGE.rglob("*.py") if path.name != "errors.py"]
    assert sources
    strays = [
        f"{path.relative_to(PACKAGE)}: {node.name}"
        for path in sources
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ClassDef)
        and not node.name.startswith("_")
        and any(ast.unparse(base).endswith(("Error", "Exception")) for base in node.bases)
    ]
    assert strays == []


def family(error: type[errors.NetmeasureError]) -> Iterator[type[errors.NetmeasureError]]:
    yield error
    for derived in error.__subclasses__():
        yield from family(derived)


def test_public_exceptions() -> None:
    names = (getattr(netmeasure, name) for name in netmeasure.__all__)
    public = {value for value in names if inspect.isclass(value)}
    exceptions = {value for value in public if issubclass(value, BaseException)}
    assert exceptions
    assert exceptions <= set(TREE)


def test_errors_import_nothing_of_ours() -> None:
    tree = ast.parse(Path(errors.__file__).read_text(encoding="utf-8"))
    imported = {n.module for n in ast.walk(tree) if isinstance(n, ast.ImportFrom)}
    assert imported <= {"__future__", "typing"}
    assert not any(isinstance(node, ast.Import) for node in ast.walk(tree))


def test_codes_are_unique() -> None:
    everywhere = set(family(errors.NetmeasureError))
    assert everywhere >= set(TREE)
    assert all("code" in vars(error) for error in everywhere)
    codes = [error.code for error in everywhere]
    assert len(set(codes)) == len(codes)
    assert all(code and code == code.lower() and code.isidentifier() for code in codes)


@EVERY_ERROR
def test_message_hint_and_result(error: type[errors.NetmeasureError]) -> None:
    raised = error("what is wrong", hint="what to do")
    assert str(raised) == "what is wrong"
    assert raised.hint == "what to do"
    assert error("x").hint == getattr(error, "usual_hint", None)
    if isinstance(raised, errors.MeasureError) and issubclass(error, errors.MeasureError):
        assert raised.phase is None
        assert raised.result is None
        assert error("x", phase="connect").phase == "connect"


@EVERY_ERROR
def test_errors_can_be_pickled(error: type[errors.NetmeasureError]) -> None:
    raised = error("what is wrong", hint="what to do")
    if isinstance(raised, errors.MeasureError):
        raised.phase = "connect"
    copied = pickle.loads(pickle.dumps(raised))
    assert type(copied) is error
    assert str(copied) == "what is wrong"
    assert vars(copied) == vars(raised)


@pytest.mark.parametrize(
    ("error", "base"),
    [
        (errors.SpecError, ValueError),
        (errors.ResultFormatError, ValueError),
        (errors.ConnectTimeoutError, TimeoutError),
        (errors.ConnectTimeoutError, errors.ConnectError),
        (errors.ConnectRefusedError, errors.ConnectError),
        (errors.UnreachableError, errors.ConnectError),
        (errors.PeerTimeoutError, TimeoutError),
        (errors.LocalProtocolError, errors.ProtocolError),
        (errors.RemoteProtocolError, errors.ProtocolError),
        (errors.ProtocolError, errors.MeasureError),
    ],
)
def test_kinship(error: type[Exception], base: type[Exception]) -> None:
    assert issubclass(error, base)
