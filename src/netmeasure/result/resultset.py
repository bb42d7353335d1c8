"""Define a set of results in one document: the runs of one side of a comparison."""

from __future__ import annotations

from collections.abc import Iterator

from netmeasure.result.brief import Brief
from netmeasure.result.document import Result
from netmeasure.result.encoding import encoded
from netmeasure.result.reading import SCHEMA_VERSION, is_set, read_json


class ResultSet(Brief, frozen=True, kw_only=True):
    """Hold the runs of one test, in the order in which they were made.

    Attributes:
        schema_version: The version of the document's format.
        results: The runs.
    """

    schema_version: int = SCHEMA_VERSION
    results: tuple[Result, ...] = ()

    def __len__(self) -> int:
        return len(self.results)

    def __iter__(self) -> Iterator[Result]:
        return iter(self.results)

    @property
    def complete(self) -> bool:
        """Return whether every run is complete."""
        return all(result.complete for result in self.results)

    def to_json(self, *, indent: int | None = 2) -> bytes:
        """Return the set as UTF-8 JSON; `from_json` returns an equal set.

        Derived figures are in it. Without `indent` it is one line.
        """
        return encoded(self, indent=indent)

    @classmethod
    def from_json(cls, data: bytes | str) -> ResultSet:
        """Return a saved set, or a single saved Result as a set of one.

        Raises ResultFormatError for anything else.
        """
        if not is_set(data):
            return cls(results=(Result.from_json(data),))
        return read_json(data, cls)
