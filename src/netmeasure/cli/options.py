"""Define the commands and their options. `values` converts their values, and `specs` uses these."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from typing import NamedTuple

from netmeasure.cli.network import add_client_auth
from netmeasure.cli.options_of_output import add_objective_options, add_output_options
from netmeasure.cli.options_of_tests import add_link_options, add_test_options, add_url_options
from netmeasure.cli.parsing import OneLineParser, RawHelpLines
from netmeasure.cli.settings import CLIENTS, use_client_settings, use_settings
from netmeasure.cli.values import count, port_number, ratio, seconds, share
from netmeasure.spec import DEFAULT_MARGIN, DEFAULT_PORT
from netmeasure.version import __version__

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


class _Command(NamedTuple):
    """Hold a command: its name, its line in the list of commands, and what adds its options."""

    name: str
    help: str
    add_options: Callable[[argparse.ArgumentParser], None]


def parser(argv: Sequence[str] = ()) -> OneLineParser:
    """Return the parser of the whole command line, except iperf3's.

    If `argv` begins with a command, only this one has its options, since all of them take longer
    than the set-up of a test. If it is one with settings, these are its defaults (`settings`).
    """
    top = OneLineParser(
        prog="netmeasure",
        description="Measures networks; keeps connection set-up apart from the steady bitrate.",
        epilog=_EPILOG,
        formatter_class=RawHelpLines,
    )
    top.add_argument("--version", action="version", version=f"netmeasure {__version__}")
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    names = [command.name for command in _COMMANDS]
    wanted = {argv[0]} if argv and argv[0] in names else set(names)
    if wanted & {"server", *CLIENTS}:
        wanted.add("client")  # settings are named by its options
    for command in _COMMANDS:
        helps = command.name != "iperf3"  # `main` never passes iperf3's options to this parser
        one = commands.add_parser(command.name, help=command.help, add_help=helps)
        if command.name in wanted:
            command.add_options(one)
    top.commands = commands.choices
    client = top.commands["client"]
    if argv[:1] == ["server"]:
        use_settings(top.commands["server"], argv[1:], client._actions)
    elif argv and argv[0] in CLIENTS:
        use_client_settings(top.commands[argv[0]], argv[1:], client._actions)
    return top


# ---- the commands' options; modules that only one command needs are imported for it -----------


def _add_client_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "target", metavar="HOST[:PORT] | URL", help="server, or an http, https, ftp or ftps URL"
    )
    add_test_options(parser)
    _add_repeat_option(parser)
    add_output_options(parser)
    add_client_auth(parser)
    add_url_options(parser)
    add_link_options(parser, "the report then says how much of its payload ceiling was reached")
    parser.add_argument(
        "-p", "--port", type=port_number, help=f"the server's port (default {DEFAULT_PORT})"
    )
    _add_config_option(parser)


def _add_loopback_options(parser: argparse.ArgumentParser) -> None:
    add_test_options(parser)
    _add_repeat_option(parser)
    add_output_options(parser)
    _add_config_option(parser)


def _add_config_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--config",
        metavar="FILE",
        help="TOML file with the values of these options in a table [client], by their names;"
        " environment variables (NETMEASURE_TIME and so on) and the command line override it",
    )


def _add_suite_options(parser: argparse.ArgumentParser) -> None:
    from netmeasure.cli.options_of_suite import add_suite_options

    add_suite_options(parser)


def _add_mesh_options(parser: argparse.ArgumentParser) -> None:
    from netmeasure.cli.options_of_mesh import add_mesh_options

    add_mesh_options(parser)


def _add_check_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("files", nargs="+", metavar="FILE", help="files that --json wrote")
    add_objective_options(parser)
    parser.set_defaults(json=None)


def _add_export_options(parser: argparse.ArgumentParser) -> None:
    from netmeasure.cli.options_of_documents import add_export_options

    add_export_options(parser)


def _add_report_options(parser: argparse.ArgumentParser) -> None:
    from netmeasure.cli.options_of_documents import add_report_options

    add_report_options(parser)


def _add_schema_options(parser: argparse.ArgumentParser) -> None:
    from netmeasure.cli.options_of_documents import add_schema_options

    add_schema_options(parser)


def _add_history_options(parser: argparse.ArgumentParser) -> None:
    from netmeasure.cli.options_of_history import add_history_options

    add_history_options(parser)


def _add_ceiling_options(parser: argparse.ArgumentParser) -> None:
    from netmeasure.cli.options_of_paths import add_ceiling_options

    add_ceiling_options(parser)


def _add_probe_options(parser: argparse.ArgumentParser) -> None:
    from netmeasure.cli.options_of_paths import add_probe_options

    add_probe_options(parser)


def _add_ready_options(parser: argparse.ArgumentParser) -> None:
    from netmeasure.cli.options_of_paths import add_ready_options

    add_ready_options(parser)


def _add_path_options(parser: argparse.ArgumentParser) -> None:
    from netmeasure.cli.options_of_paths import add_path_options

    add_path_options(parser)


def _add_capacity_options(parser: argparse.ArgumentParser) -> None:
    from netmeasure.cli.options_of_capacity import add_capacity_options

    add_capacity_options(parser)


def _add_server_options(parser: argparse.ArgumentParser) -> None:
    from netmeasure.cli.options_of_server import add_options_of_server

    add_options_of_server(parser)


def _add_exporter_options(parser: argparse.ArgumentParser) -> None:
    from netmeasure.cli.options_of_exporter import add_exporter_options

    add_exporter_options(parser)


def _add_completion_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "shell", choices=SHELLS, help="such as: source <(netmeasure completion bash)"
    )


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


#: All commands, in the order in which the help lists them.
_COMMANDS = (
    _Command("client", "run a test against a server", _add_client_options),
    _Command(
        "loopback",
        "measure this machine's loopback, on a server of its own",
        _add_loopback_options,
    ),
    _Command(
        "compare",
        "compare two sets of saved runs, or two targets measured in turns",
        _add_compare_options,
    ),
    _Command(
        "suite",
        "run all tests of a plan (a campaign), and show them in one table",
        _add_suite_options,
    ),
    _Command("k8s", "write the Kubernetes objects that run a plan", _add_k8s_options),
    _Command("mesh", "measure every pair of the workers of a Dask cluster", _add_mesh_options),
    _Command(
        "node",
        "show what this node is, its use of CPUs and memory, and its packet drops",
        _add_node_options,
    ),
    _Command("check", "check saved runs against objectives (--slo)", _add_check_options),
    _Command("export", "write saved runs in the format of another tool", _add_export_options),
    _Command(
        "report", "turn saved runs into a web page, a picture or Markdown", _add_report_options
    ),
    _Command("schema", "print the JSON Schema of a kind of document", _add_schema_options),
    _Command("history", "store the figures of runs, and report changes", _add_history_options),
    _Command(
        "ceiling",
        "compute the payload maximum of a link from rate, MTU and encapsulation",
        _add_ceiling_options,
    ),
    _Command("probe", "check whether a server answers (liveness check)", _add_probe_options),
    _Command(
        "ready",
        "wait until targets can be reached, and show what delayed them",
        _add_ready_options,
    ),
    _Command(
        "path",
        "find the longest packet that gets through to a server and back",
        _add_path_options,
    ),
    _Command("capacity", "find the highest UDP rate with hardly any loss", _add_capacity_options),
    _Command("server", "serve tests, many at a time, until a signal", _add_server_options),
    _Command(
        "exporter", "measure by schedule and on request, for Prometheus", _add_exporter_options
    ),
    _Command("completion", "print the completion for a shell", _add_completion_options),
    _Command(
        "iperf3",
        "accept iperf3's options and print iperf3's output: see netmeasure iperf3 --help",
        lambda _: None,
    ),
)
