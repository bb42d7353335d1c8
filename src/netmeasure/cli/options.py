"""Define the commands and their options. `values` converts their values, and `specs` uses these."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import TypeAlias

from netmeasure.cli.network import add_client_auth
from netmeasure.cli.options_of_capacity import add_capacity_options
from netmeasure.cli.options_of_documents import (
    add_export_options,
    add_report_options,
    add_schema_options,
)
from netmeasure.cli.options_of_exporter import add_exporter_options
from netmeasure.cli.options_of_history import add_history_options
from netmeasure.cli.options_of_mesh import add_mesh_options
from netmeasure.cli.options_of_output import add_objective_options, add_output_options
from netmeasure.cli.options_of_paths import (
    add_ceiling_options,
    add_path_options,
    add_probe_options,
    add_ready_options,
)
from netmeasure.cli.options_of_server import add_options_of_server
from netmeasure.cli.options_of_suite import add_suite_options
from netmeasure.cli.options_of_tests import add_link_options, add_test_options, add_url_options
from netmeasure.cli.parsing import OneLineParser
from netmeasure.cli.settings import CLIENTS, use_client_settings, use_settings
from netmeasure.cli.values import count, port_number, ratio, seconds, share
from netmeasure.spec import DEFAULT_MARGIN, DEFAULT_PORT
from netmeasure.version import __version__

_Commands: TypeAlias = "argparse._SubParsersAction[OneLineParser]"
#: The shells that completion is written for.
SHELLS = ("bash", "zsh", "fish")
_EPILOG = """\
first steps:
  netmeasure loopback                           is it installed?
  netmeasure server                             on one host
  netmeasure client HOST                        on the other; -d download, -u, -P 4
  netmeasure client http://HOST/file            any HTTP or FTP server will do
  netmeasure client HOST --json run.json        netmeasure compare old.json run.json

Both ends may also be iperf3 (3.12 or newer). Exit codes: docs/reference/exit-codes.md.
"""


def parser(argv: Sequence[str] = ()) -> OneLineParser:
    """Return the parser of the whole command line, except iperf3's. If `argv` starts a server, its
    settings are the defaults (`settings`)."""
    top = OneLineParser(
        prog="netmeasure",
        description="Measures networks; keeps connection set-up apart from the steady bitrate.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    top.add_argument("--version", action="version", version=f"netmeasure {__version__}")
    commands: _Commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    client = _add_client(commands)
    _add_comparisons(commands)
    _add_documents(commands)
    _add_paths(commands)
    server = commands.add_parser("server", help="serve tests, many at a time, until a signal")
    add_options_of_server(server)
    if argv[:1] == ["server"]:
        use_settings(server, argv[1:], client._actions)
    elif argv and argv[0] in CLIENTS:
        use_client_settings(commands.choices[argv[0]], argv[1:], client._actions)
    exporter = commands.add_parser(
        "exporter", help="measure by schedule and on request, for Prometheus"
    )
    add_exporter_options(exporter)
    completion = commands.add_parser("completion", help="print the completion for a shell")
    completion.add_argument(
        "shell", choices=SHELLS, help="such as: source <(netmeasure completion bash)"
    )
    # `main` never passes its options to this parser
    commands.add_parser(
        "iperf3",
        help="accept iperf3's options and print iperf3's output: see netmeasure iperf3 --help",
        add_help=False,
    )
    top.commands = commands.choices
    return top


def _add_client(commands: _Commands) -> OneLineParser:
    """Add the commands that run one test, and return the first one, the client."""
    client = commands.add_parser("client", help="run a test against a server")
    client.add_argument(
        "target", metavar="HOST[:PORT] | URL", help="server, or an http, https, ftp or ftps URL"
    )
    add_test_options(client)
    _add_repeat_option(client)
    add_output_options(client)
    add_client_auth(client)
    add_url_options(client)
    add_link_options(client, "the report then says how much of its payload ceiling was reached")
    client.add_argument(
        "-p", "--port", type=port_number, help=f"the server's port (default {DEFAULT_PORT})"
    )
    loopback = commands.add_parser(
        "loopback", help="measure this machine's loopback, on a server of its own"
    )
    add_test_options(loopback)
    _add_repeat_option(loopback)
    add_output_options(loopback)
    for command in (client, loopback):
        command.add_argument(
            "--config",
            metavar="FILE",
            help="TOML file with the values of these options in a table [client], by their names;"
            " environment variables (NETMEASURE_TIME and so on) and the command line override it",
        )
    return client


def _add_comparisons(commands: _Commands) -> None:
    """Add the commands that run or compare many tests."""
    compare = commands.add_parser(
        "compare", help="compare two sets of saved runs, or two targets measured in turns"
    )
    _add_compare_options(compare)
    suite = commands.add_parser(
        "suite", help="run all tests of a plan (a campaign), and show them in one table"
    )
    add_suite_options(suite)
    k8s = commands.add_parser("k8s", help="write the Kubernetes objects that run a plan")
    _add_k8s_options(k8s)
    mesh = commands.add_parser("mesh", help="measure every pair of the workers of a Dask cluster")
    add_mesh_options(mesh)
    node = commands.add_parser(
        "node", help="show what this node is, its use of CPUs and memory, and its packet drops"
    )
    _add_node_options(node)


def _add_documents(commands: _Commands) -> None:
    """Add the commands for saved runs."""
    check = commands.add_parser("check", help="check saved runs against objectives (--slo)")
    check.add_argument("files", nargs="+", metavar="FILE", help="files that --json wrote")
    add_objective_options(check)
    check.set_defaults(json=None)
    export = commands.add_parser("export", help="write saved runs in the format of another tool")
    add_export_options(export)
    report = commands.add_parser(
        "report", help="turn saved runs into a web page, a picture or Markdown"
    )
    add_report_options(report)
    schema = commands.add_parser("schema", help="print the JSON Schema of a kind of document")
    add_schema_options(schema)
    history = commands.add_parser("history", help="store the figures of runs, and report changes")
    add_history_options(history)


def _add_paths(commands: _Commands) -> None:
    """Add the commands about a path or a server."""
    ceiling = commands.add_parser(
        "ceiling", help="compute the payload maximum of a link from rate, MTU and encapsulation"
    )
    add_ceiling_options(ceiling)
    probe = commands.add_parser("probe", help="check whether a server answers (liveness check)")
    add_probe_options(probe)
    ready = commands.add_parser(
        "ready", help="wait until targets can be reached, and show what delayed them"
    )
    add_ready_options(ready)
    path = commands.add_parser(
        "path", help="find the longest packet that gets through to a server and back"
    )
    add_path_options(path)
    capacity = commands.add_parser(
        "capacity", help="find the highest UDP rate with hardly any loss"
    )
    add_capacity_options(capacity)


def _add_repeat_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--repeat",
        type=count,
        metavar="N",
        help="run the whole test N times, each with a new set-up",
    )


def _add_compare_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "side",
        nargs="+",
        metavar="A B",
        help="two files that --json wrote; with --measure: two targets, hosts or URLs",
    )
    parser.add_argument(
        "--against",
        nargs="+",
        metavar="FILE",
        help="files of side B, if a side has several; the files before this option are side A's",
    )
    parser.add_argument(
        "--margin",
        type=share,
        default=DEFAULT_MARGIN,
        metavar="SHARE",
        help="bitrates that differ by this or less count as the same"
        f" (default {100 * DEFAULT_MARGIN:g}%%)",
    )
    parser.add_argument(
        "--fail-below",
        type=ratio,
        metavar="RATIO",
        help="exit with code 8 if B's bitrate is less than this share of A's (95%% or 0.95), with"
        " code 9 if the runs are not enough to decide",
    )
    turns = parser.add_argument_group("to measure")
    turns.add_argument(
        "--measure", action="store_true", help="measure A and B in turns: A B B A A B ..."
    )
    turns.add_argument(
        "--pairs",
        "--repeat",
        dest="pairs",
        type=count,
        default=5,
        metavar="N",
        help="runs of each side (default %(default)s)",
    )
    turns.add_argument(
        "--save", nargs=2, metavar=("FILE-A", "FILE-B"), help="save the runs of each side as JSON"
    )
    turns.add_argument(
        "-p", "--port", type=port_number, help=f"port of both servers (default {DEFAULT_PORT})"
    )
    add_test_options(parser)
    add_url_options(parser)
    add_link_options(parser, "the runs then say how much of its payload ceiling was reached")
    add_output_options(parser)


def _add_k8s_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("action", choices=("render",), help="render: write the objects as JSON")
    parser.add_argument("plan", metavar="PLAN.toml", help="a plan, as netmeasure suite takes it")
    parser.add_argument(
        "-o", "--output", default="-", metavar="FILE", help="file (default: standard output)"
    )
    parser.add_argument(
        "--name",
        default="netmeasure",
        help="name of the objects, and of the target in the plan (default %(default)s)",
    )
    parser.add_argument("--image", help=f"image (default netmeasure:{__version__})")
    parser.add_argument(
        "--host-network", action="store_true", help="the nodes' network, not the pods'"
    )
    parser.add_argument("--server-node", metavar="NODE", help="node of the server")
    parser.add_argument(
        "--client-node", metavar="NODE", help="node of the campaign (default: another one)"
    )


def _add_node_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "-t",
        "--time",
        type=seconds,
        default=10.0,
        metavar="S",
        help="watch for S, or until Ctrl-C; 0: only show what the node is (default 10 s)",
    )
    parser.add_argument(
        "--bpf", action="store_true", help="count how long eBPF programs run (needs privileges)"
    )
    parser.add_argument(
        "--json",
        nargs="?",
        const="-",
        metavar="FILE",
        help="write JSON to FILE, or to standard output instead of the report",
    )
