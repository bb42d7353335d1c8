"""Test files of `suite --keep` as the input of `compare`, `history`, `check` and `report`."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import pytest

import netmeasure as nm
from netmeasure.campaign.journal import Journal
from netmeasure.cli.exits import Exit
from support.program import netmeasure, one_line
from support.recorded import recorded

RATES = (1.0e9, 1.001e9, 0.999e9, 1.0005e9, 0.9995e9)
TEXT = """
title = "two kernels"
target = "lab"
[[test]]
kind = "tcp"
direction = "download"
[[variant]]
name = "old"
[[variant]]
name = "new"
"""
PLAN = nm.read_plan(TEXT)


def keep(path: Path, old: float = 1.0, new: float = 1.0) -> str:
    """Write the runs of a campaign, the new variant's first."""
    journal = Journal(path, PLAN)
    journal.begin(7, None)
    (test,) = {case.test for case in PLAN.cases}
    for number, rate in enumerate(RATES, 1):
        for variant, factor in (("new", new), ("old", old)):
            result = recorded(rate * factor, direction="download")
            journal.add(
                nm.SuiteRun(round=number, test=test, target="", variant=variant, result=result)
            )
    return str(path)


def test_two_campaigns_are_one_table(tmp_path: Path) -> None:
    before, after = keep(tmp_path / "week1.jsonl"), keep(tmp_path / "week2.jsonl", new=0.8)
    ran = netmeasure("compare", before, after, "--fail-below", "95%")
    assert (ran.returncode, ran.stderr) == (Exit.BELOW, "")
    assert "week2 against week1" in ran.stdout
    assert "week2 carries less than week1: TCP download, new" in ran.stdout
    assert "week2 carries the same as week1 within 2 %: TCP download, old" in ran.stdout
    assert netmeasure("compare", before, before, "--fail-below", "95%").returncode == Exit.OK


def test_a_campaign_and_single_runs_are_not_compared(tmp_path: Path) -> None:
    single = tmp_path / "run.json"
    single.write_bytes(recorded(1e9).to_json())
    ran = netmeasure("compare", keep(tmp_path / "a.jsonl"), str(single))
    assert ran.returncode == Exit.USAGE
    assert "run.json has single runs" in one_line(ran.stderr)


def test_variants_are_series_of_their_own(tmp_path: Path) -> None:
    pytest.importorskip("sqlalchemy")
    file, db = keep(tmp_path / "a.jsonl"), str(tmp_path / "h.db")
    ran = netmeasure("history", "add", file, "--db", db)
    assert (ran.returncode, ran.stdout) == (Exit.OK, "added 10 of 10 runs\n")
    listed = netmeasure("history", "list", "--db", db).stdout.splitlines()
    assert len(listed) == 2
    assert sorted("variant=old" in line for line in listed) == [False, True]


def test_a_page_of_a_campaign(tmp_path: Path) -> None:
    file, page = keep(tmp_path / "a.jsonl", new=0.8), tmp_path / "page.html"
    ran = netmeasure("report", file, "-o", str(page))
    assert (ran.returncode, ran.stderr) == (Exit.OK, "")
    text = page.read_text()
    assert text.index(">old<") < text.index(">new<"), "the plan's order, not that of the runs"
    assert "new carries less than old" in text
    assert "<title>two kernels: 10 runs" in text


def test_a_file_that_is_none_is_left_as_it_is(tmp_path: Path) -> None:
    file = tmp_path / "notes.txt"
    file.write_text("precious, without an end of line")
    with pytest.raises(nm.SpecError, match="not a file of a campaign's runs"):
        Journal(file, PLAN)
    assert file.read_text() == "precious, without an end of line"


def test_a_damaged_line_is_named(tmp_path: Path) -> None:
    file = Path(keep(tmp_path / "a.jsonl"))
    file.write_bytes(file.read_bytes() + b'{"round": 1}\n')
    ran = netmeasure("compare", str(file), str(file))
    assert ran.returncode == Exit.USAGE
    assert "a.jsonl: line 12: " in one_line(ran.stderr)


def test_objectives_are_held_against_each_test_of_each_variant(tmp_path: Path) -> None:
    """The file has all runs, so nothing is measured."""
    plan, page, junit = (tmp_path / name for name in ("plan.toml", "page.html", "junit.xml"))
    plan.write_text(TEXT)
    words = ["suite", str(plan), "--keep", keep(tmp_path / "a.jsonl", new=0.8), "-q"]
    files = ["--html", str(page), "--junit", str(junit)]
    ran = netmeasure(*words, *files, "--slo", "steady>900M")
    assert (ran.returncode, ran.stderr) == (Exit.BELOW, "")
    assert [line for line in ran.stdout.splitlines() if line.startswith("slo: ")] == [
        "slo: TCP download, new: missed steady>900M (download): 800 Mbit/s",
        "slo: TCP download, old: met steady>900M (download): 1.00 Gbit/s",
    ]
    suites = ElementTree.fromstring(junit.read_bytes())
    counts = {one.get("name"): (one.get("tests"), one.get("failures")) for one in suites}
    assert counts == {
        "netmeasure TCP download, new": ("1", "1"),
        "netmeasure TCP download, old": ("1", "0"),
    }
    assert "new carries less than old" in page.read_text()
    assert netmeasure(*words, "--slo", "steady>700M").returncode == Exit.OK
    assert netmeasure(*words, "--slo", "loss<1%").returncode == Exit.CANT_TELL
    assert netmeasure(*words, "--slo", "speed>1").returncode == Exit.USAGE


def test_a_kept_campaign_is_checked_test_by_test(tmp_path: Path) -> None:
    ran = netmeasure("check", keep(tmp_path / "a.jsonl", new=0.8), "--slo", "steady>900M")
    assert ran.returncode == Exit.BELOW
    assert "slo: TCP download, old: met steady>900M" in ran.stdout
