"""Test `import netmeasure`: it offers every name, and loads nothing before its first use."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

import netmeasure
from support.recorded import recorded


def test_every_public_name_is_there() -> None:
    for name in netmeasure.__all__:
        value = getattr(netmeasure, name)
        home = getattr(value, "__module__", "netmeasure")
        assert home.startswith("netmeasure"), name


def test_no_module_hides_a_public_name() -> None:
    """The import of a module makes it an attribute of the package, which could replace a public
    name."""
    modules = {path.stem for path in Path(netmeasure.__file__).parent.iterdir()}
    assert modules & set(netmeasure.__all__) == {"units"}


def test_what_is_not_public_is_no_attribute() -> None:
    assert not hasattr(netmeasure, "import_module_of_nothing")
    assert not hasattr(netmeasure, "asyncio")  # of a module where the names are looked for


def test_importing_the_package_loads_nothing_heavy() -> None:
    heavy = {"numpy", "asyncio", "msgspec", "aiohttp", "rich", "prometheus_client"}
    heavy |= {"pandas", "pyarrow", "matplotlib", "sqlalchemy", "distributed"}
    code = f"import sys, netmeasure; print(sorted({heavy!r} & set(sys.modules)))"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"


def test_completion_and_help_know_every_public_name() -> None:
    """In a new process, no name has been used yet."""
    code = (
        "import pydoc, sys, netmeasure as nm\n"
        "print(sorted(set(nm.__all__) - set(dir(nm))))\n"
        "print(pydoc.plain(pydoc.render_doc(nm)))"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    missing, _, page = ran.stdout.partition("\n")
    assert missing == "[]"
    assert "nm.measure(server.address" in page, "an example comes first"
    for name in ("measure", "serve", "TcpSpec", "Result", "compare"):
        assert re.search(rf"^    (async |class )?{name}\(", page, flags=re.MULTILINE), name


def test_a_version_is_told_without_the_engine() -> None:
    code = (
        "import sys; from netmeasure.cli.iperf3.program import main; main(['-v']);"
        "print(sorted({'numpy', 'asyncio', 'msgspec', 'uvloop', 'rich'} & set(sys.modules)))"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize(
    ("code", "needed"),
    [
        ("from netmeasure.cli import main; main(['--version'])", []),
        # no server waits for numpy before its port is open; a library's loop never has to
        ("import netmeasure.cli.server", ["asyncio"]),
        ("from netmeasure import serve", ["asyncio", "numpy"]),
        ("from netmeasure import measure", ["asyncio", "numpy"]),
        ("from netmeasure import serve_ftp", ["asyncio"]),
        ("from netmeasure import read_users", []),
    ],
)
def test_nothing_is_loaded_that_is_not_needed(code: str, needed: list[str]) -> None:
    heavy = {"aiohttp", "asyncio", "numpy", "rich", "uvloop"}
    code = f"import sys; {code}; print(sorted({heavy!r} & set(sys.modules)))"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.splitlines()[-1] == str(needed)


def test_what_extras_install_is_loaded_by_its_use_alone() -> None:
    extras = {"matplotlib", "pandas", "pyarrow", "prometheus_client", "sqlalchemy", "ruptures"}
    extras |= {"distributed", "cryptography"}
    code = (
        "import sys, netmeasure as nm\n"
        "for name in dir(nm): getattr(nm, name)\n"
        "from netmeasure.cli import options\n"
        "options.parser()\n"
        "result = nm.Result.from_json(sys.stdin.buffer.read())\n"
        "repr(result), result._repr_html_(), nm.to_arrays(result), nm.publish(result, 'md')\n"
        "nm.export_results(result, 'csv'), nm.export_results(result, 'influx')\n"
        f"print(sorted({extras!r} & set(sys.modules)))"
    )
    document = recorded(1e9).to_json()
    ran = subprocess.run([sys.executable, "-c", code], input=document, capture_output=True)
    assert (ran.stdout.strip(), ran.stderr) == (b"[]", b"")
