"""How `openchat chat` reads lines and shows answers: with Markdown on a terminal, else as is."""

from __future__ import annotations

import contextlib
import os
import re
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

from rich.console import Console
from rich.live import Live
from rich.markdown import Markdown
from rich.text import Text

from openchat_cli.core.errors import InputError
from openchat_cli.serving.chat import Part
from openchat_cli.web.html import visible

Reader = Callable[[], Iterator[str]]

COMMANDS = (
    *("/help", "/new", "/system", "/retry", "/undo", "/set", "/history"),
    *("/save", "/load", "/quit"),
)
_HISTORY_LINES = 2000
_BLOCK = '"""'
_TOP = re.compile(r"[^\s\-*+>|\d`~]")  # what begins a block that stands for itself
_FENCE = re.compile(r"[ \t]*(`{3,}|~{3,})")


# --- reading ---


def piped_lines() -> Iterator[str]:
    """What is piped in, a message a line, without blank lines."""
    while read := sys.stdin.buffer.readline():
        try:
            line = read.decode("utf-8")
        except UnicodeDecodeError:
            raise InputError("stdin: a line is not UTF-8") from None
        if line.strip():
            yield line.strip()


class Keyboard:
    """Lines of a person: edited with the arrow keys, remembered in a file, possibly several.

    A backslash at the end goes on in the next line; three quotation marks begin and end a message
    of many lines. Ctrl-C throws away what is being typed.
    """

    def __init__(self, history: bool) -> None:
        self._file = history_file() if history else None

    def __call__(self) -> Iterator[str]:
        self._begin()
        try:
            while True:
                try:
                    said = self._message()
                except EOFError:
                    print()
                    return
                except KeyboardInterrupt:
                    print()
                    continue
                if said.strip():
                    self._remember()
                    yield said.strip()
        finally:
            self._remember()

    def _message(self) -> str:
        line = _typed("> ")
        if line.strip().startswith(_BLOCK):
            return _until_quotes(line.strip().removeprefix(_BLOCK))
        lines = [line]
        while lines[-1].endswith("\\"):
            lines[-1] = lines[-1][:-1]
            lines.append(_typed("… "))
        return "\n".join(lines)

    def _begin(self) -> None:
        try:
            import readline
        except ImportError:  # input() then has no line editing
            self._file = None
            return
        readline.set_completer(_complete)
        readline.set_completer_delims(" ")
        # macOS builds Python on libedit, which has another language for this.
        libedit = "libedit" in (readline.__doc__ or "")
        readline.parse_and_bind("bind ^I rl_complete" if libedit else "tab: complete")
        if self._file is not None:
            with contextlib.suppress(OSError):
                readline.read_history_file(self._file)
            readline.set_history_length(_HISTORY_LINES)

    def _remember(self) -> None:
        """Write the file now: the next line may be the one in which the terminal is closed."""
        if self._file is None:
            return
        import readline

        with contextlib.suppress(OSError):
            self._file.parent.mkdir(parents=True, exist_ok=True)
            # What is typed is nobody else's: the file is made before anything is in it.
            os.close(os.open(self._file, os.O_CREAT | os.O_WRONLY, 0o600))
            readline.write_history_file(self._file)


def history_file() -> Path:
    """Where typed lines are kept."""
    state = os.environ.get("XDG_STATE_HOME")
    return (Path(state) if state else Path.home() / ".local/state") / "openchat/chat_history"


def _typed(prompt: str) -> str:
    try:
        return input(prompt)
    except UnicodeDecodeError:
        raise InputError("what was typed is not UTF-8") from None


def _until_quotes(first: str) -> str:
    lines = [first] if first else []
    while not (lines and lines[-1].rstrip().endswith(_BLOCK)):
        lines.append(_typed("… "))
    lines[-1] = lines[-1].rstrip().removesuffix(_BLOCK)
    return "\n".join(lines)


def _complete(text: str, state: int) -> str | None:
    found = [name for name in COMMANDS if text.startswith("/") and name.startswith(text)]
    return found[state] if state < len(found) else None


# --- showing ---


class Screen(Protocol):
    """Where an answer appears."""

    def show(self, parts: Iterator[Part], said: list[str]) -> None:
        """Show an answer as it comes and put its pieces into `said`, also where it is cut off."""


class Plain:
    """The text as it comes; with `safe` control characters are spelt out."""

    def __init__(self, *, safe: bool, stats: bool = False) -> None:
        self._safe = safe
        self._stats = stats

    def show(self, parts: Iterator[Part], said: list[str]) -> None:
        clock = Clock()
        try:
            for part in parts:
                clock.tick(part)
                said.append(part.text)
                print(visible(part.text) if self._safe else part.text, end="", flush=True)
        finally:
            if said:
                print(flush=True)
        if self._stats and clock.summary():
            print(clock.summary(), file=sys.stderr)


class Rendered:
    """Markdown, block by block: a block is drawn for good once the next one has begun.

    The open block stands below as plain text, cut to what the screen holds, so that the work does
    not grow with the answer and nothing is drawn twice.
    """

    def __init__(self, *, stats: bool) -> None:
        self._stats = stats
        self._console = Console(highlight=False)

    def show(self, parts: Iterator[Part], said: list[str]) -> None:
        clock, blocks = Clock(), Blocks()
        # The cursor's line: without a Live in between nothing would say that an answer comes.
        with Live(console=self._console, refresh_per_second=8, transient=True) as live:
            try:
                for part in parts:
                    clock.tick(part)
                    said.append(part.text)
                    for block in blocks.add(part.text):
                        self._draw(block)
                    live.update(self._open(blocks.rest))
            finally:
                live.update(Text(""))
                self._draw(blocks.rest)
        if self._stats and clock.summary():
            self._console.print(clock.summary(), style="dim", markup=False)

    def _open(self, text: str) -> Text:
        room = max(self._console.height - 2, 1)
        tail = text[-room * self._console.width :].split("\n")[-room:]
        shown = Text(visible("\n".join(tail)))
        lines = shown.wrap(self._console, self._console.width)
        return Text("\n").join(lines[-room:])

    def _draw(self, block: str) -> None:
        if block.strip():
            # No hyperlinks: a terminal would hide where they lead.
            self._console.print(Markdown(visible(block), hyperlinks=False))
            self._console.print()


class Blocks:
    """Cuts a Markdown text that comes in pieces where a block ends that nothing later changes."""

    def __init__(self) -> None:
        self.rest = ""
        self._line = ""  # the last line, which may go on
        self._fence: str | None = None
        self._blank = False  # whether the line before is blank
        self._done = 0  # how much of `rest` is whole lines

    def add(self, text: str) -> list[str]:
        """Take some more text; gives the blocks that are whole now."""
        found: list[str] = []
        self.rest += text
        while (end := self.rest.find("\n", self._done)) >= 0:
            line = self.rest[self._done : end]
            if self._begins(line) and self._done:
                found.append(self.rest[: self._done])
                self.rest = self.rest[self._done :]
                end -= len(found[-1])
            self._follow(line)
            self._done = end + 1
        return found

    def _begins(self, line: str) -> bool:
        """Whether a block begins here; before a list or a quote the text may go on as one."""
        return self._fence is None and self._blank and _TOP.match(line) is not None

    def _follow(self, line: str) -> None:
        mark = _FENCE.match(line)
        if self._fence is not None:
            closes = mark is not None and mark[1].startswith(self._fence)
            if closes and not line.strip(" \t" + self._fence[0]):
                self._fence = None
        elif mark is not None:
            self._fence = mark[1]
        self._blank = not line.strip()


class Clock:
    """Counts an answer's tokens and the time between the first and the last."""

    def __init__(self) -> None:
        self._first = self._last = 0.0
        self._tokens: tuple[int, int] | None = None
        self._finish: str | None = None

    def tick(self, part: Part) -> None:
        """Take note of a part."""
        if part.text:
            self._last = time.monotonic()
            self._first = self._first or self._last
        self._finish = part.finish or self._finish
        if part.prompt_tokens is not None and part.completion_tokens is not None:
            self._tokens = (part.prompt_tokens, part.completion_tokens)

    def summary(self) -> str:
        """One line, empty where the counts are not known."""
        if self._tokens is None:
            return ""
        prompt, answer = self._tokens
        seconds = self._last - self._first
        rate = f" · {(answer - 1) / seconds:.1f} tokens/s" if answer > 4 and seconds > 0 else ""
        cut = " · token limit reached" if self._finish == "length" else ""
        return f"{prompt} + {answer} tokens{rate}{cut}"
