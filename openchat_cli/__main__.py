"""`openchat`, which is also `python -m openchat_cli`."""

from __future__ import annotations

import sys
from typing import NoReturn


def run() -> NoReturn:
    """The console script. A Ctrl-C may also come while the program is being loaded."""
    try:
        from openchat_cli.cli.main import run as run_command_line

        run_command_line()
    except KeyboardInterrupt:
        sys.stderr.write("interrupted\n")
        sys.exit(130)


if __name__ == "__main__":
    run()
