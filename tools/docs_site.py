"""Generate parts of the documentation from the code, as a Sphinx extension.

A page includes a generated part by a comment on a line of its own, such as `<!-- cli -->`. Readers
of the plain file do not see the comment; the site and the tests of links see the part.

- `<!-- cli -->`: every command of `netmeasure` and its options, from the parsers of argparse.
- `<!-- iperf3-options -->`: the options of `netmeasure iperf3`, from its table.
- `<!-- result-parts -->`: the types within results that have no public name.

Docstrings are written for readers of the code: a class describes its fields under `Attributes:`, or
in two columns. Here each text is placed at its field, and names of types link to their
descriptions.
"""

from __future__ import annotations

import argparse
import builtins
import importlib
import inspect
import re
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple, get_args, get_type_hints

import msgspec

import netmeasure
from netmeasure.cli import options
from netmeasure.cli.iperf3.table import OPTIONS, Option

if TYPE_CHECKING:
    from docutils.nodes import Element, document
    from sphinx.addnodes import pending_xref
    from sphinx.application import Sphinx
    from sphinx.environment import BuildEnvironment

#: Types of other packages, which this reference does not describe: no warning that they are not
#: found.
FOREIGN_NAMES = [
    (r"py:.*", r"(asyncio|collections|enum|ipaddress|numpy|os|pathlib|socket|ssl|typing)\..*"),
    (r"py:.*", r"(msgspec|aiohttp|aioftp|pandas|pyarrow)\..*"),
    (r"py:.*", r"(ABC|Any|ClassVar|Json|Exception|Path|Struct|TimeoutError|ValueError|optional)"),
]


# ---- the command lines ---------------------------------------------------------------------------


def cli() -> str:
    """Return the reference of netmeasure's own commands as Markdown."""
    top = options.parser()
    parts = [f"```text\n{_usage(top)}\n```", *_tables(top)]
    for name, summary, parser in commands(top):
        parts += [f"## netmeasure {name}", f"{_sentence(summary)}"]
        if name == "iperf3":
            parts.append("Its options are in a [table of their own](iperf3-options.md).")
            continue
        parts += [f"```text\n{_usage(parser)}\n```", *_tables(parser)]
    return "\n\n".join(parts) + "\n"


def commands(top: argparse.ArgumentParser) -> Iterator[tuple[str, str, argparse.ArgumentParser]]:
    """Yield name, summary and parser of each command."""
    for action in top._actions:
        if isinstance(action, argparse._SubParsersAction):
            summaries = {choice.dest: choice.help or "" for choice in action._choices_actions}
            for name, parser in action.choices.items():
                yield name, summaries[name], parser


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:].rstrip('.')}."


def _usage(parser: argparse.ArgumentParser) -> str:
    """Return the shape of a command line, without the options that the tables list."""
    formatter = parser._get_formatter()
    values = [
        formatter._format_args(action, action.dest)
        for action in parser._actions
        if not action.option_strings and not isinstance(action, argparse._SubParsersAction)
    ]
    if parser._subparsers:
        values = ["COMMAND"]
    return " ".join([parser.prog, "[OPTION]...", *values])


def _tables(parser: argparse.ArgumentParser) -> Iterator[str]:
    """Yield a heading and a table for each group of options that has any."""
    for group in parser._action_groups:
        rows = [
            f"| {_names(parser, action)} | {_help(parser, action)} |"
            for action in group._group_actions
            if not isinstance(action, argparse._SubParsersAction | argparse._HelpAction)
        ]
        if rows:
            title = {"positional arguments": "arguments"}.get(group.title or "", group.title)
            yield f"**{_sentence(title or 'options').rstrip('.')}**" + (
                f": {group.description}" if group.description else ""
            )
            yield "\n".join(["| option | meaning |", "|---|---|", *rows])


def _names(parser: argparse.ArgumentParser, action: argparse.Action) -> str:
    values = parser._get_formatter()._format_args(action, (action.dest).upper())
    if not action.option_strings:
        return _code(values)
    names = ", ".join(_code(name) for name in action.option_strings)
    return f"{names} {_code(values)}" if action.nargs != 0 else names


def _help(parser: argparse.ArgumentParser, action: argparse.Action) -> str:
    text = parser._get_formatter()._expand_help(action) if action.help else ""
    default = action.default
    if "default" not in text and default not in (None, False, [], argparse.SUPPRESS, "any"):
        text = f"{text}{'; ' if text else ''}default {default}"
    return _cell(text)


def _code(text: str) -> str:
    return f"`{_cell(text)}`"


def _cell(text: str) -> str:
    """Return text that may be in a cell of a table."""
    return text.replace("|", r"\|").replace("<", "&lt;")


def iperf3_options() -> str:
    """Return the options of `netmeasure iperf3` as Markdown tables, by the role that takes them."""
    parts = []
    for role, title in (
        ("both", "Server and client"),
        ("server", "Server only"),
        ("client", "Client only"),
    ):
        rows = [
            f"| {_iperf3_names(option)} | {_cell(option.help)} | {_SINCE[option.newer]} |"
            for option in OPTIONS
            if option.role == role
        ]
        heads = ["| option | meaning | since iperf3 |", "|---|---|---|"]
        parts += [f"## {title}", "\n".join([*heads, *rows])]
    return "\n\n".join(parts) + "\n"


_SINCE = {False: "3.12", True: "3.21"}


def _iperf3_names(option: Option) -> str:
    names = [f"-{option.short}"] if option.short else []
    names += [f"--{name}" for name in option.longs]
    return ", ".join(map(_code, names)) + (f" {_code(option.shown)}" if option.shown else "")


# ---- docstrings ----------------------------------------------------------------------------------

_NAMES = r"[\w*]+(?:, [\w*]+)*"
_ENTRY = re.compile(rf"({_NAMES}) {{2,}}(\S.*)")
_NAMES_ALONE = re.compile(rf"({_NAMES}),?")
_ATTRIBUTE = re.compile(r" {4}(\w+): (.*)")
_SECTION = re.compile(r"(Args|Returns|Yields|Raises|Example|Examples|Note|Notes):")
_CODE = re.compile(r"(``.+?``|:[\w:]+:`.+?`|`.+?`)")


class Docstring(NamedTuple):
    """Hold the docstring of a class with fields.

    prose    its lines without those about fields
    fields   the text of each field that has one
    """

    prose: list[str]
    fields: dict[str, str]


def parse_docstring(lines: list[str]) -> Docstring:
    """Split a docstring into its prose and its fields.

    Fields are in a section `Attributes:` with entries `name: text`, or in columns. A column entry
    is a line `name, name   text`, then lines of further text. A paragraph is a table of columns if
    its first line is an entry.
    """
    prose: list[str] = []
    fields: dict[str, str] = {}
    section = False
    for block in _paragraphs(lines):
        section = block[0] == "Attributes:" or (section and block[0].startswith(" "))
        if section:
            fields |= _attributes(block)
            continue
        entry = _ENTRY.fullmatch(block[0])
        if entry is None:
            prose += [*block, ""]
            continue
        column, names = entry.start(2), ""
        for line in block:
            if line.startswith(" "):
                fields[names] = f"{fields[names]} {line.strip()}".strip()
                continue
            names, text = _split_entry(line, column)
            fields[names] = text
    apart = {name: text for names, text in fields.items() for name in names.split(", ")}
    return Docstring(prose, apart)


def _attributes(block: list[str]) -> dict[str, str]:
    """Return the texts in a section `Attributes:`, by the names of the fields."""
    found: dict[str, str] = {}
    name = ""
    for line in block:
        if match := _ATTRIBUTE.fullmatch(line):
            name = match[1]
            found[name] = match[2]
        elif name:
            found[name] += f" {line.strip()}"
    return found


def _split_entry(line: str, column: int) -> tuple[str, str]:
    if match := _ENTRY.fullmatch(line):
        return match[1], match[2]
    if match := _NAMES_ALONE.fullmatch(line):  # the text is on the next line
        return match[1], ""
    return line[: column - 1], line[column:]  # a name that fills its column


def _paragraphs(lines: list[str]) -> Iterator[list[str]]:
    block: list[str] = []
    for line in [*lines, ""]:
        if line.strip():
            block.append(line)
        elif block:
            yield block
            block = []


def to_markup(lines: list[str]) -> list[str]:
    """Return the lines of a docstring as reStructuredText.

    Docstrings are plain text with `code`, literal blocks after `::`, and sections such as `Args:`.
    """
    found: list[str] = []
    literal = section = False
    for line in lines:
        if literal and line and not line.startswith(" "):
            literal = False
        if _SECTION.fullmatch(line):
            section = True
            found += ["", f"**{line}**", ""]
        elif section and (match := re.fullmatch(r" {4}(\*{0,2}\w+): (.*)", line)):
            found += [f"``{match[1]}``", f"    {_escaped(match[2])}"]
        elif section and line.startswith("    "):
            found.append(f"    {_escaped(line.strip())}")
        else:
            section = section and not line
            found.append(line if literal else _escaped(line))
        literal = literal or line.endswith("::")
    return found


def _escaped(line: str) -> str:
    """Return a line in which special characters outside of code are escaped."""
    pieces = _CODE.split(line)
    pieces[::2] = [re.sub(r"(?<!\*)[*|](?!\*)", r"\\\g<0>", piece) for piece in pieces[::2]]
    return "".join(pieces)


def _process_docstring(
    _app: Sphinx, what: str, name: str, documented: object, _options: object, lines: list[str]
) -> None:
    if what == "attribute" and not lines:
        lines += _field_lines(name)
        return
    prose, texts = parse_docstring(lines)
    fields = field_defaults(documented)
    lines[:] = to_markup(prose)
    apart = {entry: text for entry, text in texts.items() if entry not in fields}
    if apart:  # the others have their texts at the fields
        lines += ["", "**Attributes:**", ""]
    for entry, text in apart.items():
        lines += [f"``{entry}``", f"    {_escaped(text)}"]


def _field_lines(name: str) -> list[str]:
    """Return the description of a field: its text and, if a user may set it, its default."""
    path, _, field = name.rpartition(".")
    owner = find(path)
    default = field_defaults(owner).get(field)
    if default is None:
        return []
    text = field_text(owner, field)
    if owner.__module__.startswith("netmeasure.spec") and default != REQUIRED:
        text = f"{text} Default: ``{default}``.".strip()
    return [_escaped(f"{text[:1].upper()}{text[1:]}")]


def field_text(owner: type, field: str) -> str:
    """Return the text of a field from the docstring of its class, or of a base of it."""
    for base in owner.__mro__:
        text = parse_docstring(inspect.cleandoc(base.__doc__ or "").splitlines()).fields
        if field in text:
            return text[field].rstrip(".") + "."
    return ""


REQUIRED = "required"


def field_defaults(owner: object) -> dict[str, str]:
    """Return the fields of a structure, each with its default as text."""
    if not isinstance(owner, type) or not issubclass(owner, msgspec.Struct):
        return {}
    return {field.name: _default(field) for field in msgspec.structs.fields(owner)}


def _default(field: msgspec.structs.FieldInfo) -> str:
    if field.default_factory is not msgspec.NODEFAULT:
        return f"{field.default_factory.__name__}()"
    if field.default is msgspec.NODEFAULT:
        return REQUIRED
    if isinstance(field.default, msgspec.Struct) and field.default == type(field.default)():
        return f"{type(field.default).__name__}()"
    return repr(field.default)


def find(path: str) -> Any:
    """Return the object with this dotted path: that of a module, or of a class in it."""
    parts = path.split(".")
    for count in range(len(parts), 0, -1):
        try:
            found: Any = importlib.import_module(".".join(parts[:count]))
        except ModuleNotFoundError:
            continue
        for part in parts[count:]:
            found = getattr(found, part)
        return found
    raise LookupError(path)


def _process_signature(
    _app: Sphinx, what: str, _name: str, documented: object, *_: object
) -> tuple[str, None] | None:
    """Leave out the parameters of classes that no user creates, or whose fields are listed."""
    made_by_users = documented in (netmeasure.Gatekeeper, netmeasure.MeasureError)
    return ("", None) if what in ("class", "exception") and not made_by_users else None


# ---- names ---------------------------------------------------------------------------------------


def parts_of_results() -> list[type]:
    """Return the types that fields of public types have and that are not public themselves."""
    waiting = [getattr(netmeasure, name) for name in netmeasure.__all__]
    seen: list[type] = []
    while waiting:
        one = waiting.pop(0)
        waiting += [argument for argument in get_args(one) if argument not in seen]
        if isinstance(one, type) and issubclass(one, msgspec.Struct) and one not in seen:
            seen.append(one)
            waiting += get_type_hints(one).values()
    ours = [one for one in seen if one.__name__ not in netmeasure.__all__]
    return sorted(ours, key=lambda one: one.__name__)


def result_parts() -> str:
    """Return the reference of `parts_of_results` as Markdown."""
    names = [f"{one.__module__}.{one.__qualname__}" for one in parts_of_results()]
    return "\n".join(["```{eval-rst}", *(f".. autoclass:: {name}" for name in names), "```"])


GENERATED: dict[str, Callable[[], str]] = {
    "cli": cli,
    "iperf3-options": iperf3_options,
    "result-parts": result_parts,
}
_PLACE = re.compile(r"^<!-- ([\w-]+) -->$", re.MULTILINE)


def with_generated_parts(page: str) -> str:
    """Return a page with its generated parts in their places. KeyError for an unknown part."""
    return _PLACE.sub(lambda match: GENERATED[match[1]](), page)


def without_docstring() -> list[str]:
    """Return the public names, and methods and properties of public classes, with no docstring."""
    found = []
    for name in sorted(set(netmeasure.__all__) - {"__version__"}):
        public = getattr(netmeasure, name)
        path = f"netmeasure.{name}"
        if not isinstance(public, type):
            found += [] if public.__doc__ else [path]
            continue
        own = vars(public)  # an object without a docstring of its own would show that of its base
        found += [] if own.get("__doc__") else [path]
        found += [
            f"{path}.{attribute}"
            for attribute, value in own.items()
            if not attribute.startswith("_")
            and (inspect.isfunction(value) or isinstance(value, property | classmethod))
            and not value.__doc__
        ]
    return found


def _check_reference(_app: Sphinx, env: BuildEnvironment) -> None:
    """Warn of public names that have no docstring or no place in the reference."""
    from sphinx.util import logging

    logger = logging.getLogger(__name__)
    described = {name for name, *_ in env.get_domain("py").get_objects()}
    for name in netmeasure.__all__:
        if f"netmeasure.{name}" not in described:
            logger.warning("netmeasure.%s is missing in docs/reference/api", name)
    for path in without_docstring():
        logger.warning("%s has no docstring", path)


def _resolve(
    app: Sphinx, env: BuildEnvironment, node: pending_xref, content: Element
) -> Element | None:
    """Let the module path of a type, as in the code, refer to its public name."""
    if node.get("refdomain") != "py":
        return None
    if node.get("reftype") == "mod":  # the name of a file, for readers of the code
        return content
    name = node.get("reftarget", "").rpartition(".")[2]
    if name not in netmeasure.__all__:
        return None
    return env.get_domain("py").resolve_xref(
        env, node["refdoc"], app.builder, "obj", f"netmeasure.{name}", node, content
    )


def _leave_builtins(_app: Sphinx, document: document) -> None:
    """Make no reference for the name of a builtin: some fields are called `bytes`, too."""
    from sphinx.addnodes import pending_xref  # the tests of links do not need Sphinx
    from sphinx.util.nodes import find_pending_xref_condition

    for node in list(document.findall(pending_xref)):
        if node.get("refdomain") == "py" and hasattr(builtins, node.get("reftarget", "")):
            node.replace_self((find_pending_xref_condition(node, "resolved") or node).children)


def _insert(_app: Sphinx, _document: str, source: list[str]) -> None:
    source[0] = with_generated_parts(source[0])


def setup(app: Sphinx) -> dict[str, Any]:
    """Connect the functions of this module to a build."""
    app.connect("source-read", _insert)
    app.connect("autodoc-process-docstring", _process_docstring)
    app.connect("autodoc-process-signature", _process_signature)
    app.connect("doctree-read", _leave_builtins)
    app.connect("env-check-consistency", _check_reference)
    app.connect("missing-reference", _resolve)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
