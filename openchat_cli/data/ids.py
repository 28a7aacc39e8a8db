"""The ids that `--ids FILE` names, in any of the forms in which people keep them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from openchat_cli.core.errors import InputError
from openchat_cli.core.jsonl import open_input

_HINT = "one id a line, a JSON list of ids, or JSONL rows with an id"


def read_ids(path: Path) -> dict[str, None]:
    """The ids of a file, each once and in its order; `-` is stdin, `.gz` is unpacked.

    Raises InputError for a file that holds none.
    """
    with open_input(path) as stream:
        data = stream.read()
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8 (byte {error.start})", _HINT) from None
    found = dict.fromkeys(_ids(path, text))
    if not found:
        raise InputError(f"{path}: holds no ids", _HINT)
    return found


def _ids(path: Path, text: str) -> list[str]:
    if text.lstrip()[:1] in ("[", "{"):
        try:
            value = json.loads(text)
        except (ValueError, RecursionError):
            value = None
        if isinstance(value, dict) and isinstance(value.get("ids"), list):
            value = value["ids"]
        if isinstance(value, list):
            return [_id(f"{path}: item {place}", item) for place, item in enumerate(value, 1)]
    # Only ends of lines part ids: other blanks, and U+2028, may stand inside one.
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    return [
        _of_line(f"{path}:{number}", line.strip())
        for number, line in enumerate(lines, 1)
        if line.strip()
    ]


def _of_line(where: str, line: str) -> str:
    if line[0] not in '{"':
        return line
    try:
        return _id(where, json.loads(line))
    except (ValueError, RecursionError):
        if line[0] == '"':
            return line  # an id that begins with a quotation mark
        raise InputError(f"{where}: neither an id nor a JSON row", _HINT) from None


def _id(where: str, item: Any) -> str:
    value = item.get("id") if isinstance(item, dict) else item
    if isinstance(value, bool) or not isinstance(value, str | int) or value == "":
        raise InputError(f"{where}: no id there", _HINT)
    return str(value)
