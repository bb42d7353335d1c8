"""Run tests between two ends that speak iperf3's control protocol.

`client` and `server` are the two ends. The modules here belong to both: `parameters` and `plans`
turn a specification into what each end does, `exchange` and `plausibility` take the far end's
report, `observing` tells observers.
"""
