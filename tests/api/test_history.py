"""The history of runs, on SQLite and on PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from msgspec.structs import replace

import netmeasure as nm
from netmeasure.result.document import ErrorRecord
from netmeasure.spec import TcpSpec
from support.nights import import_linear_algebra, night, nights, rates
from support.recorded import recorded


def setup_module() -> None:
    import_linear_algebra()


@pytest.fixture
def place(database: str, tmp_path: Path) -> str:
    """Return a new database: a file, or the URL of a server's."""
    return database or str(tmp_path / "history.sqlite")


@pytest.fixture
def history(place: str) -> Iterator[nm.History]:
    with nm.History(place) as found:
        yield found


def open_changes(history: nm.History) -> list[nm.Change]:
    return [change for change in history.check() if not change.acknowledged]


def test_a_change_is_reported_with_its_time(history: nm.History) -> None:
    history.add(nights(rates((20, 1e9), (10, 0.9e9))), {"cni": "1.3.1"})
    found = {change.metric: change for change in history.check()}
    assert set(found) == {"steady_bps", "from_first_attempt_bps"}
    steady = found["steady_bps"]
    assert (steady.target, steady.test) == ("lab1:5201", "TCP upload")
    assert (steady.direction, steady.labels) == ("upload", {"cni": "1.3.1"})
    assert steady.after / steady.before == pytest.approx(0.9, rel=0.01)
    assert (steady.last_before_at, steady.first_after_at) == (night(19), night(20))
    assert (steady.runs_after, len(steady.values)) == (10, 30)


def test_a_history_without_changes_reports_none(history: nm.History) -> None:
    history.add(nights(rates((40, 1e9))))
    assert history.check() == []


def test_set_up_has_a_history_of_its_own(history: nm.History) -> None:
    same = rates((30, 1e9))
    history.add(nights(same[:20]) + nights(same[20:], first=20, set_up_ns=2_000_000_000))
    moved = {change.metric for change in history.check()}
    assert "set_up_ns" in moved
    assert "steady_bps" not in moved


def test_an_acknowledged_change_is_not_reported_again(history: nm.History) -> None:
    bps = rates((20, 1e9), (20, 0.9e9), (10, 0.8e9))
    history.add(nights(bps[:25]))
    told = open_changes(history)
    numbers = sorted(change.number for change in told)
    assert numbers
    assert [change.number for change in open_changes(history)] == [c.number for c in told]
    assert history.acknowledge(note="new kernel") == numbers
    # more runs move the estimated place of the change by a run or two; it stays the known change
    for count in range(25, 40):
        history.add(nights(bps[count : count + 1], first=count))
        assert open_changes(history) == []
    known = history.check()
    assert {change.note for change in known} == {"new kernel"}
    history.add(nights(bps[40:], first=40))
    fresh = open_changes(history)
    assert {change.first_after_at for change in fresh} == {night(40)}
    assert not set(numbers) & {change.number for change in fresh}


def test_a_change_is_reported_until_it_is_acknowledged(history: nm.History) -> None:
    bps = rates((30, 1e9), (12, 0.95e9), scatter=0.03, seed=8)
    history.add(nights(bps[:30]))
    told: list[set[int]] = [set()]
    for count in range(30, len(bps)):
        told.append({change.number for change in open_changes(history)})
        assert told[-2] <= told[-1]
        history.add(nights(bps[count : count + 1], first=count))
    assert told[1] == set()
    assert told[-1]


def test_one_of_several_changes_is_acknowledged(history: nm.History) -> None:
    history.add(nights(rates((20, 1e9), (10, 0.9e9))))
    first, second = history.check()
    assert history.acknowledge([first.number]) == [first.number]
    assert history.acknowledge([first.number]) == []
    assert [change.number for change in open_changes(history)] == [second.number]
    with pytest.raises(nm.SpecError, match=r"^77 is not the number"):
        history.acknowledge([second.number, 77])
    assert [change.number for change in open_changes(history)] == [second.number]


def test_a_run_is_stored_once(history: nm.History) -> None:
    runs = nights(rates((5, 1e9)))
    assert history.add(runs) == 5
    assert history.add(runs) == 0
    assert history.add(runs, {"kernel": "6.18"}) == 5  # another series
    assert [one.runs for one in history.series()] == [5, 5]


def test_runs_are_ordered_by_their_times(history: nm.History) -> None:
    runs = nights(rates((20, 1e9), (10, 0.9e9)))
    for run in reversed(runs):
        history.add([run])
    assert {change.first_after_at for change in history.check()} == {night(20)}


def test_other_tests_targets_and_labels_are_other_series(history: nm.History) -> None:
    one = recorded(1e9)
    history.add(
        [
            one,
            recorded(1e9, direction="download"),
            recorded(1e9, spec=TcpSpec(streams=4)),
            replace(one, target="lab2:5201"),
        ]
    )
    history.add([one], {"cni": "a", "node": "n1"})
    found = [(series.target, series.test, series.labels) for series in history.series()]
    assert found == [
        ("lab1:5201", "TCP upload", {}),
        ("lab1:5201", "TCP download", {}),
        ("lab1:5201", "TCP upload streams=4", {}),
        ("lab2:5201", "TCP upload", {}),
        ("lab1:5201", "TCP upload", {"cni": "a", "node": "n1"}),
    ]
    assert len(history.series({"cni": "a"})) == 1
    assert history.series({"cni": "b"}) == []


def test_a_run_that_broke_off_is_kept_and_does_not_count(history: nm.History) -> None:
    runs = nights(rates((30, 1e9)))
    broken = [
        replace(
            run,
            complete=False,
            error=ErrorRecord(code="peer_closed", message="the peer is gone"),
        )
        for run in nights([1e8] * 5, first=30)
    ]
    history.add(runs + broken)
    (series,) = history.series()
    assert (series.runs, series.incomplete) == (35, 5)
    assert (series.first_at, series.last_at) == (night(0), night(34))
    assert history.check() == []


def test_only_the_last_runs_are_looked_at(history: nm.History) -> None:
    history.add(nights(rates((20, 1e9), (30, 0.9e9))))
    assert {len(change.values) for change in history.check()} == {40}
    assert history.check(last=20) == []
    with pytest.raises(nm.SpecError, match="the last 9 runs are too few"):
        history.check(last=9)


def test_a_history_outlives_the_process(place: str) -> None:
    with nm.History(place) as one:
        one.add(nights(rates((20, 1e9), (10, 0.9e9))))
        told = one.check()
    with closing(nm.History(place)) as other:
        assert other.check() == told


def test_names_of_series_contain_no_secrets(place: str) -> None:
    spec = nm.HttpSpec(
        url="http://lab1/1G.dat", direction="download", user="me", password="secret",
        headers=("Authorization: secret",),
    )  # fmt: skip
    with nm.History(place) as one:
        one.add([recorded(1e9, direction="download", spec=spec)])
        assert [series.test for series in one.series()] == ["HTTP download"]


# ---- errors --------------------------------------------------------------------------------------


def test_a_file_of_another_kind_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "run.json"
    file.write_bytes(recorded(1e9).to_json())
    with pytest.raises(nm.HistoryError, match="file is not a database") as caught:
        nm.History(str(file))
    assert str(file) in str(caught.value)
    assert file.read_bytes() == recorded(1e9).to_json()


def tables_of(place: str, *statements: str) -> set[str]:
    """Run statements in a database; return the names of its tables."""
    import sqlalchemy

    engine = sqlalchemy.create_engine(place if "://" in place else f"sqlite:///{place}")
    with engine.begin() as connection:
        for statement in statements:
            connection.execute(sqlalchemy.text(statement))
        found = set(sqlalchemy.inspect(connection).get_table_names())
    engine.dispose()
    return found


def test_another_programs_database_is_refused_and_stays_as_it_was(place: str) -> None:
    tables_of(place, "create table runs (id integer)", "create table teams (id integer)")
    with pytest.raises(nm.HistoryError, match="of another program: its table 'runs'"):
        nm.History(place)
    assert tables_of(place) == {"runs", "teams"}


def test_a_file_with_tables_of_another_program_is_refused(tmp_path: Path) -> None:
    file = str(tmp_path / "places.sqlite")
    tables_of(file, "create table bookmarks (id integer)")
    with pytest.raises(nm.HistoryError, match="of another program: its table 'bookmarks'"):
        nm.History(file)
    assert tables_of(file) == {"bookmarks"}


def test_a_file_that_can_not_be_written_can_be_listed(tmp_path: Path) -> None:
    file = tmp_path / "history.sqlite"
    with nm.History(str(file)) as history:
        history.add(nights(rates((20, 1e9), (10, 0.9e9))))
    with nm.History(f"sqlite:///file:{file}?mode=ro&uri=true") as history:
        assert [one.runs for one in history.series()] == [30]
        with pytest.raises(nm.HistoryError, match="attempt to write a readonly database"):
            history.check()


def test_a_missing_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(nm.HistoryError, match="unable to open"):
        nm.History(str(tmp_path / "none" / "history.sqlite"))


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("nothing://lab1/x", "not a database"),
        ("sqlite://lab1/x", "not a database: Invalid SQLite URL"),
        ("postgresql+psycopg2://lab1/x", "needs the package"),
    ],
)
def test_a_url_that_names_no_usable_database_is_refused(url: str, said: str) -> None:
    with pytest.raises(nm.SpecError, match=said) as caught:
        nm.History(url)
    assert "\n" not in str(caught.value)


def test_a_later_version_of_the_tables_is_refused(place: str) -> None:
    nm.History(place).close()
    tables_of(place, "update netmeasure_history set version = 9")
    with pytest.raises(nm.HistoryError, match="has version 9 of its tables"):
        nm.History(place)
