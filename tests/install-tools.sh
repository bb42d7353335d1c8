#!/bin/sh
# Debian packages that the tests use: real peers and real networks. Does nothing where they are
# there, says so where it may not install them; the tests that need them skip with the same reason.
set -u
missing=""
for pair in iperf3:iperf3 ip:iproute2 tc:iproute2 gcc:gcc; do
    command -v "${pair%%:*}" >/dev/null 2>&1 || missing="$missing ${pair##*:}"
done
[ -z "$missing" ] && exit 0
if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null 2>&1; then
    echo "tests that need$missing will be skipped (install these packages as root to run them)"
    exit 0
fi
export DEBIAN_FRONTEND=noninteractive
# shellcheck disable=SC2086
apt-get update -qq && apt-get install -y -qq --no-install-recommends $missing >/dev/null
