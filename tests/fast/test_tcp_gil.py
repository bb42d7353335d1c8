"""Run Python while the native loops run."""

from __future__ import annotations

import subprocess
import sys

import pytest

from support.tcp_rig import (
    PATIENCE_S,
)

_GIL = """
import socket, sys, threading
from netmeasure._fast.tcp import Receiver, Sender
from netmeasure._fast.worker import Group

with socket.create_server(("127.0.0.1", 0)) as listener:
    left = socket.create_connection(listener.getsockname())
    right, _ = listener.accept()
sending, receiving = Group(), Group()
sender = Sender(sending, left.fileno(), payload=bytes(65536))
receiver = Receiver(receiving, right.fileno(), discard=True)
threads = [threading.Thread(target=loop.run) for loop in (receiver, sender)]
for thread in threads:
    thread.start()
if sys.argv[1] == "moving":
    sending.open()
    while not receiver.bytes:
        pass
sum(range(1_000_000))  # the receiver has no data and the gate is shut, or both are hard at work
before = receiver.bytes
while sys.argv[1] == "moving" and receiver.bytes == before:
    pass
sending.stop()
if sys.argv[1] == "idle":
    left.close()
for thread in threads:
    thread.join()
print("free", receiver.reason, receiver.bytes == sender.bytes)
"""


@pytest.mark.parametrize("what", ["idle", "moving"])
def test_python_runs_while_the_loops_do(what: str) -> None:
    """Nothing ends these loops but the Python thread, which therefore must get to its end; in a
    process of its own, since one whose interpreter is held could not even report it."""
    command = [sys.executable, "-c", _GIL, what]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S)
    assert (ran.stdout, ran.stderr) == ("free eof True\n", "")
