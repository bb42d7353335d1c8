"""Test the census of threads, descriptors and children: it must find all that a test leaves."""

from __future__ import annotations

import os
import subprocess
import threading
from pathlib import Path

import pytest

from support import census


def new(before: census.Census) -> list[str]:
    return census.difference(before, census.take())


def test_a_thread_and_a_descriptor_are_seen() -> None:
    before, end = census.take(), threading.Event()
    thread = threading.Thread(target=end.wait, name="left-over")
    thread.start()
    reader, writer = os.pipe()
    assert len(new(before)) == 3
    assert f"threads: {thread.native_id} left-over" in new(before)
    end.set()
    thread.join()
    os.close(reader)
    os.close(writer)
    assert census.leftovers(before) == []


@pytest.mark.parametrize("listed", [True, False])
def test_a_child_is_seen_whoever_made_it_dead_or_alive(
    listed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """This also holds if the kernel does not list the children of a thread."""
    if not listed:
        monkeypatch.setattr(census, "_LISTED", Path("/nowhere"))
    before = census.take()
    children: list[subprocess.Popen[bytes]] = []
    maker = threading.Thread(target=lambda: children.append(subprocess.Popen(["sleep", "60"])))
    maker.start()
    maker.join()
    (child,) = children
    assert f"children: {child.pid} sleep" in census.settle(lambda: new(before))
    child.kill()
    assert census.settle(lambda: f"children: {child.pid} sleep (zombie)" in new(before))
    child.wait()
    assert census.leftovers(before) == []
