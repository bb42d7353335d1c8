"""Read saved runs of netmeasure and of iperf3."""

from __future__ import annotations

from netmeasure.errors import ResultFormatError
from netmeasure.imports import documents, iperf3
from netmeasure.result.resultset import ResultSet


def import_results(data: bytes | str) -> ResultSet:
    """Return saved runs: netmeasure's own documents, or the JSON of iperf3.

    Args:
        data: A Result, a ResultSet, or documents of iperf3 (-J, --json-stream) since version 3.1,
            also several one after another. Values that they do not have are None.

    Raises:
        ResultFormatError: The data are none of these; the message says why.
    """
    try:
        return ResultSet.from_json(data)
    except ResultFormatError as exc:
        refused = exc
    text = data if isinstance(data, str) else data.decode("utf-8", "surrogateescape")
    try:
        values = list(documents.documents(text))
    except ResultFormatError as exc:
        if '"connected"' not in text:
            raise refused from None
        raise ResultFormatError(f"iperf3's JSON is not usable: {exc}") from None
    if not values or not documents.is_iperf3(values[0]):
        raise refused
    return ResultSet(results=tuple(iperf3.results(values)))
