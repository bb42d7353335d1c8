"""Make texts of peers safe to show, to log and to store. Other modules call this one for it.

A text from a peer (iperf3, HTTP, FTP) or a file may contain escape sequences of terminals, line
breaks that forge lines of a log, or characters that reverse the direction of writing, and may be
megabytes long.
"""

from __future__ import annotations

import re

#: The most characters of a peer's text that a message of netmeasure quotes.
QUOTED_CHARACTERS = 200
#: Control characters of ASCII and their 8-bit counterparts (ECMA-48, C0 and C1), line and paragraph
#: separators, characters that change the direction of writing (Unicode, UAX 9), lone surrogates,
#: which can't be encoded in UTF-8, and the noncharacters that XML forbids.
_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]")
_REPLACEMENT = "\ufffd"
#: Longer texts are cleaned in pieces, between which other threads may run.
_PIECE = 1 << 16


def printable(text: str, keep: str = "") -> str:
    """Return a text in which the characters that affect terminals or logs are replaced, except
    those in `keep`."""
    if text.isascii() and text.isprintable():
        return text
    if len(text) > _PIECE:
        pieces = (text[at : at + _PIECE] for at in range(0, len(text), _PIECE))
        return "".join(printable(piece, keep) for piece in pieces)
    return _pattern(keep).sub(_REPLACEMENT, text)


def _pattern(keep: str) -> re.Pattern[str]:
    return re.compile(f"(?![{re.escape(keep)}]){_UNPRINTABLE.pattern}") if keep else _UNPRINTABLE


def on_one_line(text: str) -> str:
    """Return a text on one line, printable, with single blanks."""
    return " ".join(printable(text, "\n\t\r").split())


def decoded(data: bytes) -> str:
    """Return bytes of a peer as text. Bytes that are not valid UTF-8 are decoded as ISO 8859-1, in
    which every byte is a character (RFC 9110 section 5.5 recommends it for HTTP)."""
    try:
        return data.decode()
    except UnicodeDecodeError:
        return data.decode("iso8859-1")


def quoted(text: str | bytes, most: int = QUOTED_CHARACTERS) -> str:
    """Return a peer's text for use in a message: on one line, printable, and shortened."""
    if isinstance(text, bytes):
        text = decoded(text[: 4 * most + 4])
    line = on_one_line(text[: 2 * most])
    return line if len(line) <= most else line[: most - 3] + "..."
