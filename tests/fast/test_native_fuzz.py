"""Run the native fuzz targets for a moment; `make fuzz` runs them for long."""

from __future__ import annotations

from pathlib import Path

import pytest
from fuzz import native

GUIDED, RANDOM = "guided", "random"
RUNS = {GUIDED: 20_000, RANDOM: 2_000}


@pytest.mark.parametrize("how", [GUIDED, RANDOM])
@pytest.mark.parametrize("name", native.TARGETS)
def test_no_finding(name: str, how: str, tmp_path: Path) -> None:
    """Guided by coverage (clang), and on random inputs (gcc), under Address- and UBSanitizer."""
    program = native.build(name, tmp_path, guided=how == GUIDED)
    if isinstance(program, str):
        pytest.skip(program)
    status, said = native.run(program, RUNS[how], tmp_path / "corpus", guided=how == GUIDED)
    assert status == 0, said[-4000:]
    assert native.executions(said) == RUNS[how]


@pytest.mark.parametrize("name", native.TARGETS)
def test_a_target_states_its_invariant(name: str) -> None:
    """In one sentence, as the comment at its beginning."""
    sentence = native.invariant(name)
    assert len(sentence) > 40
    assert sentence.count(".") == 1
    assert sentence.endswith(".")


@pytest.mark.parametrize("how", [GUIDED, RANDOM])
@pytest.mark.parametrize(
    ("fault", "report"),
    [
        ("CHECK(size < 20);", "failed: size < 20"),
        (
            # volatile: a compiler that knew the size would find it before AddressSanitizer does
            "volatile size_t n = 9; char *volatile p = calloc(n, 1); CHECK(p[n + size] != 7);"
            " free(p);",
            "AddressSanitizer",
        ),
        ("volatile int n = 0x7fffffff; n += (int)size; CHECK(n != 7);", "signed integer overflow"),
    ],
    ids=["invariant", "address", "undefined"],
)
def test_a_fault_is_found(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, fault: str, report: str, how: str
) -> None:
    """The targets, built and run in the same way, can fail."""
    for name in ("input.h", "driver.c"):
        (tmp_path / name).write_text((native.SOURCES / name).read_text())
    (tmp_path / "faulty.c").write_text(
        '#include "input.h"\nint LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {\n'
        f"    (void)data;\n    {fault}\n    return 0;\n}}\n"
    )
    monkeypatch.setattr(native, "SOURCES", tmp_path)
    program = native.build("faulty", tmp_path, guided=how == GUIDED)
    if isinstance(program, str):
        pytest.skip(program)
    status, said = native.run(program, 5_000, tmp_path / "corpus", guided=how == GUIDED)
    assert status != 0
    assert report in said
    assert native.executions(said) == 0
