"""Test campaigns: every case runs and is kept, and a campaign can be resumed; commands; cases that
can't be measured."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

import netmeasure as nm
from support.ports import nobody

RunLoop = Callable[[Coroutine[Any, Any, Any]], Any]


def plan(port: int, *, runs: int = 2, variants: Any = None) -> nm.Plan:
    return nm.plan_of(
        {
            "target": "127.0.0.1",
            "port": port,
            "runs": runs,
            "seed": 3,
            "baseline_s": 0,
            "defaults": {"duration_s": 0.05},
            "variant": variants or [{"name": "a"}, {"name": "b", "settings": {"streams": 2}}],
            "test": [{"kind": "tcp"}, {"kind": "rr", "streams": 1}],
        }
    )


def keys(runs: list[nm.SuiteRun]) -> list[tuple[int, str, str]]:
    return [(run.round, run.test, run.variant) for run in runs]


def test_an_interrupted_campaign_is_resumed_where_it_stopped(run: RunLoop, tmp_path: Path) -> None:
    file = tmp_path / "runs.jsonl"

    async def main() -> None:
        async with nm.serve("127.0.0.1", 0) as server:
            chosen = plan(server.port)
            campaign = nm.Campaign(chosen, keep=file)
            assert campaign.planned == 8
            async with contextlib.aclosing(campaign.run()) as runs:
                async for _ in runs:
                    if len(campaign.runs) == 3:
                        break
            before = keys(campaign.runs)
            with file.open("ab") as broken:
                broken.write(b'{"round": 2, "cut of')
            again = nm.Campaign(chosen, keep=file)
            assert keys(again.runs) == before
            assert again.runs[0].result == campaign.runs[0].result
            rest = [one async for one in again.run()]
            whole = nm.Campaign(chosen, keep=file)
            assert keys(whole.runs) == keys(again.runs) == before + keys(rest)
            assert len(set(keys(whole.runs))) == 8
            assert whole.left() == []
            assert whole.suite.complete
            assert whole.suite == again.suite
            cell = whole.suite.rows[0].cells[1]
            assert cell.runs is not None
            assert [one.complete for one in cell.runs.runs] == [True, True]
            with pytest.raises(nm.SpecError, match="has the runs of another plan"):
                nm.Campaign(plan(server.port, runs=3), keep=file)

    run(main())


def test_commands_set_up_a_variant(run: RunLoop, tmp_path: Path) -> None:
    log = tmp_path / "log"
    words = 'echo "$NETMEASURE_VARIANT $NETMEASURE_ROUND $NETMEASURE_ADDRESS'
    fails = "echo first; echo no such plug-in >&2; exit 3"
    variants = [
        {"name": "good", "before": ["sh", "-c", f'{words}" >>{log}; sleep 1 &']},
        {"name": "bad", "before": ["sh", "-c", fails], "after": ["sh", "-c", f"echo >>{log}"]},
        {"name": "lost", "before": ["/nowhere/at/all"]},
    ]

    async def main() -> nm.Campaign:
        async with nm.serve("127.0.0.1", 0) as server:
            campaign = nm.Campaign(plan(server.port, runs=1, variants=variants))
            async for _ in campaign.run():
                pass
            return campaign

    campaign = run(main())
    assert log.read_text() == "good 1 127.0.0.1\n" * 2
    errors = {one.variant: one.error for one in campaign.runs}
    assert errors["good"] is None
    assert errors["bad"] == f"sh -c {fails} ended with 3: no such plug-in"
    assert errors["lost"] == "can't run /nowhere/at/all: No such file or directory"
    assert not campaign.suite.complete


def test_a_command_has_a_deadline_and_dies_with_the_campaign(run_once: RunLoop) -> None:
    variants = [{"name": "slow", "before": ["sleep", "60"]}]
    hopeless = plan(1, variants=variants)  # no test of it begins

    async def main() -> None:
        campaign = nm.Campaign(nm.plan_of({"command_timeout_s": 0.1, **document}))
        runs = [one async for one in campaign.run()]
        assert [one.error for one in runs] == ["sleep 60 took more than 0.1 s"]
        task = asyncio.ensure_future(anext(nm.Campaign(hopeless).run()))
        await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    document = {
        "target": "127.0.0.1",
        "baseline_s": 0,
        "variant": variants,
        "test": [{"kind": "rr"}],
    }
    run_once(main())


def test_a_case_that_measures_nothing_is_given_up(run_once: RunLoop) -> None:
    async def main() -> nm.Campaign:
        with nobody() as port:
            campaign = nm.Campaign(plan(port, variants=[{"name": "a"}]))
            async for _ in campaign.run():
                pass
        return campaign

    campaign = run_once(main())
    assert keys(campaign.runs)
    assert {number for number, *_ in keys(campaign.runs)} == {1}
    assert set(campaign.given_up) == {("TCP upload", "", "a"), ("round trips", "", "a")}
    assert all(
        "refused the connection (is a server running there" in why
        for why in campaign.given_up.values()
    )


@pytest.mark.parametrize(
    "text",
    ["hello\n", "no end of a line", "two\nlines", '{"suite_version": 9, "plan": "x", "seed": 1}\n'],
)
def test_a_file_with_other_content_is_refused_and_not_changed(text: str, tmp_path: Path) -> None:
    file = tmp_path / "notes"
    file.write_text(text)
    with pytest.raises(nm.SpecError, match="notes: "):
        nm.Campaign(plan(1), keep=file)
    assert file.read_text() == text


def test_a_file_with_only_a_part_of_the_first_line_is_emptied(tmp_path: Path) -> None:
    file = tmp_path / "runs"
    file.write_text('{"suite_version": 1, "pl')
    assert nm.Campaign(plan(1), keep=file).runs == []
    assert file.read_text() == ""
