"""Give one program a name server of its own: its resolver configuration, in a mount namespace."""

from __future__ import annotations

import sys
from pathlib import Path


def with_resolver(tmp_path: Path, address: str, options: str, *words: str) -> list[str]:
    """Return the program's command with a resolver configuration of its own.

    See resolv.conf(5) and nsswitch.conf(5).
    """
    files = {
        "resolv.conf": f"nameserver {address}\noptions {options}\n",
        "nsswitch.conf": "hosts: files dns\n",
    }
    script = ""
    for name, text in files.items():
        (tmp_path / name).write_text(text)
        script += f"mount --bind {tmp_path / name} /etc/{name} && "
    program = (sys.executable, "-m", "netmeasure", *words)
    return ["unshare", "--mount", "sh", "-c", script + 'exec "$@"', "sh", *program]
