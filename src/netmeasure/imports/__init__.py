"""Read saved runs: netmeasure's own documents (by `result`), and the output files of other
tools."""
