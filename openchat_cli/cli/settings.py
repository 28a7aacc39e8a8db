"""`openchat.toml`, found upward from the working folder: defaults for the options of every command.

    [data.clean]
    workers = 4

A flag beats the environment (OPENCHAT_DATA_CLEAN_WORKERS), which beats this file, which beats the
default.
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

from openchat_cli.core.errors import UsageError, did_you_mean

FILE_NAME = "openchat.toml"


def option_name(param: Any) -> str:
    """An option's name as a person types it, without dashes before it; an argument's own name."""
    long = [name for name in param.opts if name.startswith("--")]
    return long[0].removeprefix("--") if long else str(param.name).rstrip("_")


def name_environment(command: Any, at: tuple[str, ...] = ("openchat",)) -> None:
    """Give every option of the command tree its variable, such as OPENCHAT_DATA_CLEAN_WORKERS.

    Typer's own prefix would take the Python name, which differs where that is a keyword. The
    variables stay out of the help pages: the rule is one line, the list would be pages.
    """
    for name, child in getattr(command, "commands", {}).items():
        name_environment(child, (*at, name))
    for param in command.params:
        if param.param_type_name == "option" and not param.is_eager:
            param.envvar = "_".join((*at, option_name(param))).replace("-", "_").upper()
            param.show_envvar = False
            if param.multiple:
                param.envvar_list_splitter = "\n"  # blanks are part of labels and conditions


def find(start: Path) -> Path | None:
    """The nearest openchat.toml in `start` or a folder above it."""
    for folder in (start, *start.parents):
        if (folder / FILE_NAME).is_file():
            return folder / FILE_NAME
    return None


def defaults(path: Path, root: Any) -> dict[str, Any]:
    """The file as nested defaults of the command tree under `root` (Typer's command object).

    Raises UsageError for a table or a key that no command has, or a list in the wrong place.
    """
    try:
        table = tomllib.loads(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UsageError(f"{path}: can't be read as TOML ({error})") from None
    return _of_command(path, (), table, root)


def _of_command(path: Path, at: tuple[str, ...], table: Any, command: Any) -> dict[str, Any]:
    where = f"{path}: [{'.'.join(at)}]" if at else str(path)
    if not isinstance(table, dict):
        raise UsageError(f"{where} must be a table")
    commands = getattr(command, "commands", None)
    if commands is not None:
        known = dict(commands)
    else:
        known = {option_name(param): param for param in command.params}
    found: dict[str, Any] = {}
    for key, value in table.items():
        name = key if commands is not None else key.replace("_", "-")
        if name not in known:
            kind = "command" if commands is not None else "option"
            raise UsageError(f"{where} has no {kind} '{key}'", did_you_mean(key, known))
        if commands is not None:
            found[name] = _of_command(path, (*at, name), value, known[name])
        else:
            found[known[name].name] = _checked(f"{where} {key}", value, known[name])
    return found


def _checked(where: str, value: Any, param: Any) -> Any:
    """The value, of an option that may be repeated as a list; one value stands for a list of one.

    Raises UsageError for a list or table in the place of one value: Typer can't name the file.
    """
    several = getattr(param, "multiple", False)  # arguments have no such attribute
    values = value if several and isinstance(value, list) else [value]
    for one in values:
        if isinstance(one, list | dict):
            raise UsageError(f"{where}: one value is expected, found a {_kind(one)}")
    return values if several else value


def _kind(value: object) -> str:
    return "list" if isinstance(value, list) else "table"
