"""Show parts of results on one line, for `repr`: single figures without time series."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

#: A shown value, and a line, are no longer than this.
_WORD, _LINE = 60, 300


class Brief(msgspec.Struct, frozen=True, kw_only=True):
    """Serve as the base of types that are too long for a complete `repr`."""

    def __repr__(self) -> str:
        shown = [
            f"{name}={_shown(value)}"
            for name in self.__struct_fields__
            if (value := getattr(self, name)) is not None and value != ()
        ]
        return f"{type(self).__name__}({shortened(', '.join(shown), _LINE)})"


def shortened(text: str, most: int) -> str:
    """Return a text, cut at this length."""
    return text if len(text) <= most else f"{text[: most - 3]}..."


def _shown(value: object) -> str:
    if isinstance(value, msgspec.Struct):
        return f"{type(value).__name__}(...)"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return f"<{len(value)} items>"
    return shortened(repr(value), _WORD)
