"""Run tests between two ends that speak iperf3's control protocol."""
