"""A process on a terminal of its own, typed into and read as a person would."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
import time
from pathlib import Path
from typing import Self

_ESCAPES = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b\][^\x07]*\x07|\x1b[=>]")


class Typed:
    """`openchat ARGUMENTS` on a pseudo-terminal of 80 by 24; `text` is all that it has shown."""

    def __init__(self, *arguments: object, folder: Path, env: dict[str, str] | None = None) -> None:
        self._master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
        base = {key: value for key, value in os.environ.items() if key != "COLUMNS"}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "openchat_cli", *map(str, arguments)],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            cwd=folder,
            env={**base, "TERM": "xterm", "XDG_STATE_HOME": str(folder / "state"), **(env or {})},
            start_new_session=True,
            preexec_fn=_own_terminal,
        )
        os.close(slave)
        self.raw = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        os.close(self._master)

    @property
    def text(self) -> str:
        """What was shown, without control sequences."""
        return _ESCAPES.sub("", self.raw).replace("\r", "")

    def type(self, text: str) -> None:
        """Type as on a keyboard: "\\r" is Enter, "\\x03" Ctrl-C, "\\x04" Ctrl-D."""
        os.write(self._master, text.encode())

    def wait(self, words: str, count: int = 1, seconds: float = 30) -> None:
        """Until these words have been shown so many times."""
        deadline = time.monotonic() + seconds
        while self.text.count(words) < count:
            assert time.monotonic() < deadline, f"never shown: {words!r}\n{self.text}"
            self._read(0.05)

    def more(self, characters: int) -> None:
        """Until that many more characters have been shown."""
        goal, deadline = len(self.text) + characters, time.monotonic() + 30
        while len(self.text) < goal:
            assert time.monotonic() < deadline, f"nothing more\n{self.text}"
            self._read(0.05)

    def prompt(self, count: int) -> None:
        """Until the prompt has been shown so many times."""
        deadline = time.monotonic() + 30
        while len(re.findall(r"(?m)^> ", self.text)) < count:
            assert time.monotonic() < deadline, f"no prompt {count}\n{self.text}"
            self._read(0.05)

    def ended(self) -> int:
        """The exit code, once it has left."""
        deadline = time.monotonic() + 20
        while self._process.poll() is None:
            assert time.monotonic() < deadline, f"still running\n{self.text}"
            self._read(0.05)
        self._read(0.05)
        return int(self._process.returncode)

    def _read(self, seconds: float) -> None:
        ready, _, _ = select.select([self._master], [], [], seconds)
        if ready:
            try:
                self.raw += os.read(self._master, 1 << 16).decode("utf-8", "replace")
            except OSError:  # the process has closed its side
                time.sleep(0.01)


def _own_terminal() -> None:
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
