"""Name all formats of exports and all kinds of documents, without importing their writers."""

from __future__ import annotations

#: The formats by name, with their descriptions.
FORMATS = {
    "csv": "a line for each run and direction",
    "intervals-csv": "a line for each reporting period",
    "markdown": "a table for people",
    "iperf3": "the JSON of an iperf3 client (-J)",
    "influx": "InfluxDB's line protocol",
    "openmetrics": "OpenMetrics, for Prometheus",
}
#: The kinds of documents that have a schema.
SCHEMAS = ("result", "resultset", "comparison", "event", "suite", "mesh", "capacity")
