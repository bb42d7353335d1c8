"""Run the real iperf3 in every mode and save its output: `python tests/export/capture.py`.

Each run becomes captures/NAME.client and captures/NAME.server (standard output, byte for byte; the
name of this host is replaced). The mode's arguments are in captures/modes.json.
"""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent / "captures"
RATE = ["-b", "50M"]

#: client's arguments, server's arguments
MODES: dict[str, tuple[list[str], list[str]]] = {
    "tcp": (["-t", "2"], []),
    "tcp-rate": (["-t", "1", "-i", "0.5", *RATE], []),
    "tcp-reverse": (["-t", "2", "-R", *RATE], []),
    "tcp-parallel": (["-t", "1", "-i", "0.5", "-P", "2", *RATE], []),
    "tcp-bidir": (["-t", "1", "-i", "0.5", "--bidir", *RATE], []),
    "tcp-bidir-parallel": (["-t", "1", "-i", "0.5", "--bidir", "-P", "2", *RATE], []),
    "tcp-omit": (["-t", "1", "-i", "0.5", "-O", "1", *RATE], []),
    "tcp-verbose": (["-t", "1", "-V", "-M", "1400", *RATE], ["-V"]),
    "tcp-verbose-reverse-parallel": (["-t", "1", "-V", "-R", "-P", "2", *RATE], ["-V"]),
    "tcp-verbose-bidir": (["-t", "1", "-V", "--bidir", *RATE], ["-V"]),
    "tcp-verbose-bidir-parallel": (["-t", "1", "-V", "--bidir", "-P", "2", *RATE], ["-V"]),
    "tcp-verbose-bytes": (["-n", "10M", "-V"], ["-V"]),
    "tcp-verbose-blocks": (["-k", "20", "-V"], ["-V"]),
    "tcp-verbose-no-interval-omit": (["-t", "1", "-V", "-i", "0", "-O", "1", *RATE], ["-V"]),
    "tcp-no-interval": (["-t", "1", "-i", "0", *RATE], ["-i", "0"]),
    "tcp-reverse-no-interval": (["-t", "1", "-i", "0", "-R", *RATE], []),
    "tcp-reverse-one-interval": (["-t", "1", "-R", *RATE], []),
    "tcp-bytes": (["-n", "1M"], []),
    "tcp-title": (["-t", "1", "-T", "a title", *RATE], []),
    "tcp-kbit": (["-t", "1", "-f", "k", *RATE], ["-f", "K"]),
    "tcp-server-output": (["-t", "1", "--get-server-output", *RATE], []),
    "tcp-file": (["-F", "f.bin"], []),
    "udp": (["-u", "-t", "1", "-i", "0.5", *RATE], []),
    "udp-reverse": (["-u", "-t", "1", "-i", "0.5", "-R", *RATE], []),
    "udp-parallel": (["-u", "-t", "1", "-i", "0.5", "-P", "2", *RATE], []),
    "udp-bidir": (["-u", "-t", "1", "-i", "0.5", "--bidir", *RATE], []),
    "udp-bidir-parallel": (["-u", "-t", "1", "-i", "0.5", "--bidir", "-P", "2", *RATE], []),
    "udp-omit": (["-u", "-t", "1", "-i", "0.5", "-O", "1", *RATE], []),
    "udp-verbose-parallel": (["-u", "-t", "1", "-V", "-P", "2", *RATE], ["-V"]),
    "udp-verbose-reverse": (["-u", "-t", "1", "-V", "-R", *RATE], ["-V"]),
    "udp-verbose-bidir": (["-u", "-t", "1", "-V", "--bidir", *RATE], ["-V"]),
    "udp-flood": (["-u", "-t", "1", "-l", "1400", "-b", "0"], []),
    "json-tcp": (["-J", "-t", "2"], ["-J"]),
    "json-tcp-reverse": (["-J", "-t", "1", "-i", "0.5", "-R", *RATE], ["-J"]),
    "json-tcp-parallel": (["-J", "-t", "1", "-i", "0.5", "-P", "2", *RATE], ["-J"]),
    "json-tcp-bidir": (["-J", "-t", "1", "-i", "0.5", "--bidir", *RATE], ["-J"]),
    "json-tcp-bidir-parallel": (["-J", "-t", "1", "-i", "0.5", "--bidir", "-P", "2"], ["-J"]),
    "json-tcp-omit": (["-J", "-t", "1", "-i", "0.5", "-O", "1", *RATE], ["-J"]),
    "json-tcp-mss": (["-J", "-t", "1", "-M", "1400", "-w", "256K", *RATE], ["-J"]),
    "tcp-verbose-tos": (["-t", "1", "-V", "-S", "32", *RATE], ["-V"]),
    "json-tcp-tos": (["-J", "-t", "1", "-S", "32", *RATE], ["-J"]),
    "json-tcp-title": (
        ["-J", "-t", "1", "-T", "a title", "--extra-data", 'x"\t\u00e9', *RATE],
        ["-J"],
    ),
    "json-tcp-bytes": (["-J", "-n", "1M"], ["-J"]),
    "json-tcp-verbose": (["-J", "-V", "-t", "1", *RATE], ["-J", "-V"]),
    "json-tcp-file": (["-J", "-F", "f.bin"], ["-J"]),
    "json-tcp-server-output": (["-J", "-t", "1", "--get-server-output", *RATE], []),
    "json-tcp-server-json": (["-J", "-t", "1", "--get-server-output", *RATE], ["-J"]),
    "text-tcp-server-json": (["-t", "1", "--get-server-output", *RATE], ["-J"]),
    "json-udp": (["-J", "-u", "-t", "1", "-i", "0.5", *RATE], ["-J"]),
    "json-udp-reverse": (["-J", "-u", "-t", "1", "-i", "0.5", "-R", *RATE], ["-J"]),
    "json-udp-parallel": (["-J", "-u", "-t", "1", "-i", "0.5", "-P", "2", *RATE], ["-J"]),
    "json-udp-bidir": (["-J", "-u", "-t", "1", "-i", "0.5", "--bidir", *RATE], ["-J"]),
    "json-udp-bidir-parallel": (
        ["-J", "-u", "-t", "1", "-i", "0.5", "--bidir", "-P", "2", *RATE],
        ["-J"],
    ),
    "json-udp-omit": (["-J", "-u", "-t", "1", "-O", "1", *RATE], ["-J"]),
}
#: Runs that are cut short: the end that gets SIGTERM after 1.5 s.
CUT: dict[str, tuple[list[str], list[str], str]] = {
    "cut-client": (["-t", "9", *RATE], [], "client"),
    "cut-client-reverse": (["-t", "9", "-R", *RATE], [], "client"),
    "cut-server": (["-t", "9", *RATE], [], "server"),
    "cut-client-udp": (["-u", "-t", "9", *RATE], [], "client"),
    "json-cut-client": (["-J", "-t", "9", *RATE], ["-J"], "client"),
    "json-cut-server": (["-J", "-t", "9", *RATE], ["-J"], "server"),
}


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def keep(name: str, end: str, said: tuple[bytes, bytes]) -> None:
    node = re.escape(os.uname().nodename.encode())
    system = rb"Linux " + node + rb" [^\"\n]*"
    text = re.sub(system, b"Linux host 6.1.0 #1 SMP x86_64", said[0])
    (HERE / f"{name}.{end}").write_bytes(text)
    if said[1]:
        (HERE / f"{name}.{end}.err").write_bytes(said[1])


def run(name: str, client: list[str], server: list[str], cut: str | None, folder: str) -> None:
    port = str(free_port())
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "cwd": folder}
    serving = subprocess.Popen(["iperf3", "-s", "-1", "-p", port, *server], **pipes)
    time.sleep(0.3)
    calling = subprocess.Popen(["iperf3", "-c", "127.0.0.1", "-p", port, *client], **pipes)
    if cut is not None:
        time.sleep(1.5)
        (calling if cut == "client" else serving).send_signal(signal.SIGTERM)
    keep(name, "client", calling.communicate(timeout=30))
    if name.startswith("cut-client") or name == "json-cut-client":
        time.sleep(0.3)
    keep(name, "server", serving.communicate(timeout=30))


def main() -> None:
    HERE.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "f.bin").write_bytes(os.urandom(1 << 20))
        todo: list[tuple[str, list[str], list[str], str | None, str]]
        todo = [(name, c, s, None, folder) for name, (c, s) in MODES.items()]
        todo += [(name, c, s, cut, folder) for name, (c, s, cut) in CUT.items()]
        quiet = [one for one in todo if any(word in one[1] for word in RATE[1:])]
        for start in range(0, len(quiet), 6):
            threads = [threading.Thread(target=run, args=one) for one in quiet[start : start + 6]]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        for one in todo:
            if one not in quiet:
                run(*one)
    modes = {name: {"client": c, "server": s} for name, c, s, _, _ in todo}
    (HERE / "modes.json").write_text(json.dumps(modes, indent=1) + "\n")


if __name__ == "__main__":
    main()
