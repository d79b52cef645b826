"""Help as people read it, whatever the width of their terminal. It says nothing of its own."""

from __future__ import annotations

import inspect
from typing import Any

__all__ = ["with_readable_help"]


def with_readable_help(command: Any) -> Any:
    """Return a Click command, given, and those under it, with help that is laid out anew.

    A paragraph is one line, for the terminal to wrap. Flags name no type, since they take no value,
    and arguments none beside their name, which says it.
    """
    if command.help:
        paragraphs = inspect.cleandoc(command.help).split("\n\n")
        command.help = "\n\n".join(" ".join(text.split()) for text in paragraphs)
    asking = command.get_help_option(command.context_class(command))  # made once, and kept
    for parameter in [*command.params, *filter(None, [asking])]:
        if getattr(parameter, "is_flag", False):
            parameter.metavar = ""
        elif parameter.param_type_name == "argument":
            parameter.display_type_rich = lambda ctx: None
    for below in getattr(command, "commands", {}).values():
        with_readable_help(below)
    return command
