"""How typed functions become commands.

A command is a function: its positional parameters are words in their places, its keyword-only ones are options, and a
dataclass among these gives each of its fields as an option. Help comes from the docstrings: of the function what it
does, its `Args` and its `Examples`; of a dataclass what stands below each field. The annotation says what is taken;
`Annotated[int, Arg("N", PositiveInt)]` adds what stands for it in the help, and what it must be.
"""

from __future__ import annotations

import argparse
import inspect
import re
import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, fields, is_dataclass
from types import NoneType
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple, NoReturn, get_args, get_origin, get_type_hints

import docstring_parser
from jsonargparse import ActionYesNo, ArgumentParser, DefaultHelpFormatter, Namespace, set_parsing_settings

from motiongpt3.errors import MotionGPT3Error
from motiongpt3.formats import readable_suffixes, writable_suffixes

if TYPE_CHECKING:
    pass


set_parsing_settings(docstring_parse_attribute_docstrings=True)

# ------------------------------------------------------------------------------------------- a parser and its errors

KINDS = {
    "PositiveFloat": "a number above 0",
    "NonNegativeFloat": "a number, 0 or more",
    "PositiveInt": "a whole number above 0",
    "NonNegativeInt": "a whole number, 0 or more",
    "int": "a whole number",
    "float": "a number",
    "str": "text",
    "list": "a list such as '[a, b]'",
    "list[str]": "a list such as '[a, b]'",
    "NoneType": "null",
}
"""Types of the parser, in words."""


class _Help(argparse.RawDescriptionHelpFormatter, DefaultHelpFormatter):
    """Defaults where there are some; types only for what comes from a configuration class."""

    def _get_help_string(self, action: argparse.Action) -> str:
        if action.metavar is None and action.nargs != 0:
            return super()._get_help_string(action)
        if action.default in (None, False, argparse.SUPPRESS) or not action.option_strings or action.nargs == 0:
            return action.help or ""
        return f"{action.help} (default: {action.default})"


class Parser(ArgumentParser):
    """A jsonargparse parser whose errors are MotionGPT3Error with one line.

    Args:
        name: the command.
        description: what it does.
        examples: shown at the end of its help, a line each.
    """

    def __init__(self, name: str, description: str, examples: str = "") -> None:
        super().__init__(
            prog=f"motiongpt3 {name}",
            description=textwrap.fill(description, 100),
            epilog="examples:\n" + examples.strip("\n") if examples else None,
            formatter_class=_Help,
            allow_abbrev=False,
        )

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Raise MotionGPT3Error with the message in one line."""
        text = " ".join(message.split())
        if found := re.match(r"(?:the following arguments are|.*?) required: (.*)", text):
            names = {action.dest: next(iter(action.option_strings), str(action.metavar)) for action in self._actions}
            text = "missing: " + ", ".join(names.get(name, f"--{name}") for name in found[1].split(", "))
        text = re.sub(r'^Parser key "([^"]+)":', r"--\1:", text)
        text = re.sub(
            r"Does not validate against any of the Union subtypes Subtypes: \[(.*?)\] Errors: .*? Given value: (.*)",
            lambda found: f"needs {_in_words(found[1])}, not {found[2]}",
            text,
        )
        text = re.sub(r"Not of type (\w+):.*?('.*'|\S+)(?: does not conform.*)?$", _needs, text)
        text = re.sub(r"Expected an? (.*)\. Got value: (.*)", _needs, text)
        raise MotionGPT3Error(f"{text} (see {self.prog} --help)")


def _needs(found: re.Match[str]) -> str:
    return f"needs {_in_words(found[1])}, not {found[2]}"


def _in_words(kinds: str) -> str:
    """Names of types as words: "<class 'int'>, typing.Literal['all']" -> "a whole number or 'all'"."""
    kinds = re.sub(r"<class '([^']+)'>", r"\1", kinds)
    kinds = re.sub(r"(?:typing\.)?Literal\[([^\]]*)\]", r"\1", kinds)
    names = [name for name in kinds.split(", ") if name != "NoneType"]
    return " or ".join(KINDS.get(name, name) for name in names)


# ------------------------------------------------------------------------------------------------ functions as commands


class Arg(NamedTuple):
    """What an annotation says of a parameter besides its type."""

    metavar: str | tuple[str, ...]
    """Stands for the value in the help; one for each value of a tuple."""
    check: Any = None
    """A stricter type, whose errors `Parser` puts in words."""
    flags: str = ""
    """Names of the option, where they are not that of the parameter: "-o --out"."""
    repeat: bool = False
    """Whether each value has the option's name before it: -o a -o b."""


def run_command(function: Callable[..., int | None], name: str, argv: Sequence[str]) -> int:
    """Call a typed function with what the words after `motiongpt3 NAME` say; see the top of this file.

    Returns:
        What the function returns; 0 if that is nothing.

    Raises:
        MotionGPT3Error: for words that do not fit.
    """
    text, _, examples = (inspect.getdoc(function) or "").partition("\nExamples:\n")
    doc = docstring_parser.parse(text)
    parser, told = Parser(name, _one_line(doc.description), examples), _told(doc)
    hints = get_type_hints(function, include_extras=True)
    for at, parameter in inspect.signature(function).parameters.items():
        if is_dataclass(hints[at]):
            _add_fields(parser, hints[at], told)
        else:
            placed = parameter.kind is not parameter.KEYWORD_ONLY
            _add_argument(parser, at, hints[at], parameter.default, told[at], placed)
    hints.pop("return")
    return function(**_values(hints, parser.parse_args(argv))) or 0


def _add_fields(parser: Parser, kind: Any, told: dict[str, str]) -> None:
    """The fields of a dataclass as options, with its own help where `told` has none; fields of a field, too."""
    below: dict[str, str] = {}
    for base in filter(is_dataclass, reversed(kind.__mro__)):  # a field inherited is told where it was declared
        below |= _told(docstring_parser.parse_from_object(base))
    below |= told
    for name, (hint, default) in _fields(kind).items():
        if is_dataclass(hint):
            _add_fields(parser, hint, told)
        else:
            _add_argument(parser, name, hint, default, below[name])


def _fields(kind: Any) -> dict[str, tuple[Any, Any]]:
    """Types and defaults of the fields that words can give: not of the function that shows progress."""
    hints = get_type_hints(kind, include_extras=True)
    return {field.name: (hints[field.name], field.default) for field in fields(kind) if not callable(field.default)}


def _values(hints: Mapping[str, Any], options: Namespace) -> dict[str, Any]:
    """What was given for each parameter or field; those that are dataclasses are made of it."""
    values = {}
    for at, hint in hints.items():
        below = {name: kind for name, (kind, _) in _fields(hint).items()} if is_dataclass(hint) else {}
        values[at] = hint(**_values(below, options)) if below else options[at]
    return values


def _told(doc: docstring_parser.Docstring) -> dict[str, str]:
    """Parameter -> what a docstring says of it."""
    return {parameter.arg_name: _one_line(parameter.description) for parameter in doc.params}


def _one_line(text: str | None) -> str:
    return " ".join((text or "").split())


def _add_argument(parser: Parser, name: str, kind: Any, default: Any, text: str, placed: bool = False) -> None:
    """A parameter as an argument of the parser; one that is `placed` is known by its place, not by its name."""
    required = default in (inspect.Parameter.empty, MISSING)
    words: dict[str, Any] = {} if required else {"default": default}
    flags = f"--{name.replace('_', '-')}"
    while get_origin(kind) not in (None, Literal):
        origin, parts = get_origin(kind), [part for part in get_args(kind) if part is not NoneType]
        kind = parts[0]
        if origin is Annotated:
            arg: Arg = parts[1]
            flags = arg.flags or flags
            words |= {"metavar": arg.metavar} | ({"type": arg.check} if arg.check else {})
            words |= {"action": "append"} if arg.repeat else {}
        elif origin is tuple:
            words["nargs"] = len(parts)
        elif origin is list and "action" not in words:
            words["nargs"] = "*" if placed and not required else "+"
    if kind is bool:
        words["action"] = ActionYesNo(yes_prefix="", no_prefix="no-") if default else "store_true"
    elif get_origin(kind) is Literal:
        words |= {"type": kind, "metavar": "|".join(get_args(kind))}
    elif kind is not str:
        words.setdefault("type", kind)
    if not placed:
        words |= {"dest": name, "required": required}
    elif not required:
        words.setdefault("nargs", "?")
    known = {"readable": ", ".join(readable_suffixes()), "writable": ", ".join(writable_suffixes())}
    parser.add_argument(*([name] if placed else flags.split()), help=text.format(**known), **words)
