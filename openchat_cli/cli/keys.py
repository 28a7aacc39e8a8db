"""The key of an endpoint: from the environment or a file, never from an option's value."""

from __future__ import annotations

import os
from pathlib import Path

from openchat_cli.core.errors import InputError, UsageError


def api_key(file: Path | None) -> str | None:
    """The key of the file, else of the environment."""
    key = os.environ.get("OPENAI_API_KEY", "").strip()
    where = "OPENAI_API_KEY"
    if file is not None:
        where = str(file)
        try:
            key = file.read_text("utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"{where}: the key can't be read ({type(error).__name__})") from None
    elif not key:
        return None
    if len(key.split()) != 1 or not (key.isascii() and key.isprintable()):
        raise UsageError(f"{where}: one key and nothing else was expected")
    return key
