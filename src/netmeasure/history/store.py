"""Keep runs, their figures and reported changes in a database, by SQLAlchemy."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from netmeasure.comparison.runs import directions, figures
from netmeasure.errors import HistoryError, SpecError
from netmeasure.history.figures import kept, test_words
from netmeasure.result import Result

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine, MetaData

#: The version of the tables.
VERSION = 1


class SeriesOfRuns(NamedTuple):
    """Identify the runs of one test with the same labels against one target."""

    id: int
    target: str
    test: str
    labels: dict[str, str]


class StoredRun(NamedTuple):
    """Hold one figure of one run."""

    run: int
    started_at: str
    value: float


class KnownChange(NamedTuple):
    """Hold a change that was reported before."""

    id: int
    run: int
    before: float
    after: float
    acknowledged_at: str | None
    note: str | None


class Store:
    """Read and write one database. Use an instance in a single thread, and close it.

    Attributes:
        place: The file, or the URL without its password.
    """

    def __init__(self, place: str, *, make: bool) -> None:
        """Open a database, and create the tables if it is new.

        Args:
            place: A file for SQLite, or a URL of SQLAlchemy's, such as "postgresql+psycopg://...".
            make: Whether to create the file if it does not exist; the tables of a URL's database
                are always created.

        Raises:
            SpecError: SQLAlchemy, or the driver of the URL, is not installed, or the place has
                no name.
            HistoryError: The database can't be opened, does not exist, or belongs to another
                program.
        """
        try:
            import sqlalchemy
        except ImportError:
            raise SpecError(
                "a history needs SQLAlchemy", hint="pip install 'netmeasure[history]'"
            ) from None
        self._sql = sqlalchemy
        if not place:  # SQLite would take it for a database that lasts as long as the connection
            raise SpecError("the history has no name", hint="give a file or a URL")
        url: Any = place
        if "://" not in place:
            if not make and not Path(place).exists():
                raise HistoryError(
                    f"there is no history {place}",
                    hint="history add makes one; --db names another file",
                )
            url = sqlalchemy.URL.create("sqlite", database=place)
        try:
            self._engine: Engine = sqlalchemy.create_engine(url)
        except (sqlalchemy.exc.ArgumentError, sqlalchemy.exc.NoSuchModuleError) as exc:
            raise SpecError(
                f"not a database: {str(exc).splitlines()[0]}",
                hint="give a file, or a URL such as postgresql://HOST/NAME",
            ) from None
        except ImportError as exc:
            raise SpecError(
                f"this database needs the package {exc.name}", hint=f"pip install {exc.name}"
            ) from None
        self._meta = _tables(sqlalchemy)
        self._tables = self._meta.tables
        self.place = place if "://" not in place else self._engine.url.render_as_string()
        try:
            with self._begin() as connection:
                self._check_owner(connection)
                self._meta.create_all(connection)
                self._check_version(connection)
        except BaseException:
            self.close()
            raise

    @property
    def is_in_memory(self) -> bool:
        """Return whether the database lasts only until `close`."""
        if self._engine.dialect.name != "sqlite":
            return False
        with self._begin() as connection:  # (number, name, file) of the main database and others
            main = connection.exec_driver_sql("PRAGMA database_list").first()
        return main is not None and not main[2]

    def close(self) -> None:
        """Close all connections."""
        self._engine.dispose()

    @contextmanager
    def _begin(self) -> Iterator[Connection]:
        """Yield a connection in a transaction. Raises HistoryError for errors of the database."""
        try:
            with self._engine.begin() as connection:
                yield connection
        except self._sql.exc.SQLAlchemyError as exc:
            reason = getattr(exc, "orig", None) or exc
            words = " ".join(str(reason).split())
            raise HistoryError(
                f"can't use the history {self.place}: {words}",
                hint="check the path or URL, and who may write there",
                reason=words,
            ) from None

    def _check_owner(self, connection: Connection) -> None:
        """Raise HistoryError for another program's database: an SQLite file with any tables, or a
        database whose tables have the names of a history's."""
        found = set(self._sql.inspect(connection).get_table_names())
        if "netmeasure_history" in found:
            return
        others = found if self._engine.dialect.name == "sqlite" else found & set(self._tables)
        if others:
            raise HistoryError(
                f"{self.place} is the database of another program: its table {min(others)!r} is not"
                " a history's",
                hint="name another file or database",
            )

    def _check_version(self, connection: Connection) -> None:
        table = self._tables["netmeasure_history"]
        found = connection.scalar(self._sql.select(table.c.version))
        if found is None:
            connection.execute(table.insert().values(version=VERSION))
        elif found != VERSION:
            raise HistoryError(
                f"the history {self.place} has version {found} of its tables; this netmeasure"
                f" reads version {VERSION}",
                hint="use the netmeasure that wrote it, or another file",
            )

    def _insert(self, connection: Connection, table: str, row: Mapping[str, object]) -> int:
        """Insert a row; return its number."""
        made = connection.execute(self._tables[table].insert().values(**row))
        key: Any = made.inserted_primary_key
        return int(key[0])

    # ---- runs -----------------------------------------------------------------------------------

    def add(self, results: Iterable[Result], labels: Mapping[str, str]) -> int:
        """Store the figures of runs; return how many were new."""
        with self._begin() as connection:
            return sum(self._add(connection, result, dict(labels)) for result in results)

    def _add(self, connection: Connection, result: Result, labels: dict[str, str]) -> bool:
        runs, series = self._tables["runs"], self._tables["series"]
        ways = {way: kept(figures(result, way)) for way in directions([result])}
        key = {
            "target": result.target,
            "test": test_words(result.spec),
            "labels": json.dumps(labels, sort_keys=True),
        }
        digest = sha256(
            json.dumps([result.started_at, key, ways], sort_keys=True).encode()
        ).hexdigest()
        select = self._sql.select
        if connection.scalar(select(runs.c.id).where(runs.c.digest == digest)) is not None:
            return False
        same = [series.c[name] == value for name, value in key.items()]
        owner = connection.scalar(select(series.c.id).where(*same))
        if owner is None:
            owner = self._insert(connection, "series", key)
        row = {
            "series": owner,
            "digest": digest,
            "started_at": result.started_at,
            "complete": result.complete,
        }
        run = self._insert(connection, "runs", row)
        rows = [
            {"run": run, "direction": way, "metric": metric, "value": value}
            for way, found in ways.items()
            for metric, value in found.items()
        ]
        if rows:
            connection.execute(self._tables["figures"].insert(), rows)
        return True

    def series(self, labels: Mapping[str, str]) -> list[SeriesOfRuns]:
        """Return all series that have at least these labels, in order of their first run."""
        table = self._tables["series"]
        with self._begin() as connection:
            rows = connection.execute(self._sql.select(table).order_by(table.c.id)).all()
        found = [SeriesOfRuns(r.id, r.target, r.test, json.loads(r.labels)) for r in rows]
        return [one for one in found if labels.items() <= one.labels.items()]

    def runs(self, series: int) -> list[tuple[str, bool]]:
        """Return start and completeness of all runs of a series, in order of time."""
        table = self._tables["runs"]
        query = (
            self._sql.select(table.c.started_at, table.c.complete)
            .where(table.c.series == series)
            .order_by(table.c.started_at, table.c.id)
        )
        with self._begin() as connection:
            return [(row.started_at, row.complete) for row in connection.execute(query)]

    def values(self, series: int, last: int) -> dict[tuple[str, str], list[StoredRun]]:
        """Return the newest values of each direction and metric of a series, in order of time."""
        runs, figures = self._tables["runs"], self._tables["figures"]
        query = (
            self._sql.select(
                figures.c.direction, figures.c.metric, runs.c.id, runs.c.started_at, figures.c.value
            )
            .join_from(figures, runs, figures.c.run == runs.c.id)
            .where(runs.c.series == series)
            .order_by(runs.c.started_at, runs.c.id)
        )
        found: dict[tuple[str, str], list[StoredRun]] = {}
        with self._begin() as connection:
            for way, metric, run, at, value in connection.execute(query):
                found.setdefault((way, metric), []).append(StoredRun(run, at, value))
        return {key: values[-last:] for key, values in found.items()}

    # ---- changes --------------------------------------------------------------------------------

    def known(self, series: int, direction: str, metric: str) -> list[KnownChange]:
        """Return the changes of one figure that were reported before."""
        table = self._tables["changes"]
        query = (
            self._sql.select(table)
            .where(
                table.c.series == series, table.c.direction == direction, table.c.metric == metric
            )
            .order_by(table.c.id)
        )
        with self._begin() as connection:
            return [
                KnownChange(r.id, r.run, r.before, r.after, r.acknowledged_at, r.note)
                for r in connection.execute(query)
            ]

    def looked(self, series: int) -> int:
        """Return the number of the last run that existed at the last check; 0: there was no
        check."""
        table = self._tables["looks"]
        query = self._sql.select(table.c.run).where(table.c.series == series)
        with self._begin() as connection:
            return connection.scalar(query) or 0

    def look(self, series: int) -> None:
        """Record that all runs of a series have been checked."""
        table, runs = self._tables["looks"], self._tables["runs"]
        last = self._sql.select(self._sql.func.max(runs.c.id)).where(runs.c.series == series)
        with self._begin() as connection:
            connection.execute(table.delete().where(table.c.series == series))
            row = {"series": series, "run": connection.scalar(last)}
            connection.execute(table.insert().values(**row))

    def tell(
        self, series: int, direction: str, metric: str, run: int, before: float, after: float
    ) -> int:
        """Store a new change; return its number."""
        row = {
            "series": series,
            "direction": direction,
            "metric": metric,
            "run": run,
            "before": before,
            "after": after,
        }
        with self._begin() as connection:
            return self._insert(connection, "changes", row)

    def acknowledge(self, numbers: Sequence[int] | None, at: str, note: str | None) -> list[int]:
        """Mark changes as acknowledged; None: all open changes. Return the numbers of those that
        were open."""
        table = self._tables["changes"]
        wanted = [table.c.acknowledged_at.is_(None)]
        if numbers is not None:
            wanted.append(table.c.id.in_(numbers))
        with self._begin() as connection:
            found = connection.scalars(self._sql.select(table.c.id).where(*wanted)).all()
            connection.execute(
                table.update().where(table.c.id.in_(found)).values(acknowledged_at=at, note=note)
            )
            return sorted(found)

    def all_changes(self) -> list[int]:
        """Return the numbers of all changes that were ever reported."""
        with self._begin() as connection:
            return list(connection.scalars(self._sql.select(self._tables["changes"].c.id)))


def _tables(sql: Any) -> MetaData:
    """Return the tables. Times are ISO 8601 in UTC and labels are JSON, so that both can be
    compared as texts."""
    meta: MetaData = sql.MetaData()

    def table(name: str, *columns: Any) -> None:
        sql.Table(name, meta, *columns)

    def number() -> Any:
        return sql.Column("id", sql.Integer, primary_key=True)

    def of(other: str, column: str) -> Any:
        return sql.Column(column, sql.ForeignKey(f"{other}.id"), nullable=False, index=True)

    def text(name: str, **more: Any) -> Any:
        return sql.Column(name, sql.Text, **{"nullable": False, **more})

    def double(name: str) -> Any:
        return sql.Column(name, sql.Double, nullable=False)

    table("netmeasure_history", sql.Column("version", sql.Integer, primary_key=True))
    table(
        "series", number(), text("target"), text("test"), text("labels"),
        sql.UniqueConstraint("target", "test", "labels"),
    )  # fmt: skip
    table(
        "runs", number(), of("series", "series"), text("digest", unique=True), text("started_at"),
        sql.Column("complete", sql.Boolean, nullable=False),
    )  # fmt: skip
    table(
        "figures", number(), of("runs", "run"), text("direction"), text("metric"), double("value")
    )
    table(
        "changes", number(), of("series", "series"), text("direction"), text("metric"),
        of("runs", "run"), double("before"), double("after"),
        text("acknowledged_at", nullable=True), text("note", nullable=True),
    )  # fmt: skip
    # added to a database of an earlier version when it is opened
    table("looks", number(), of("series", "series"), of("runs", "run"))
    return meta
