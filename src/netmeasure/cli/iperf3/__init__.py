"""iperf3's command line and manners on netmeasure's engine. `docs/iperf3-migration.md` says what is
the same, what is better and what is refused."""
