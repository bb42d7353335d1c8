"""Find the documents of iperf3 in a text: one (-J), several, or the lines of --json-stream."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from typing import Any

from netmeasure.errors import ResultFormatError

#: The start of a document: directly after another one, or at the start of a line.
_BEHIND = re.compile(r"[\s\ufeff]*([{\[])")
_ON_A_LINE = re.compile(r"^[ \t]*([{\[])", re.MULTILINE)


def documents(text: str) -> Iterator[Any]:
    """Yield the JSON documents of a text one after another; a list yields its items.

    Other lines between them, such as a server's banner, are ignored. Raises ResultFormatError if a
    document is damaged.
    """
    decoder, at = json.JSONDecoder(), 0
    while found := _BEHIND.match(text, at) or _ON_A_LINE.search(text, at):
        try:
            value, at = decoder.raw_decode(text, found.start(1))
        except (ValueError, RecursionError) as exc:
            line = text.count("\n", 0, found.start(1)) + 1
            reason = getattr(exc, "msg", "it is nested too deeply")
            raise ResultFormatError(f"the document at line {line} is not JSON: {reason}") from None
        if isinstance(value, list):
            yield from value
        else:
            yield value


def is_iperf3(value: Any) -> bool:
    """Return whether a document, or a line of --json-stream, was written by iperf3."""
    if not isinstance(value, dict):
        return False
    return ("event" in value and "data" in value) or ("start" in value and "end" in value)


def joined(values: Sequence[Any]) -> list[dict[str, Any]]:
    """Return whole documents; lines of --json-stream are joined into documents."""
    found: list[dict[str, Any]] = []
    streamed: dict[str, Any] | None = None
    for value in values:
        if not is_iperf3(value):
            raise ResultFormatError("there is a document that is not iperf3's")
        if "event" not in value:
            start = value["start"]
            cookie = start.get("cookie") if isinstance(start, dict) else None
            if cookie and found and found[-1] is streamed:
                before = streamed["start"] if streamed else None
                if isinstance(before, dict) and before.get("cookie") == cookie:
                    found.pop()  # --json-stream-full-output: the whole document comes last
            found.append(value)
            streamed = None
            continue
        event, data = value["event"], value["data"]
        if event == "start" or streamed is None:
            streamed = {"start": {}, "intervals": [], "end": {}}
            found.append(streamed)
        if event in ("start", "end", "error"):
            streamed[event] = data
        elif event == "interval":
            streamed["intervals"].append(data)
    return found
