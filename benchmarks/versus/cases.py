"""List the cases of the comparison, and the ratio that each requires."""

from __future__ import annotations

from benchmarks.versus.contenders import (
    OURS,
    Case,
    Contender,
    existing,
    iperf2,
    iperf3,
    netmeasure,
    nuttcp,
    plain,
)

STREAMS = (4, 32, 128)
SIZES = (64, 512, 1400, 8900)


def cases(place: str, baseline: str | None) -> list[Case]:
    """Return all cases of a place. `baseline` is the interpreter of another netmeasure."""
    found = [_one_stream(), _discarding()]
    found += [_streams(count) for count in STREAMS]
    found += [_datagrams(size, offload=offload) for size in SIZES for offload in (False, True)]
    here = [_as_here(case, place, baseline) for case in found]
    return [case for case in here if len(case.contenders) > 1]


def _one_stream() -> Case:
    return Case(
        name="TCP, one stream",
        contenders=(
            netmeasure(""),
            iperf3(""),
            iperf3("-l 512K"),
            iperf2("-l 512K"),
            nuttcp("-l512k"),
            plain("524288 131072 copy"),
            plain("524288 524288 copy 262144"),
        ),
        wanted={"iperf3": 1.35, "iperf3 -l 512K": 1.0, "plain C, 524288 131072 copy": 1.1},
    )


def _discarding() -> Case:
    return Case(
        name="TCP, one stream, not copied by the receiver",
        contenders=(
            netmeasure("--receive-mode discard"),
            iperf3("-l 512K --skip-rx-copy"),
            plain("524288 524288 discard"),
        ),
        wanted={"plain C, 524288 524288 discard": 1.0},
    )


def _streams(count: int) -> Case:
    return Case(
        name=f"TCP, {count} streams",
        contenders=(
            netmeasure(f"-P {count}"),
            iperf3(f"-P {count}"),
            iperf3(f"-P {count} -l 512K"),
            iperf2(f"-P {count} -l 512K"),
        ),
        wanted={f"iperf3 -P {count}": 1.1, f"iperf3 -P {count} -l 512K": 1.1},
        pinned=False,
    )


def _datagrams(size: int, *, offload: bool) -> Case:
    segments = min(64, 65000 // size)
    return Case(
        name=f"UDP, {size} bytes, {'with' if offload else 'without'} offload",
        contenders=(
            netmeasure(f"-l {size}" + ("" if offload else " --no-offload"), udp=True),
            iperf3(f"-l {size}", udp=True),
            plain(f"{size} {segments if offload else 1}", udp=True),
        ),
        wanted={f"iperf3 -l {size}": 1.0},
    )


def _as_here(case: Case, place: str, baseline: str | None) -> Case:
    """Return a case with the contenders that can be run here."""
    ours, *others = case.contenders
    if place != "loopback":  # the plain loops are one program
        others = [one for one in others if one.server]
    if baseline is not None:
        others.insert(0, _by(baseline, ours))
    return Case(case.name, (ours, *existing(others)), case.wanted, case.pinned)


def _by(python: str, ours: Contender) -> Contender:
    words = {ours.client[0]: python}
    return Contender(
        name=f"{OURS}, the baseline",
        client=tuple(words.get(word, word) for word in ours.client),
        server=tuple(words.get(word, word) for word in ours.server),
        datagrams=ours.datagrams,
    )
