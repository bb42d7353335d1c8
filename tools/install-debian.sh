#!/bin/sh
# Installs the Debian packages for one purpose, if any is missing and we may:
#   build   what compiling the native modules in a virtual environment needs
#   test    real peers and real networks, also for the benchmarks
#   bench   what the benchmarks alone compare with
# Where it may not install them it says so: a build then fails with its own message, and the tests
# that need a missing tool are skipped with the reason.
set -u
missing=""
need() { missing="$missing $1"; }
case "${1:-}" in
build)
    command -v gcc >/dev/null 2>&1 || need gcc
    "${PYTHON:-python3}" -c 'import ensurepip, venv' >/dev/null 2>&1 || need python3-venv
    "${PYTHON:-python3}" -c 'import os, sysconfig as s; os.stat(s.get_path("include") + "/Python.h")' \
        >/dev/null 2>&1 || need "python3-dev libc6-dev"
    ;;
test)
    command -v iperf3 >/dev/null 2>&1 || need iperf3
    command -v ip >/dev/null 2>&1 || need iproute2
    PATH="$PATH:/usr/sbin"
    command -v nginx >/dev/null 2>&1 || need nginx-light
    command -v podman >/dev/null 2>&1 || need "podman netavark"
    for tool in buildah catatonit debootstrap iptables runc; do
        command -v "$tool" >/dev/null 2>&1 || need "$tool"
    done
    # the server's programs lie outside the path
    ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || need postgresql
    # libFuzzer; Debian's names of its runtime have the version, or depend on the right one
    command -v clang >/dev/null 2>&1 || need "clang libclang-rt-dev"
    for tool in chromium curl ethtool lftp openssl tcpdump vsftpd wget wrk; do
        command -v "$tool" >/dev/null 2>&1 || need "$tool"
    done
    ;;
bench)
    command -v iperf >/dev/null 2>&1 || need iperf
    for tool in nuttcp qperf sockperf; do
        command -v "$tool" >/dev/null 2>&1 || need "$tool"
    done
    ;;
*)
    echo "usage: $0 build|test|bench" >&2
    exit 2
    ;;
esac
[ -z "$missing" ] && exit 0
if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null 2>&1; then
    echo "missing for $1, install them as root:$missing" >&2
    exit 0
fi
export DEBIAN_FRONTEND=noninteractive RUNLEVEL=1  # programs are wanted, not services that run
# shellcheck disable=SC2086
apt-get update -qq && apt-get install -y -qq --no-install-recommends $missing >/dev/null
