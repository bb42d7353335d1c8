"""A sender whose connection closes in good order between two of its looks at the socket."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

#: Returns late from each look that finds unacknowledged data, as on a machine with no CPU to spare.
_LATE = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <linux/sockios.h>
#include <stdarg.h>
#include <sys/ioctl.h>
#include <unistd.h>
int ioctl(int fd, unsigned long request, ...) {
    int (*real)(int, unsigned long, ...) = dlsym(RTLD_NEXT, "ioctl");
    va_list rest;
    va_start(rest, request);
    void *place = va_arg(rest, void *);
    va_end(rest);
    int result = real(fd, request, place);
    if (request == SIOCOUTQ && result == 0 && *(int *)place > 0) usleep(20000);
    return result;
}
"""
#: The peer's window is full until the sender has looked, and then it reads all and closes.
_TRANSFER = """
import socket, threading, time
from netmeasure._fast.tcp import Sender
from netmeasure._fast.worker import Group

SIZE = 1_000_000
with socket.socket() as listener:
    listener.bind(("127.0.0.1", 0))
    listener.listen()
    ours = socket.create_connection(listener.getsockname())
    peer, _ = listener.accept()
ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2 * SIZE)
group = Group(SIZE)
sender = Sender(group, ours.fileno(), payload=bytes(65536), half_close=True)
thread = threading.Thread(target=sender.run)
thread.start()
group.open()
while sender.bytes < SIZE:
    time.sleep(0.001)
time.sleep(0.5)
left = SIZE
while left:
    left -= len(peer.recv(left))
peer.close()
thread.join()
print(sender.reason, sender.bytes == SIZE)
"""


def test_an_end_between_two_looks_is_no_failure(tmp_path: Path) -> None:
    gcc = shutil.which("gcc")
    if gcc is None:
        pytest.skip("there is no gcc")
    source, library = tmp_path / "late.c", tmp_path / "late.so"
    source.write_text(_LATE)
    command = [gcc, "-shared", "-fPIC", "-o", str(library), str(source), "-ldl"]
    subprocess.run(command, check=True, timeout=60)
    preloaded = [*os.environ.get("LD_PRELOAD", "").split(), str(library)]  # a sanitizer comes first
    ran = subprocess.run(
        [sys.executable, "-c", _TRANSFER],
        env={**os.environ, "LD_PRELOAD": " ".join(preloaded)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (ran.stdout, ran.stderr) == ("budget True\n", "")
