"""Write tests and results in the formats of other tools.

`formats` names the formats, `registry` pairs each name with its writer (`tables`, `openmetrics`,
`iperf3`). `frames` has arrays and data frames, `schema` the JSON Schemas of our own documents. The
package `exporter` is something else: the service that runs tests for Prometheus.
"""
