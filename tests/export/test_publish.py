"""Test reports to publish: each number equals the JSON's, one file is enough, both themes exist."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from msgspec.structs import replace

import netmeasure as nm
from netmeasure.cli.exits import Exit
from netmeasure.publishing.colours import LIGHT, MARKS
from netmeasure.publishing.forms import FORMS
from netmeasure.publishing.sections import drawn_phases, shown_phases
from netmeasure.result import ErrorRecord, Result, Series, Stretch
from netmeasure.units import bitrate
from support.full_result import EMPTY, FULL
from support.optional import known
from support.pages import Page, alike, at, numbers, shown
from support.program import netmeasure
from support.recorded import SECOND, SPAN_NS, recorded

pytest.importorskip("matplotlib")

from matplotlib.figure import Figure

SAMPLES = Path(__file__).parents[1] / "samples"
MOST_BYTES = 1_500_000
RUN = recorded(1e9, set_up_ns=3_060_000_000, syns=2, retransmits=3)
FLOW = RUN.flows[0]
SERIES = Series(origin_ns=0, width_ns=1_000_000, bytes=(125_000,) * (SPAN_NS // 1_000_000))
COURSE = replace(
    RUN,
    flows=(
        replace(
            FLOW,
            series=SERIES,
            steady=replace(
                known(FLOW.steady),
                stalls=(Stretch(start_ns=SECOND, end_ns=SECOND + 300_000_000, bytes=0),),
            ),
        ),
    ),
)
ERROR = ErrorRecord(code="refused", message="refused", phase="connect", hint="start a <server>")
FAILED = replace(EMPTY, complete=False, error=ERROR)
NASTY = replace(RUN, target='<script>alert("x")</script>|&')
IMPORTED = nm.import_results((SAMPLES / "iperf3" / "3.12-bidir.json").read_bytes()).results[0]
CASES = {
    "course": COURSE,
    "full": replace(FULL, round_trips=None),
    "trips": FULL,
    "empty": EMPTY,
    "failed": FAILED,
    "nasty": NASTY,
    "iperf3": IMPORTED,
    **{
        f"real {file.stem}": Result.from_json(file.read_bytes())
        for file in sorted((SAMPLES / "terminal").glob("*.json"))
    },
}


@pytest.fixture(autouse=True, scope="module")
def _fonts_are_open() -> None:
    """Let matplotlib open the files of its fonts, which it keeps open."""
    nm.publish(COURSE, "svg")
    nm.publish(COURSE, "png")


def page_of(results: Any) -> tuple[Page, str]:
    text = nm.publish(results, "html").decode()
    return Page(text), text


def held_against(page: Page, results: list[Result]) -> int:
    """Compare each number of a page with the JSON of its run; return how many there are."""
    documents = [json.loads(result.to_json()) for result in results]
    for found, text in page.numbers:
        document, path = documents[int(found["data-run"])], found["data-path"]
        value = at(document, path)
        if "data-growth" in found:
            moments = at(document, path.rpartition(".")[0] + ".at_ns")
            value = (value[-1] - value[0]) / (moments[-1] - moments[0])
        assert float(found["value"]) == value, path
        number = shown(text, second=1e9 if re.search(r"_ns(\.\d+)?$", path) else 1.0)
        assert number.value == pytest.approx(value, rel=1e-9, abs=0.501 * number.last), path
    assert set(page.bare) <= {"unknown"}
    return len(page.numbers)


@pytest.mark.parametrize("name", CASES)
def test_every_number_of_a_page_is_the_documents(name: str) -> None:
    page, text = page_of(CASES[name])
    counted = held_against(page, [CASES[name]])
    assert counted >= {"course": 20, "full": 40, "trips": 20, "iperf3": 10}.get(name, 0)
    assert page.loads == []
    assert "script" not in page.tags
    assert len(text) <= MOST_BYTES


def test_what_a_page_says_of_a_run() -> None:
    page, _ = page_of(COURSE)
    figures = {found["data-path"]: text for found, text in page.numbers}
    assert figures["flows.0.steady.goodput_bps"] == "1.00 Gbit/s"
    assert figures["set_up_ns"] == "3.06 s"
    assert figures["syn_retransmits"] == "2"
    assert figures["flows.0.steady.stalls.0.end_ns"] == "1.300 s"
    assert "stall 1" in page.words


def test_a_page_tells_the_parts_of_fresh_connections() -> None:
    fresh = replace(FULL, requests=None)
    page, _ = page_of(fresh)
    held_against(page, [fresh])
    shown_paths = {found["data-path"] for found, _ in page.numbers}
    parts = {f"{part}_p50_ns" for part in ("connect", "answer")} | {"syn_retransmits"}
    assert {f"round_trips.connections.{part}" for part in parts} <= shown_paths


def test_what_reports_call_the_ends_of_an_interval_and_what_latencies_leave_out() -> None:
    low, high = known(known(COURSE.flows[0].steady).confidence_interval)
    page, _ = page_of(COURSE)
    rows = {row[0]: row[1] for row in page.rows if row}
    assert rows["95 % confidence interval, lower end"] == bitrate(low)
    assert rows["95 % confidence interval, upper end"] == bitrate(high)
    drawing = ElementTree.fromstring(nm.publish(COURSE, "svg"))
    assert "95 % confidence interval" in {node.text for node in drawing.iter()}
    page, _ = page_of(CASES["real loaded"])
    (lost,) = (row for row in page.rows if row[0] == "probes lost under load")
    assert lost[2] == "not counted in the latency"


def test_a_failure_says_what_to_do() -> None:
    page, text = page_of(FAILED)
    assert "INCOMPLETE: refused" in page.words
    assert "start a <server>" in page.words
    assert "<server>" not in text


def test_foreign_text_is_shown_as_text() -> None:
    page, text = page_of(NASTY)
    assert NASTY.target in page.words
    assert "<script" not in text
    assert "<script" not in nm.publish(NASTY, "md").decode()


def test_markdown_holds_nothing_that_acts_on_a_terminal() -> None:
    target = "lab1\x1b]0;title\x07\x9b2J\u202e"
    run = replace(RUN, target=target, error=replace(ERROR, message=target), complete=False)
    for text in (nm.publish(run, "md").decode(), nm.export_results(run, "markdown")):
        assert "lab1\ufffd]0;title\ufffd" in text
        assert not re.search("[\x1b\x07\x9b\u202e]", text)


#: What an edited file may hold: codes of terminals, a change of direction, more characters that XML
#: forbids, and a formula that matplotlib can't parse.
ODD = "lab1\x00\x1b]0;title\x07\x9b2J\u202e\u2028\ufffe\uffff $\\foo$ end"


@pytest.mark.parametrize("to", ["html", "svg", "png"])
def test_reports_of_edited_files_hold_no_control_characters(to: str) -> None:
    phase = replace(COURSE.setup[0], name=ODD, connection=ODD, detail=ODD)
    host = replace(COURSE.client.host, hostname=ODD, kernel=ODD)
    broken = replace(ERROR, message=ODD, hint=ODD)
    client = replace(COURSE.client, host=host)
    run = replace(COURSE, target=ODD, setup=(phase,), client=client, error=broken, complete=False)
    # the name of a file may also have bytes that are not UTF-8
    for results in (run, [(f"{ODD}\udcff", [run]), ("b", [COURSE])]):
        data = nm.publish(results, to)
        if to == "png":
            assert data.startswith(b"\x89PNG\r\n")
            continue
        text = data.decode()
        assert not [letter for letter in ODD if not letter.isprintable() and letter in text]
        if to == "svg":
            words = " ".join(
                "".join(node.itertext()) for node in ElementTree.fromstring(data).iter()
            )
        else:
            words = Page(text).words
        assert "lab1\ufffd\ufffd]0;title\ufffd\ufffd2J" in words


def test_a_page_has_both_themes() -> None:
    _, text = page_of(COURSE)
    assert not [mark for mark in MARKS if mark in text]
    used = set(re.findall(r"var\(--(\w+)\)", text))
    assert used <= set(LIGHT._fields)
    assert {"line", "band", "ramp", "stall"} <= used
    dark = text[text.index("prefers-color-scheme:dark") :]
    assert all(f"--{name}:" in dark for name in used)


def test_every_drawing_says_what_it_shows_and_where_its_numbers_are() -> None:
    _, text = page_of(FULL)
    said = re.findall(r'<figure role="img" aria-label="([^"]+)"><svg', text)
    assert len(said) == text.count("<svg") >= 4
    assert all(one.endswith(". The numbers are in the table below.") for one in said)


def test_identifiers_are_unique() -> None:
    _, text = page_of([COURSE, COURSE])
    found = re.findall(r'\bid="([^"]+)"', text)
    assert len(found) == len(set(found))
    assert set(re.findall(r'href="#([^"]+)"|url\(#([^)]+)\)', text)) <= {
        pair for one in found for pair in ((one, ""), ("", one))
    }


def test_several_runs_have_one_table_and_their_differences() -> None:
    other = replace(recorded(2e9, kernel="6.1"), target="lab2:5201")
    groups = [("one", [COURSE] * 5), ("two", [other] * 5)]
    page, _ = page_of(groups)
    held_against(page, [COURSE] * 5 + [other] * 5)
    rates = [t for f, t in page.numbers if f["data-path"] == "flows.0.steady.goodput_bps"]
    assert rates[:10] == ["1.00 Gbit/s"] * 5 + ["2.00 Gbit/s"] * 5
    assert "client's kernel" in page.words
    assert "A is one, B is two; upload:" in page.words


def test_the_numbers_of_its_sentences_are_the_documents() -> None:
    """The sentences of a comparison have the comparison's numbers, those of a run have the
    run's."""
    runs = [recorded(1e9 + n * 1e6, set_up_ns=3_060_000_000 + n, syns=2) for n in range(3)]
    others = [recorded(0.8e9 + n * 1e6, cpu_ns=370_000_000) for n in range(3)]
    page, _ = page_of([("one", runs), ("two", others)])
    (flow,) = json.loads(nm.compare(runs, others).to_json())["flows"]
    changes = [one["change"] for one in flow["components"] if one["change"]]
    ends = [change[end] for change in (flow["ratio"], *changes) for end in ("value", "low", "high")]
    known = [0.95, *(abs(end) for end in ends), *(abs(end - 1) for end in ends)]
    (said,) = page.sections["All runs"]
    assert len(numbers(said)) > 7
    for text in numbers(said):
        assert any(alike(shown(text), one) for one in known), (text, said)

    page, _ = page_of(runs[0])
    document = json.loads(runs[0].to_json())
    (said,) = page.sections["Notes"]
    places = ["set_up_ns", "syn_retransmits", "flows.0.averages.from_first_attempt_bps"]
    places.append("flows.0.steady.goodput_bps")
    for text, place in zip(numbers(said), places, strict=True):
        assert alike(shown(text), at(document, place)), (text, place)


@pytest.mark.parametrize(
    ("other", "reason"),
    [
        (FAILED, "failed: no run in which anything was measured"),
        (recorded(1e9, direction="download"), "good has only the upload, failed has only the"),
    ],
    ids=["failed", "other direction"],
)
def test_what_can_not_be_compared_is_reported_all_the_same(other: Result, reason: str) -> None:
    early = replace(FAILED, setup=(replace(COURSE.setup[0], syn_retransmits=4),))
    page, _ = page_of([("good", [COURSE]), ("failed", [other, early])])
    assert held_against(page, [COURSE, other, early]) > 20
    assert "good and failed are not compared: " in page.words
    assert reason in page.words
    (row,) = (row for row in page.rows if row[0] == "failed 2" and len(row) == 9)
    assert row[3:8] == ["4", *["unknown"] * 4]


#: What Chromium opens: a run of each kind and a failed one, and five runs against five.
OPENED = {
    "each kind": [
        ("run", [CASES[f"real {name}"] for name in ("tcp", "udp", "http", "ftp", "requests")]),
        ("failed", [CASES["real refused"]]),
    ],
    "five against five": [
        ("one", [CASES["real tcp"]] * 5),
        ("two", [CASES["real both"]] * 5),
    ],
}


@pytest.mark.parametrize("name", OPENED)
def test_a_browser_without_a_network_shows_every_number(name: str, tmp_path: Path) -> None:
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("there is no Chromium")
    groups = OPENED[name]
    file = tmp_path / "report.html"
    file.write_bytes(nm.publish(groups, "html"))
    words = [chromium, "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
    words += [f"--user-data-dir={tmp_path / 'profile'}", "--host-resolver-rules=MAP * ~NOTFOUND"]
    ran = subprocess.run(
        [*words, "--dump-dom", file.as_uri()], capture_output=True, timeout=60, check=True
    )
    page = Page(ran.stdout.decode())
    assert page.numbers == Page(file.read_text()).numbers
    assert held_against(page, [run for _, runs in groups for run in runs]) > 100


def test_many_runs_have_no_parts_of_their_own() -> None:
    page, text = page_of([RUN] * 13)
    assert held_against(page, [RUN] * 13) >= 13 * 5
    assert "All runs" in text
    assert ">Answer<" not in text


def test_a_long_run_makes_no_long_page() -> None:
    long = replace(SERIES, bytes=tuple(range(60_000)))
    run = replace(COURSE, flows=(replace(COURSE.flows[0], series=long),))
    assert len(nm.publish(run, "html")) < MOST_BYTES / 5


def test_pictures() -> None:
    drawing = ElementTree.fromstring(nm.publish(COURSE, "svg"))
    words = " ".join("".join(node.itertext()) for node in drawing.iter())
    assert "Steady bitrate" in words
    assert "1.00 Gbit/s" in words
    assert nm.publish(COURSE, "png").startswith(b"\x89PNG\r\n")
    for result in (FULL, EMPTY, FAILED):
        ElementTree.fromstring(nm.publish(result, "svg"))


@pytest.mark.parametrize(
    ("results", "to"),
    [
        ([COURSE], "html"),
        ([FULL], "svg"),
        ([CASES["real both"]], "svg"),
        ([CASES["real udp"]], "svg"),
        ([("a" * 40, [COURSE] * 2), ("b", [RUN])], "svg"),
    ],
    ids=["course", "full", "both", "udp", "long names"],
)
def test_nothing_is_cut_off_or_hidden(
    results: Any, to: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All of a drawing is on its paper, and what a plot and its labels take is theirs alone."""
    figures: list[Figure] = []
    saved = Figure.savefig

    def save(figure: Figure, *args: Any, **options: Any) -> None:
        saved(figure, *args, **options)
        figures.append(figure)

    monkeypatch.setattr(Figure, "savefig", save)
    nm.publish(results, to)
    assert sum(len(figure.axes) for figure in figures) >= 2
    for figure in figures:
        taken = [known(ax.get_tightbbox()) for ax in figure.axes]
        taken += [known(text.get_window_extent()) for text in figure.texts]
        for box in taken:
            assert box.x0 >= 0
            assert box.y0 >= 0
            assert box.x1 <= figure.bbox.x1
            assert box.y1 <= figure.bbox.y1
        taken.sort(key=lambda box: -box.y1)
        for above, below in pairwise(taken):
            assert above.y0 > below.y1 - 1


@pytest.mark.parametrize("name", CASES)
def test_markdown(name: str) -> None:
    lines = nm.publish(CASES[name], "md").decode().splitlines()
    assert lines[0].startswith("# ")
    tables = [line for line in lines if line.startswith("|")]
    assert any("set-up" in line for line in tables)


@pytest.mark.parametrize(
    ("results", "to", "words"),
    [(RUN, "pdf", "can't be 'pdf'"), ([], "md", "no result")],
)
def test_refusals(results: Any, to: str, words: str) -> None:
    with pytest.raises(nm.SpecError, match=words):
        nm.publish(results, to)


def test_without_matplotlib(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(nm.SpecError, match="need matplotlib") as caught:
        nm.publish(RUN, "svg")
    assert "netmeasure[report]" in (caught.value.hint or "")
    assert nm.publish(RUN, "md").startswith(b"# TCP")


def test_the_program(tmp_path: Path) -> None:
    file, out = tmp_path / "run.json", tmp_path / "run.HTML"
    file.write_bytes(RUN.to_json())
    ran = netmeasure("report", str(file), "-o", str(out))
    assert (ran.returncode, ran.stdout, ran.stderr) == (Exit.OK, "", "")
    assert out.read_bytes().startswith(b"<!doctype html>")
    ran = netmeasure("report", str(file), "-o", str(tmp_path / "run.pdf"))
    assert ran.returncode == Exit.USAGE
    assert all(f".{form}" in ran.stderr for form in FORMS)
    assert not (tmp_path / "run.pdf").exists()


def test_matplotlib_is_loaded_for_charts_only(tmp_path: Path) -> None:
    file = tmp_path / "run.json"
    file.write_bytes(RUN.to_json())
    code = (
        "import sys, netmeasure as nm; nm.publish\n"
        "from netmeasure.cli import options; options.parser()\n"
        f"result = nm.Result.from_json(open({str(file)!r}).read())\n"
        "nm.publish(result, 'md')\n"
        "assert 'matplotlib' not in sys.modules\n"
        "nm.publish(result, 'svg')\n"
        "assert 'matplotlib' in sys.modules and 'matplotlib.pyplot' not in sys.modules"
    )
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True, timeout=60)


def test_the_last_reply_does_not_squeeze_set_up() -> None:
    reply = nm.Phase(
        name="final_reply", connection="stream 1 control", start_ns=60 * SECOND, duration_ns=SECOND
    )
    result = replace(RUN, setup=(*RUN.setup, reply))
    assert len(shown_phases(result)) == len(RUN.setup) + 1  # the table has it
    assert drawn_phases(result) == shown_phases(RUN)
    only = replace(result, setup=(reply,))
    assert drawn_phases(only) == [0]
