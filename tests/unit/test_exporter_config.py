"""Test how an exporter's configuration file is read, and the messages for a wrong file."""

from __future__ import annotations

from pathlib import Path

import pytest

from netmeasure.campaign.settings import KINDS
from netmeasure.errors import SpecError
from netmeasure.exporter.config import Module, default_config, path_of, read_config, shown
from netmeasure.spec import HttpSpec, TcpSpec

ROOT = Path(__file__).parents[2]
GOOD = """
at_once = 2
targets = ["lab*"]
[modules.quick]
kind = "tcp"
direction = "download"
duration_s = "500ms"
timeout = "5s"
[modules.file]
kind = "http"
url = "http://{host}/1M.dat"
[[scheduled]]
target = "lab1:5202"
module = "quick"
every = "5m"
jitter = 20
labels = {site = "north"}
[[scheduled]]
target = "lab2"
module = "file"
path = "lab1"
[[scheduled]]
target = "lab1"
module = "tcp_upload"
shared = true
"""


def test_what_a_file_says() -> None:
    config = read_config(GOOD)
    assert (config.at_once, config.max_probes) == (2, 50)
    assert (config.may_probe("lab7"), config.may_probe("gateway")) == (True, False)
    quick, file, shared = config.scheduled
    assert isinstance(quick.module.spec, TcpSpec)
    assert quick.module.spec.direction == "download"
    assert (quick.module.timeout_s, quick.every_s, quick.jitter_s) == (5.0, 300.0, 20.0)
    assert (quick.path, file.path, shared.path) == ("lab1", "lab1", None)
    address, spec = file.module.aimed("lab2:8080")
    assert isinstance(spec, HttpSpec)
    assert address == spec.url == "http://lab2:8080/1M.dat"
    assert set(default_config().modules) < set(config.modules)


@pytest.mark.parametrize(
    ("target", "path"),
    [
        ("Lab1", "lab1"),
        ("lab1:5202", "lab1"),
        ("[2001:db8::1]:5201", "2001:db8::1"),
        ("http://user:secret@lab1:8080/file", "lab1"),
        ("ftp://[2001:db8::1]/file", "2001:db8::1"),
    ],
)
def test_a_path_is_a_host(target: str, path: str) -> None:
    assert path_of(target) == path


@pytest.mark.parametrize(
    ("url", "target", "address"),
    [
        ("http://{host}/f", "lab", "http://lab/f"),
        ("http://{host}/f", "lab:81", "http://lab:81/f"),
        ("http://{host}:80/f", "2001:db8::1", "http://[2001:db8::1]:80/f"),
        ("http://{host}/f", "[2001:db8::1]:81", "http://[2001:db8::1]:81/f"),
    ],
)
def test_a_target_in_a_url(url: str, target: str, address: str) -> None:
    module = Module(name="file", spec=HttpSpec(), url=url)
    assert module.aimed(target)[0] == address


def test_two_ports_in_a_url() -> None:
    module = Module(name="file", spec=HttpSpec(), url="http://{host}:80/f")
    with pytest.raises(SpecError, match="has a port"):
        module.aimed("lab:81")


def test_a_password_is_not_shown() -> None:
    assert shown("http://me:secret@lab:80/a@b") == "http://lab:80/a@b"
    assert shown("http://lab?by=me@here") == "http://lab?by=me@here"
    assert shown("lab:5201") == "lab:5201"


def test_every_kind_of_test_is_a_module() -> None:
    for kind in KINDS:
        config = read_config(f'[modules.x]\nkind = "{kind}"\nduration_s = "1s"\n')
        by_url = kind in ("http", "ftp", "requests")
        target = f"{'ftp' if kind == 'ftp' else 'http'}://lab/" if by_url else "lab"
        assert config.modules["x"].aimed(target)[0] == target


ENTRY = '[[scheduled]]\ntarget = "a"\nmodule = "tcp_upload"\n'


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("x = [", "not valid TOML"),
        ("at_onse = 1", "did you mean 'at_once'"),
        ("at_once = 0", "at_once is 0: it must be 1 to"),
        ("max_probes = true", "max_probes is True"),
        ("targets = 'lab'", "no list of patterns"),
        ("modules = 1", "modules is no table"),
        ("[modules.a]", "module 'a' has no kind"),
        ("[modules.a]\nkind = 'tcp'\ntime = '2s'", "did you mean 'duration_s'"),
        ("[modules.a]\nkind = 'tcp'\nstreams = [1, 2]", "several values"),
        ("[modules.a]\nkind = 'tcp'\nstreams = 0", "number of streams is 0"),
        ("[modules.a]\nkind = 'tcp'\nurl = 'http://{host}/'", "url is for http, ftp and requests"),
        ("[modules.a]\nkind = 'http'\nurl = 'http://lab/'", "with {host} for the target"),
        ("[modules.a]\nkind = 'tcp'\ntimeout = '5s'", "takes 10 s, but its timeout is 5 s"),
        ("scheduled = 3", "scheduled is no list"),
        ("[[scheduled]]\nmodule = 'tcp_upload'", "scheduled test 1 has no target"),
        ("[[scheduled]]\ntarget = 'a'", "it has no module"),
        ("[[scheduled]]\ntarget = 'a'\nmodule = 'b'", "no module is called 'b'"),
        (ENTRY.replace('"a"', '"http://a/"'), "takes a host, not 'http://a/'"),
        (ENTRY.replace("tcp_upload", "http"), "takes a URL, not 'a'"),
        (ENTRY + "every = '5 lightyears'", "scheduled test 1: every: '5 lightyears'"),
        (ENTRY + "every = true", "every is True: it must be a time"),
        (ENTRY + "every = 0", "every is 0 s: it must be 0.1 s to 7 days"),
        (ENTRY + "every = 10\njitter = 20", "jitter is longer"),
        (ENTRY + "labels = {'a-b' = 'c'}", "no name of a label"),
        (ENTRY + "labels = {kind = 'c'}", "the label 'kind' already"),
        (ENTRY + "labels = {site = 1}", "the label 'site' must be a text"),
        (ENTRY + "shared = 1", "shared is true or false"),
        (ENTRY + ENTRY, "scheduled test 2 is the same as 1"),
    ],
)
def test_a_mistake_is_told_with_its_place(text: str, words: str) -> None:
    with pytest.raises(SpecError) as caught:
        read_config(text)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_example_is_right() -> None:
    config = read_config((ROOT / "deploy" / "prometheus" / "exporter.toml").read_bytes())
    assert len(config.scheduled) == 3
