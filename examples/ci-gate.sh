#!/bin/sh
# A step of CI: measure, and fail where an objective is missed (exit code 8) or can't be told (9).
#
#   ci-gate.sh HOST ['setup<1s, steady>1G'] [more options of netmeasure client]
#
# It leaves netmeasure.json, to be compared with later runs, and netmeasure.xml for the CI's report.
set -eu
host=$1
objectives=${2:-setup<1s, steady>1G}
shift; shift || true
exec netmeasure client "$host" -q --slo "$objectives" --junit netmeasure.xml --json netmeasure.json "$@"
