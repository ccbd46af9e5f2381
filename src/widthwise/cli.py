"""The command line: ``widthwise prune``, ``compare``, ``trace`` and the others in ``widthwise.commands``.

Every option is a field of a settings dataclass, so the same configuration comes from flags, from a file
(``--config``), from Python, and ``--print_config`` shows it. Known errors are printed without a traceback, exit code 2.
"""

import logging
import re
import sys
from collections.abc import Callable, Sequence
from importlib import metadata
from inspect import signature
from pathlib import Path
from typing import Any

from jsonargparse import ArgumentParser, DefaultHelpFormatter, set_parsing_settings
from rich.console import Console

from widthwise.commands import COMMANDS
from widthwise.commands.pruning import CONFIG_FILE
from widthwise.errors import WidthwiseError
from widthwise.runs import write_text

__all__ = ["main"]

set_parsing_settings(docstring_parse_attribute_docstrings=True)  # what --help says of a setting stands below its field


class _PlainHelp(DefaultHelpFormatter):
    """Docstrings without their markup, and a usage that does not list hundreds of options."""

    def add_usage(self, usage: str | None, actions: Any, groups: Any, prefix: str | None = None) -> None:
        positional = [action for action in actions if not action.option_strings]
        if usage is None and len(actions) - len(positional) > MANY:
            usage = self._format_usage(None, positional, [], None).removeprefix("usage: ").strip() + " [options]"
        super().add_usage(usage, actions, groups, prefix)

    def start_section(self, heading: str | None) -> None:
        super().start_section(_plain(heading) if heading else heading)

    def _expand_help(self, action: Any) -> str:
        return _plain(super()._expand_help(action))


MANY = 20
"""Options that a usage may list."""


def _plain(text: str) -> str:
    """A docstring as a terminal shows it: names without roles and backticks, on one line."""
    return " ".join(re.sub(r"(?::[a-z]+:)?(`+)~?([^`]+)\1", r"\2", text).split())


def _command(name: str) -> ArgumentParser:
    function = COMMANDS[name]
    about = (function.__doc__ or "").partition("\n")[0]
    part = ArgumentParser(description=about)
    part.add_argument("--config", action="config", help="a file with any of the settings below")
    options = signature(function).parameters
    flags = [key for key, option in options.items() if option.annotation is bool]
    several = [key for key, option in options.items() if option.annotation == list[Path]]
    part.add_function_arguments(function, as_positional=name != "prune", skip={*flags, *several})
    for key in several:  # RUN RUN, where jsonargparse would want "[RUN, RUN]"
        part.add_argument(key, type=Path, nargs="+", help=_described(function, key))
    for key in flags:  # --json, where jsonargparse would want --json true
        part.add_argument(f"--{key}", action="store_true", help=_described(function, key))
    return part


def _described(function: Callable[..., Any], option: str) -> str | None:
    """What the docstring says of an option."""
    found = re.search(rf"^ +{option}: (.*)$", function.__doc__ or "", re.MULTILINE)
    return found[1] if found else None


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    logging.getLogger("accelerate").setLevel(logging.ERROR)
    commands = {name: _command(name) for name in COMMANDS}
    about = "Finds how wide each layer of a network needs to be."
    version = metadata.version("widthwise")
    parser = ArgumentParser(prog="widthwise", description=about, version=version, formatter_class=_PlainHelp)
    subcommands = parser.add_subcommands()
    for name, part in commands.items():
        subcommands.add_subcommand(name, part, help=part.description)
    try:
        config = parser.parse_args(list(arguments) if arguments is not None else None)
        name = config.subcommand
        settings = parser.instantiate(config)[name]
        options = {key: value for key, value in vars(settings).items() if key != "config"}
        made = COMMANDS[name](**options)
        if name == "prune":
            write_text(made / CONFIG_FILE, commands[name].dump(config[name]))
    except WidthwiseError as error:
        Console(stderr=True).print(f"{type(error).__name__}: {error}", style="red", markup=False, highlight=False)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
