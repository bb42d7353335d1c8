"""Run the source tools as tests: ruff, mypy, stubs against modules, Cython's performance hints."""

from __future__ import annotations

import ast
import importlib
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

import pytest

#: The time limit: mypy has no cache in a fresh clone.
pytestmark = pytest.mark.timeout(600)

ROOT = Path(__file__).parents[2]
FAST = ROOT / "src" / "netmeasure" / "_fast"
SOURCES = sorted(FAST.glob("*.pyx"))


def run_tool(name: str, *arguments: str) -> None:
    """Run one of the tools installed beside this interpreter; a failure shows its output."""
    tool = shutil.which(name, path=str(Path(sys.executable).parent))
    if tool is None:
        pytest.skip(f"{name} is not installed beside {Path(sys.executable).name}")
    ran = subprocess.run([tool, *arguments], cwd=ROOT, capture_output=True, text=True, timeout=500)
    assert ran.returncode == 0, ran.stdout + ran.stderr


def test_ruff_has_nothing_to_say() -> None:
    run_tool("ruff", "check", "--no-cache", "--quiet", ".")


def test_ruff_would_format_nothing() -> None:
    run_tool("ruff", "format", "--no-cache", "--diff", ".")


def test_mypy_has_nothing_to_say() -> None:
    run_tool("mypy")


# ---- stubs ---------------------------------------------------------------------------------------


def public(names: object) -> set[str]:
    return {name for name in vars(names) if not name.startswith("_")}


def stub_of(module: str) -> ast.Module:
    return ast.parse((FAST / f"{module}.pyi").read_text())


def stub_names(body: list[ast.stmt]) -> set[str]:
    """Return what a stub defines, without the names that it imports."""
    names = set()
    for node in body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef):
            names.add(node.name)
        elif isinstance(node, ast.AnnAssign):
            names.add(ast.unparse(node.target))
        elif isinstance(node, ast.Assign):
            names |= {ast.unparse(target) for target in node.targets}
    return {name for name in names if not name.startswith("_")}


def stub_classes(module: str) -> list[ast.ClassDef]:
    """Return the extension types. NamedTuples are left out, since mypy checks them."""
    classes = [node for node in stub_of(module).body if isinstance(node, ast.ClassDef)]
    return [node for node in classes if [ast.unparse(b) for b in node.bases] != ["NamedTuple"]]


MODULES = [source.stem for source in SOURCES]
#: Imported here, not in a test: numpy, which comes along, keeps threads.
COMPILED: dict[str, ModuleType] = {
    module: importlib.import_module(f"netmeasure._fast.{module}") for module in MODULES
}
CLASSES = [(module, node.name) for module in MODULES for node in stub_classes(module)]


def test_every_extension_has_a_stub_and_no_stub_is_left_over() -> None:
    assert {stub.stem for stub in FAST.glob("*.pyi")} == set(MODULES)
    assert MODULES != []


@pytest.mark.parametrize("module", MODULES)
def test_stub_has_the_names_of_its_module(module: str) -> None:
    assert stub_names(stub_of(module).body) == public(COMPILED[module])


@pytest.mark.parametrize(("module", "name"), CLASSES)
def test_stub_has_the_attributes_of_its_class(module: str, name: str) -> None:
    (node,) = (node for node in stub_classes(module) if node.name == name)
    real = getattr(COMPILED[module], name)
    assert stub_names(node.body) == public(real)
    assert [ast.unparse(base) for base in node.bases] == [
        base.__name__ for base in real.__bases__ if base is not object
    ]
    for method in node.body:
        if isinstance(method, ast.FunctionDef) and not method.name.startswith("_"):
            attribute = vars(real)[method.name]
            is_property = [ast.unparse(one) for one in method.decorator_list] == ["property"]
            assert is_property == (type(attribute).__name__ == "getset_descriptor")
            if not is_property:
                # embedsignature: the first line of the docstring is the signature
                line = attribute.__doc__.splitlines()[0]
                assert parameters(line[line.index("(") :]) == stub_parameters(method)


def parameters(signature: str) -> list[str]:
    """Return the names in "(self, int64_t width_ns=10, *, bint on=True)", without types and
    values."""
    inside = signature[signature.index("(") + 1 : signature.rindex(")")]
    pieces = [piece.split("=")[0].strip() for piece in inside.replace("not None", "").split(",")]
    return [piece.split()[-1] for piece in pieces if piece.strip("*/ ")]


def stub_parameters(function: ast.FunctionDef) -> list[str]:
    arguments = function.args
    every = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
    return [argument.arg for argument in every]


@pytest.mark.parametrize(("module", "name"), CLASSES)
def test_stub_has_the_options_of_the_constructor(module: str, name: str) -> None:
    """A subclass has its own options and those of its base."""
    real = {
        parameter
        for base in getattr(COMPILED[module], name).__mro__[:-1]
        for parameter in constructor(base.__module__.rpartition(".")[2], base.__name__)
        if not parameter.startswith("*")
    }
    (node,) = (node for node in stub_classes(module) if node.name == name)
    inits = [f for f in node.body if isinstance(f, ast.FunctionDef) and f.name == "__init__"]
    if inits:  # else the base's, here and there
        assert set(stub_parameters(inits[0])) == real
    else:
        assert constructor(module, name) == []


def constructor(module: str, name: str) -> list[str]:
    """Return the parameters of a class's __cinit__, read from its source."""
    source = (FAST / f"{module}.pyx").read_text()
    body = re.split(r"^cdef class ", source, flags=re.MULTILINE)
    (own,) = (text for text in body if re.match(rf"{name}\b", text))
    found = re.search(r"def __cinit__(\(.*?\)):$", own, flags=re.MULTILINE | re.DOTALL)
    return parameters(found[1]) if found else []


# ---- Cython --------------------------------------------------------------------------------------


def directives() -> dict[str, object]:
    """Return the compiler directives of setup.py, which is the only place that defines them."""
    for node in ast.walk(ast.parse((ROOT / "setup.py").read_text())):
        if isinstance(node, ast.keyword) and node.arg == "compiler_directives":
            found: dict[str, object] = ast.literal_eval(node.value)
            return found
    raise AssertionError("setup.py has no compiler_directives")


def hints(sources: Sequence[Path], folder: Path) -> list[str]:
    """Return Cython's performance hints: each is a place where a native loop would take the GIL."""
    options = [f"--directive={name}={value}" for name, value in directives().items()]
    command = [sys.executable, "-m", "cython", *options, *map(str, sources), "-o", str(folder)]
    ran = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=500)
    assert ran.returncode == 0, ran.stderr
    assert {made.stem for made in folder.glob("*.c")} == {source.stem for source in sources}
    lines = (ran.stdout + ran.stderr).splitlines()
    return [line for line in lines if line.startswith("performance hint:")]


def test_cython_has_no_performance_hint(tmp_path: Path) -> None:
    """One process translates all modules: starting Cython takes as long as two modules."""
    pytest.importorskip("Cython", reason="Cython is not installed here")
    assert hints(SOURCES, tmp_path) == []


def test_a_performance_hint_is_seen(tmp_path: Path) -> None:
    """Rule 3 of the native code is about this case: the GIL is taken after each call of `f`."""
    pytest.importorskip("Cython", reason="Cython is not installed here")
    source = tmp_path / "careless.pyx"
    source.write_text("cdef void f() nogil:\n    pass\n\ndef g():\n    with nogil:\n        f()\n")
    assert len(hints([source], tmp_path)) == 2
