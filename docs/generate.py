"""Write what the program itself knows: docs/reference.md and completions/. Run by `make gen`.

CI runs it too and fails when a committed file differs, so that help and completions never drift.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import typer

from openchat_cli.cli.main import app

ROOT = Path(__file__).parent.parent
COMPLETIONS = {"bash": "openchat.bash", "zsh": "_openchat", "fish": "openchat.fish"}


def openchat(*arguments: str, **environment: str) -> str:
    """What `openchat ARGUMENTS` prints, at a fixed width and without colours."""
    # The program name shows in both outputs: run as `openchat`, not as `__main__.py`.
    code = "import sys; sys.argv[0] = 'openchat'; from openchat_cli.cli.main import run; run()"
    plain = {"TYPER_USE_RICH": "0", "COLUMNS": "100", "NO_COLOR": "1"}
    ended = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        env={**os.environ, **plain, **environment},
        check=True,
        capture_output=True,
        text=True,
    )
    return "\n".join(line.rstrip() for line in ended.stdout.strip().splitlines()) + "\n"


def commands(command: object, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """The path of every command of the tree, groups before what is in them."""
    yield path
    for name, child in getattr(command, "commands", {}).items():
        if not child.hidden:
            yield from commands(child, (*path, name))


def reference() -> str:
    """Every command's help, one section each."""
    parts = ["# Command reference\n\nMade by `make gen` from the program's own help.\n"]
    for path in commands(typer.main.get_command(app)):
        title = " ".join(("openchat", *path))
        parts.append(f"## `{title}`\n\n```text\n{openchat(*path, '--help')}```\n")
    return "\n".join(parts)


def main() -> None:
    """Write all generated files."""
    (ROOT / "docs" / "reference.md").write_text(reference(), "utf-8")
    for shell, name in COMPLETIONS.items():
        script = openchat(_OPENCHAT_COMPLETE=f"source_{shell}")
        (ROOT / "completions" / name).write_text(script, "utf-8")


if __name__ == "__main__":
    main()
