"""Several results in one document: the runs of one side of a comparison."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from netmeasure.result import SCHEMA_VERSION, Result, read_json


class ResultSet(msgspec.Struct, frozen=True, kw_only=True):
    """Runs of the same test, in the order in which they were made."""

    schema_version: int = SCHEMA_VERSION
    results: tuple[Result, ...] = ()

    def __len__(self) -> int:
        return len(self.results)

    def __iter__(self) -> Iterator[Result]:
        return iter(self.results)

    @property
    def complete(self) -> bool:
        """Whether every run is."""
        return all(result.complete for result in self.results)

    def to_json(self, *, indent: int = 2) -> bytes:
        """As UTF-8 JSON; `from_json` gives an equal one back."""
        return msgspec.json.format(msgspec.json.encode(self), indent=indent)

    @classmethod
    def from_json(cls, data: bytes | str) -> ResultSet:
        """Read a saved set, or a single saved Result as a set of one. Raises ResultFormatError."""
        if read_json(data, _Shape).results is msgspec.UNSET:
            return cls(results=(Result.from_json(data),))
        return read_json(data, cls)


class _Shape(msgspec.Struct):
    results: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
