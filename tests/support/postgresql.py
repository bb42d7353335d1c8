"""Run a new PostgreSQL server from Debian's packages, in its own directory, on a Unix socket."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

#: PostgreSQL refuses to run as root.
_USER = "nobody"
_PROGRAMS = Path("/usr/lib/postgresql")
#: The database is deleted afterwards, so it needs no safe writes to disk.
_QUICK = ("-c", "fsync=off", "-c", "synchronous_commit=off", "-c", "full_page_writes=off")
_START_S = 60


def programs() -> Path | None:
    """Return the directory of the newest server's programs; None if there is none."""
    found = sorted(_PROGRAMS.glob("*/bin/initdb"), key=lambda one: float(one.parts[-3]))
    return found[-1].parent if found else None


@contextlib.contextmanager
def server() -> Iterator[str]:
    """Run a server; give the URL of its database for SQLAlchemy."""
    here = programs()
    if here is None:
        raise OSError(f"no server below {_PROGRAMS}")
    root = os.geteuid() == 0
    user = _USER if root else None
    folder = Path(tempfile.mkdtemp(prefix="nm-pg-"))
    words: dict[str, Any] = {"user": user, "cwd": folder, "stdin": subprocess.DEVNULL}
    try:
        if root:
            known = pwd.getpwnam(_USER)
            os.chown(folder, known.pw_uid, known.pw_gid)
        data = folder / "data"
        made = subprocess.run(
            [here / "initdb", "-D", data, "-U", "netmeasure", "-A", "trust", "-E", "UTF8", "-N"],
            capture_output=True,
            text=True,
            timeout=_START_S,
            check=False,
            **words,
        )
        if made.returncode != 0:
            raise OSError(f"initdb: {made.stderr}")
        control = [str(here / "pg_ctl"), "-D", str(data), "-w", "-t", str(_START_S)]
        listen = " ".join(("-k", str(folder), "-h", "''", *_QUICK))
        log = folder / "log"
        begun = subprocess.run(
            [*control, "-l", str(log), "-o", listen, "start"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=2 * _START_S,
            check=False,
            **words,
        )
        if begun.returncode != 0:
            raise OSError(f"PostgreSQL does not start: {log.read_text()}")
        try:
            yield f"postgresql+psycopg://netmeasure@/postgres?host={folder}"
        finally:
            subprocess.run(
                [*control, "-m", "immediate", "stop"],
                capture_output=True,
                timeout=2 * _START_S,
                check=True,
                **words,
            )
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def drop_tables(url: str) -> None:
    """Drop all tables of a database."""
    import sqlalchemy

    engine = sqlalchemy.create_engine(url)
    tables = sqlalchemy.MetaData()
    tables.reflect(engine)
    tables.drop_all(engine)
    engine.dispose()
