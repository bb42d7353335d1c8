"""Parse TOML: plans, the exporter's configuration, and the settings of commands."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from netmeasure.errors import SpecError

#: The whole numbers that TOML has, of 64 bits.
_LEAST, _MOST = -(2**63), 2**63 - 1


def parse_toml(data: bytes | str) -> dict[str, Any]:
    """Return the tables of a TOML document. Raises SpecError."""
    import tomllib  # few commands read such a document

    try:
        document = tomllib.loads(data.decode() if isinstance(data, bytes) else data)
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as exc:
        raise SpecError(f"it is not valid TOML: {exc}") from None
    except ValueError:  # Python converts no number of so many digits
        raise SpecError("it is not valid TOML: a number has more than 64 bits") from None
    except RecursionError:
        raise SpecError("its lists or tables are nested too deeply") from None
    for value in _values(document):
        if isinstance(value, int) and not _LEAST <= value <= _MOST:
            raise SpecError(f"it is not valid TOML: {str(value)[:12]}... has more than 64 bits")
    return document


def _values(part: Any) -> Iterator[Any]:
    """Yield every value that is neither a table nor a list."""
    if isinstance(part, dict | list):
        for one in part.values() if isinstance(part, dict) else part:
            yield from _values(one)
    else:
        yield part
