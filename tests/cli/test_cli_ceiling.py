"""Test `netmeasure ceiling`, and the link options of tests."""

from __future__ import annotations

import json

import pytest

from netmeasure import Result
from netmeasure.cli.exits import Exit
from netmeasure.report.ceiling import share_row
from support.program import netmeasure, server


def said(*words: str) -> str:
    ran = netmeasure("ceiling", *words)
    assert (ran.returncode, ran.stderr) == (Exit.OK, "")
    return ran.stdout


def test_the_table_has_every_layer_the_rate_and_the_sources() -> None:
    text = said("--link-rate", "1G", "--encap", "vxlan, esp:aes-gcm-16:transport,vlan")
    for words in (
        "Payload ceiling of 1.000 Gbit/s: MTU 1416, IPv4, TCP timestamps, in vxlan,esp:aes-gcm-16",
        "VXLAN header",
        "RFC 7348",
        "VLAN tag",
        "gap between packets",
        "payload rate  884.6 Mbit/s",  # 1364 of 1542
        "right MSS             1376",
    ):
        assert words in text
    assert "fragments" not in text


def test_without_a_rate_there_are_shares() -> None:
    text = said("--framing", "frame")
    assert "a link of unknown rate" in text
    assert "payload rate  95.6 %" in text


def test_a_guess_of_the_links_mtu_is_said_to_be_one() -> None:
    tunnel = ("--encap", "vxlan,esp:transport", "--mtu", "8950")
    guess = "The link's MTU was not given and is taken to be 9036"
    assert guess in " ".join(said(*tunnel).split())
    assert "not given" not in said(*tunnel, "--link-mtu", "9100")
    assert "not given" not in said()


def test_a_mismatch_is_one_sentence() -> None:
    words = ("--link-mtu", "9000", "--encap", "vxlan,esp:transport", "--mtu", "8950")
    text = " ".join(said("--link-rate", "10G", *words).split())
    assert "The MTU of 8950 is 34 too large" in text
    assert "(9.744 Gbit/s instead of 9.807 Gbit/s)" in text
    assert text.endswith("the right MTU is 8916.")


def test_json() -> None:
    answer = json.loads(said("--link-rate", "10G", "-6", "-u", "--encap", "wireguard:v6", "--json"))
    ceiling = answer["ceiling"]
    assert ceiling["payload_bytes"] == 1500 - 80 - 48
    assert ceiling["payload_bps"] == pytest.approx(1e10 * 1372 / 1538)
    assert ceiling["right_mtu_bytes"] == 1420
    assert sum(layer["bytes"] for layer in ceiling["layers"]) == ceiling["link_bytes"] == 1538
    assert answer["share"] == pytest.approx(1372 / 1538)
    assert answer["mismatch"] is answer["path"] is None


def test_the_path_to_a_host() -> None:
    answer = json.loads(said("127.0.0.1", "--json"))
    assert answer["path"]["interface"] == "lo"
    assert answer["path"]["ip_version"] == 4
    assert answer["path"]["path_mtu_bytes"] == answer["ceiling"]["mtu_bytes"] >= 16_384
    assert answer["path"]["speed_bps"] is None
    assert "through lo with MTU" in said("127.0.0.1")


def test_a_link_further_on_takes_no_more_than_its_own_mtu() -> None:
    answer = json.loads(said("127.0.0.1", "--link-mtu", "1400", "--json"))
    assert answer["ceiling"]["mtu_bytes"] == 1400


def test_the_paths_packets_are_the_inner_ones() -> None:
    answer = json.loads(said("127.0.0.1", "--encap", "ipip", "--link-mtu", "15000", "--json"))
    assert answer["ceiling"]["mtu_bytes"] == answer["path"]["path_mtu_bytes"]
    assert "the right MTU is 14980" in answer["mismatch"]


@pytest.mark.parametrize(
    "words",
    [
        *("--encap foo", "--encap vxlan:v5", "--encap vlan,ipip", "--encap esp:des"),
        *("--link-rate x", "--link-rate 0", "--link-mtu 60", "--link-mtu 65536", "--mtu 67"),
        *("--mtu 9000 --link-mtu 1500", "--framing bits", "-6 --mtu 1279", "-4 -6"),
        *("-l 0", "-l 1449", "--sack 4", "--sack -1", "-u --sack 1", "host:99999", "a/b"),
    ],
)
def test_a_wrong_value_is_one_line(words: str) -> None:
    ran = netmeasure("ceiling", *words.split())
    assert (ran.returncode, ran.stdout) == (Exit.USAGE, "")
    assert ran.stderr.count("\n") == 1
    assert ran.stderr.startswith("netmeasure: ")


def test_a_host_that_is_not_there() -> None:
    ran = netmeasure("ceiling", "nosuch.invalid", timeout=60)  # without a name server, 30 s
    assert (ran.returncode, ran.stdout) == (Exit.NO_CONNECTION, "")
    assert ran.stderr.count("\n") == 1


# ---- of a test -----------------------------------------------------------------------------------


def test_a_saved_result_can_say_its_share_again() -> None:
    # loopback is no link of 10 Tbit/s; this only tests the options
    words = ("--link-rate", "10T", "--framing", "ip", "-t", "0.3", "--json")
    with server() as (_, address):
        ran = netmeasure("client", address, *words)
        report = netmeasure("client", address, *words[:-1])
    assert (ran.returncode, ran.stderr) == (Exit.OK, "")
    result = Result.from_json(ran.stdout)
    assert result.spec.link is not None
    assert result.spec.link.rate_bps == 10**13
    assert result.flow.ceiling is not None
    assert result.flow.ceiling.framing == "ip"
    name, share, text = share_row(result.flow) or ("", "", "")
    assert name == "of the ceiling"
    assert share.endswith("%")
    assert "TCP timestamps" in text
    assert "of the ceiling" in report.stdout


@pytest.mark.parametrize("words", ["--encap vxlan", "--framing ip", "--link-mtu 1500"])
def test_a_link_without_a_rate_is_no_link(words: str) -> None:
    ran = netmeasure("client", "127.0.0.1", *words.split())
    assert (ran.returncode, ran.stdout) == (Exit.USAGE, "")
    assert "needs --link-rate" in ran.stderr
