"""One conversation of `openchat chat`: what was said, and the commands that change it."""

from __future__ import annotations

import contextlib
import dataclasses
import re
import typing
import uuid
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from openchat_cli.cli.chat_screen import COMMANDS, Reader, Screen
from openchat_cli.cli.terminal import Terminal, error_line
from openchat_cli.core import jsonl, records
from openchat_cli.core.errors import InputError, OpenChatError, UsageError, did_you_mean
from openchat_cli.core.records import Conversation, Message
from openchat_cli.serving.chat import ChatSettings, Part, Partner
from openchat_cli.web.html import visible

_COMMAND = re.compile(r"(/[a-z]+!?)(?:\s+(.*))?", re.S)
_OFF = ("default", "none", "off")
_HELP = """\
/help              this list
/new               begin anew, with the same system message
/system [TEXT]     show or set the system message; /system none removes it
/retry             answer the last message anew
/undo              take back the last message and its answer
/set [NAME VALUE]  show or set temperature, top_p, max_tokens, seed, top_k …; VALUE may be default
/history           what was said so far
/save FILE         write the conversation as JSONL, for /load and `openchat data clean`
/save! FILE        the same, in the place of a file that is there
/load FILE         go on with the last conversation of a JSONL file
/quit              leave (also Ctrl-D)
A line that ends with a backslash goes on in the next one; three quotation marks begin and end a
message of many lines. A message that begins with a slash is written with two. Ctrl-C stops an
answer."""


class Session:
    """A conversation with a partner; `talk` runs it."""

    def __init__(
        self,
        terminal: Terminal,
        partner: Partner,
        screen: Screen,
        settings: ChatSettings,
        system: str | None = None,
    ) -> None:
        self._terminal = terminal
        self._partner = partner
        self._screen = screen
        self._settings = settings
        self._system = system
        self._messages: list[Message] = []  # without the system message
        self._unanswered: str | None = None  # a message that failed: for /retry
        self._turns = 0
        self._id = _new_id()

    def talk(self, lines: Reader, *, person: bool) -> int:
        """Answer message after message until the input ends; gives the number of answers.

        Before a person an error is told and the talk goes on; otherwise it ends it.
        """
        if person:
            self._terminal.note(f"{visible(self._partner.name)}: /help lists what can be done.")
        for line in lines():
            try:
                if not self._take(line, stoppable=person):
                    break
            except OpenChatError as error:
                if not person:
                    raise
                error_line(error)
        return self._turns

    def _take(self, line: str, *, stoppable: bool) -> bool:
        """Do what a line says; False to leave."""
        found = _COMMAND.fullmatch(line)
        if found is None:
            self._answer(line[1:] if line.startswith("//") else line, stoppable)
            return True
        name, argument = found[1], (found[2] or "").strip()
        if name in ("/quit", "/exit"):
            return False
        if name == "/retry":
            self._answer(self._last_question(), stoppable)
        elif name in self._commands:
            self._commands[name](argument)
        else:
            hint = f"{did_you_mean(name, COMMANDS)}; a message that begins so is written /{name}"
            raise UsageError(f"no command '{name}'", hint)
        return True

    @property
    def _commands(self) -> dict[str, Callable[[str], None]]:
        return {
            "/help": lambda _: self._terminal.note(_HELP),
            "/new": self._begin_anew,
            "/system": self._set_system,
            "/undo": self._undo,
            "/set": self._set,
            "/history": self._show_history,
            "/save": lambda name: self._save(name, force=False),
            "/save!": lambda name: self._save(name, force=True),
            "/load": lambda name: self.load(_named(name, "/load")),
        }

    # --- answers ---

    def _answer(self, text: str, stoppable: bool) -> None:
        asked = [*self._messages, Message("user", text)]
        self._unanswered = text
        said: list[str] = []
        parts = self._partner.answer([*self._before(), *asked], self._settings)
        try:
            self._screen.show(parts, said)
        except KeyboardInterrupt:
            if not stoppable:
                raise
            if not "".join(said):
                return  # stopped before the first word: /retry asks again
        finally:
            _close(parts)
        self._messages = [*asked, Message("assistant", "".join(said))]
        self._unanswered = None
        self._turns += 1

    def _before(self) -> Sequence[Message]:
        return [] if self._system is None else [Message("system", self._system)]

    def _last_question(self) -> str:
        if self._unanswered is not None:
            return self._unanswered
        for at in range(len(self._messages) - 1, -1, -1):
            if self._messages[at].role == "user":
                question = self._messages[at].content
                self._messages = self._messages[:at]
                return question
        raise UsageError("nothing was said yet")

    # --- commands ---

    def _begin_anew(self, _: str) -> None:
        self._messages, self._unanswered, self._id = [], None, _new_id()

    def _set_system(self, text: str) -> None:
        if text:
            self._system = None if text in _OFF else text
        self._terminal.note(f"system: {visible(self._system or 'none')}")

    def _undo(self, _: str) -> None:
        if self._unanswered is not None:
            self._terminal.note(f"taken back: {visible(self._unanswered)}")
            self._unanswered = None
            return
        question = self._last_question()
        self._terminal.note(f"taken back: {visible(question)}")

    def _set(self, text: str) -> None:
        if not text:
            for name, value in dataclasses.asdict(self._settings).items():
                self._terminal.note(f"{name:<20} {'default' if value is None else value}")
            return
        name, _, value = text.replace("=", " ").partition(" ")
        name = name.replace("-", "_")
        kinds = typing.get_type_hints(ChatSettings)
        if name not in kinds:
            raise UsageError(f"no setting '{name}'", did_you_mean(name, kinds))
        number = _number(name, value.strip(), whole=int in typing.get_args(kinds[name]))
        changed: dict[str, Any] = {name: number}
        self._settings = dataclasses.replace(self._settings, **changed)
        self._terminal.note(f"{name} {'default' if number is None else number}")

    def _show_history(self, _: str) -> None:
        for message in [*self._before(), *self._messages]:
            self._terminal.note(f"{message.role}: {visible(message.content)}")

    def _save(self, name: str, *, force: bool) -> None:
        path = _named(name, "/save")
        if not self._messages:
            raise UsageError("nothing was said yet")
        if path.exists() and not force:
            raise UsageError(f"{path} is there already", f"/save! {path} replaces it")
        row = Conversation(
            id=self._id,
            source="openchat chat",
            messages=(*self._before(), *self._messages),
            model=self._partner.name,
        )
        jsonl.write_rows(path, [row.to_row()])
        self._terminal.note(f"wrote {path}")

    def load(self, path: Path) -> None:
        """Go on with the last conversation of a file of rows."""
        rows = [(number, row) for number, row in jsonl.read_rows(path)]
        if not rows:
            raise InputError(f"{path}: no conversation in it")
        number, row = rows[-1]
        (found,) = records.parse(f"{path}:{number}", {"id": self._id, **row}, Conversation)
        messages = list(found.messages)
        self._system = None
        if messages and messages[0].role == "system":
            self._system = messages.pop(0).content
        self._unanswered = None
        if messages and messages[-1].role == "user":
            self._unanswered = messages.pop().content
        self._messages, self._id = messages, found.id
        self._terminal.note(f"{len(found.messages)} messages read from {path}")


def _close(parts: Iterator[Part]) -> None:
    """Give up what has not come yet, so that its slot is free."""
    close = getattr(parts, "close", None)
    if close is not None:
        with contextlib.suppress(OpenChatError):
            close()


def _named(name: str, command: str) -> Path:
    if not name:
        raise UsageError(f"{command} which file?", f"{command} chat.jsonl")
    return Path(name).expanduser()


def _number(name: str, value: str, *, whole: bool) -> float | None:
    if value in _OFF:
        return None
    try:
        return int(value) if whole else float(value)
    except ValueError:
        kind = "a whole number" if whole else "a number"
        raise UsageError(f"{name} must be {kind} or 'default', not '{value}'") from None


def _new_id() -> str:
    return f"chat-{uuid.uuid4().hex[:16]}"
