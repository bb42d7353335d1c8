"""Define the version; the build reads it from here."""

__version__ = "0.1.0"
#: The version of iperf3 whose output is imitated.
IMITATED_IPERF3 = "3.21"
