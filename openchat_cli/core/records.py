"""Every row that crosses a stage, typed in one place.

On disk a row is a JSON object with `kind` and `version: 1` first, then the fields below. Rows of
the original OpenChat of 2023 and of FastChat, which have no `kind`, are read too.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, Self, TypeVar

from openchat_cli.core import jsonl, original
from openchat_cli.core.errors import InputError

VERSION = 1

Row = dict[str, Any]

# kind -> (what to call the rows, the command that makes them)
_KINDS = {
    "conversation": ("conversations", "openchat data clean INPUT OUT"),
    "dropped": ("dropped pages", "openchat data clean INPUT OUT"),
    "question": ("questions", "a benchmark's question.jsonl"),
    "answer": ("answers", "openchat eval answer --model-path MODEL OUT"),
    "judgment": ("judgments", "openchat eval judge OUT --baseline NAME --judge MODEL"),
    "step": ("a training log", "openchat train"),
    "eval": ("a training log", "openchat train"),
    "summary": ("a command's --json summary", "a command with --json"),
}


# What a name's ending says of a file that holds no rows.
_OTHER_FILES = {
    ".train.json": "a token dataset",
    ".eval.json": "a token dataset",
    ".text.json": "a token dataset's texts",
    ".dataset.json": "a token dataset's manifest",
    ".report.json": "a report",
    "openchat.json": "a model's manifest",
}


class _MalformedError(Exception):
    """A row that lacks a field or has one of the wrong type; the reader adds the place."""


def _text(row: Row, name: str, default: str | None = None) -> str:
    value = row.get(name, default)
    if isinstance(value, int) and not isinstance(value, bool) and name.endswith("id"):
        return str(value)  # FastChat numbers its questions
    if not isinstance(value, str):
        raise _MalformedError(f"'{name}' must be text")
    return value


def _optional_text(row: Row, name: str) -> str | None:
    return None if row.get(name) is None else _text(row, name)


def _texts(row: Row, name: str) -> tuple[str, ...]:
    value = row.get(name)
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise _MalformedError(f"'{name}' must be a list of texts")
    return tuple(value)


def _number(row: Row, name: str, default: float | None = None) -> float | None:
    value = row.get(name, default)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _MalformedError(f"'{name}' must be a number")
    return float(value)


def _first_object(row: Row, name: str) -> Row:
    value = row.get(name)
    if not isinstance(value, list) or not value or not isinstance(value[0], dict):
        raise _MalformedError(f"'{name}' must be a list of objects")
    first: Row = value[0]
    return first


def _object(row: Row, name: str) -> Row | None:
    value = row.get(name)
    if value is not None and not isinstance(value, dict):
        raise _MalformedError(f"'{name}' must be an object")
    return value


@dataclass(frozen=True, slots=True)
class _Record:
    kind: ClassVar[str]

    def to_row(self) -> Row:
        """The JSON object that stands for this record."""
        return {"kind": self.kind, "version": VERSION, **dataclasses.asdict(self)}

    @classmethod
    def from_row(cls, row: Row) -> Self:
        raise NotImplementedError  # every record below has its own

    @classmethod
    def all_from_row(cls, row: Row) -> tuple[Self, ...]:
        """What one row holds: itself, but for the shapes of others that put several into one."""
        return (cls.from_row(row),)


@dataclass(frozen=True, slots=True)
class Message:
    """One turn; `weight` scales its loss in training and is None where nobody set it."""

    role: str
    content: str
    weight: float | None = None


@dataclass(frozen=True, slots=True)
class Conversation(_Record):
    """A cleaned conversation; the roles are OpenAI's (system, user, assistant, tool)."""

    kind: ClassVar[str] = "conversation"

    id: str
    source: str
    messages: tuple[Message, ...]
    model: str | None = None
    language: str | None = None
    condition: str | None = None
    weight: float = 1.0

    def to_row(self) -> Row:
        messages: list[Row] = []
        for message in self.messages:
            entry: Row = {"role": message.role, "content": message.content}
            if message.weight is not None:
                entry["weight"] = message.weight
            messages.append(entry)
        return {
            "kind": self.kind,
            "version": VERSION,
            "id": self.id,
            "source": self.source,
            "model": self.model,
            "language": self.language,
            "condition": self.condition,
            "weight": self.weight,
            "messages": messages,
        }

    @classmethod
    def from_row(cls, row: Row) -> Self:
        entries = row.get("messages", row.get("items", row.get("conversations")))
        if not isinstance(entries, list):
            raise _MalformedError("'messages' must be a list")
        weight = _number(row, "weight", 1.0)
        return cls(
            id=_text(row, "id"),
            source=_optional_text(row, "source") or "",
            messages=tuple(_message(index, entry) for index, entry in enumerate(entries)),
            model=_optional_text(row, "model"),
            language=_optional_text(row, "language"),
            condition=_optional_text(row, "condition"),
            weight=1.0 if weight is None else weight,
        )


ROLES = {"human": "user", "gpt": "assistant", "chatgpt": "assistant", "bard": "assistant"}


def _message(index: int, entry: object) -> Message:
    if not isinstance(entry, dict):
        raise _MalformedError(f"message {index} must be an object")
    role, content = entry.get("role", entry.get("from")), entry.get("content", entry.get("value"))
    if not isinstance(role, str) or not isinstance(content, str):
        raise _MalformedError(f"message {index} needs the texts 'role' and 'content'")
    return Message(ROLES.get(role, role), content, _number(entry, "weight"))


@dataclass(frozen=True, slots=True)
class Dropped(_Record):
    """What was left out: where it was, why, and which kept one it repeats."""

    kind: ClassVar[str] = "dropped"

    id: str | None
    source: str
    where: str
    reason: str
    kept_id: str | None = None
    detail: str = ""

    @classmethod
    def from_row(cls, row: Row) -> Self:
        return cls(
            id=_optional_text(row, "id"),
            source=_text(row, "source"),
            where=_text(row, "where"),
            reason=_text(row, "reason"),
            kept_id=_optional_text(row, "kept_id"),
            detail=_text(row, "detail", ""),
        )


@dataclass(frozen=True, slots=True)
class Question(_Record):
    """One item of a benchmark; `reference` holds one answer a turn where the benchmark has them."""

    kind: ClassVar[str] = "question"

    question_id: str
    category: str
    turns: tuple[str, ...]
    reference: tuple[str, ...] | None = None

    @classmethod
    def from_row(cls, row: Row) -> Self:
        if "turns" in row:
            turns = _texts(row, "turns")
        else:
            turns = (_text(row, "text"),)  # Vicuna's question.jsonl
        return cls(
            question_id=_text(row, "question_id"),
            category=_text(row, "category", "general"),
            turns=turns,
            reference=None if row.get("reference") is None else _texts(row, "reference"),
        )


@dataclass(frozen=True, slots=True)
class Answer(_Record):
    """A model's answer to one question; `error` says why `turns` is short or empty."""

    kind: ClassVar[str] = "answer"

    question_id: str
    answer_id: str
    model: str
    turns: tuple[str, ...]
    sample: int = 0
    finish_reasons: tuple[str, ...] = ()
    usage: Row | None = None
    settings_hash: str | None = None
    error: str | None = None

    @classmethod
    def from_row(cls, row: Row) -> Self:
        if "turns" in row:
            turns = _texts(row, "turns")
        elif "choices" in row:
            turns = _texts(_first_object(row, "choices"), "turns")  # FastChat's MT-bench
        else:
            # FastChat: text, model_id; the original OpenChat: answer or text, answer_model.
            turns = (_text(row, "answer" if "answer" in row else "text"),)
        model = row.get("model") or row.get("answer_model") or row.get("model_id")
        question_id = _text(row, "question_id")
        return cls(
            question_id=question_id,
            answer_id=_text(row, "answer_id", question_id),
            model=_text({"model": model}, "model"),
            turns=turns,
            sample=int(_number(row, "sample", 0) or 0),
            finish_reasons=_texts(row, "finish_reasons") if "finish_reasons" in row else (),
            usage=_object(row, "usage"),
            settings_hash=_optional_text(row, "settings_hash"),
            error=_optional_text(row, "error"),
        )


Order = Literal["model_first", "baseline_first"]
Verdict = Literal["win", "tie", "loss"]
Status = Literal["ok", "unreadable", "failed"]


@dataclass(frozen=True, slots=True)
class Judgment(_Record):
    """One verdict of one judge on one pair of answers in one order, seen from the model."""

    kind: ClassVar[str] = "judgment"

    question_id: str
    protocol: str
    order: Order
    sample: int
    model: str
    baseline: str
    answer_id: str
    baseline_answer_id: str
    score: float | None
    baseline_score: float | None
    verdict: Verdict | None
    status: Status
    text: str
    judge: str
    prompt_hash: str
    usage: Row | None
    created: str

    @classmethod
    def from_row(cls, row: Row) -> Self:
        order, verdict, status = row.get("order"), row.get("verdict"), row.get("status", "ok")
        if order not in ("model_first", "baseline_first"):
            raise _MalformedError("'order' must be model_first or baseline_first")
        if verdict not in ("win", "tie", "loss", None):
            raise _MalformedError("'verdict' must be win, tie, loss or null")
        if status not in ("ok", "unreadable", "failed"):
            raise _MalformedError("'status' must be ok, unreadable or failed")
        return cls(
            question_id=_text(row, "question_id"),
            protocol=_text(row, "protocol"),
            order=order,
            sample=int(_number(row, "sample", 0) or 0),
            model=_text(row, "model"),
            baseline=_text(row, "baseline"),
            answer_id=_text(row, "answer_id"),
            baseline_answer_id=_text(row, "baseline_answer_id"),
            score=_number(row, "score"),
            baseline_score=_number(row, "baseline_score"),
            verdict=verdict,
            status=status,
            text=_text(row, "text", ""),
            judge=_text(row, "judge"),
            prompt_hash=_text(row, "prompt_hash", ""),
            usage=_object(row, "usage"),
            created=_text(row, "created", ""),
        )

    @classmethod
    def all_from_row(cls, row: Row) -> tuple[Self, ...]:
        """The judgment; from a result of the original OpenChat the two that it holds."""
        rows = original.judgment_rows(row) if original.is_result(row) else [row]
        return tuple(cls.from_row(one) for one in rows)


RecordT = TypeVar("RecordT", bound=_Record)


def read(path: Path, record: type[RecordT]) -> Iterator[RecordT]:
    """The records of a JSONL file, one at a time.

    Raises InputError naming file and line; for a file of another kind also what it holds, what was
    expected and the command that makes it.
    """
    return (one for _, _, one in read_lines(path, record))


def read_lines(path: Path, record: type[RecordT]) -> Iterator[tuple[bytes, Row, RecordT]]:
    """As `read`, each record with its line and its row as they are in the file."""
    seen = False
    for number, line, row in _rows(path, record.kind):
        _check_kind(path, row, record.kind)
        try:
            for one in record.all_from_row(row):
                yield line, row, one
        except _MalformedError as error:
            if not seen and "kind" not in row:
                raise _wrong_file(path, "rows of another shape", record.kind) from error
            raise InputError(f"{path}:{number}: {error} in this {record.kind} row") from None
        seen = True


def parse(where: str, row: Row, record: type[RecordT]) -> tuple[RecordT, ...]:
    """The records of one row that is at hand; InputError with `where` for a malformed one."""
    try:
        return record.all_from_row(row)
    except _MalformedError as error:
        raise InputError(f"{where}: {error} in this {record.kind} row") from None


def write(path: Path, records: Iterable[_Record]) -> int:
    """Write records as JSONL, whole or not at all; gives how many there were."""
    return jsonl.write_rows(path, (record.to_row() for record in records))


def _rows(path: Path, expected: str) -> Iterator[tuple[int, bytes, Row]]:
    """As jsonl.read_lines; a file that holds something else from its first line on is named."""
    begun = False
    try:
        for numbered in jsonl.read_lines(path):
            begun = True
            yield numbered
    except jsonl.NotRowError as error:
        found = None if begun else _other_file(path, error.line.strip())
        if found is None:
            raise
        raise _wrong_file(path, found, expected) from None


def _other_file(path: Path, line: bytes) -> str | None:
    """What a file without rows is, by its name or its first line."""
    for ending, label in _OTHER_FILES.items():
        if path.name.endswith(ending):
            return label
    if line.startswith(b"<"):
        return "a web page"
    if line.startswith(b"["):
        return "one JSON list"
    return "one JSON object over several lines" if line == b"{" else None


def _check_kind(path: Path, row: Row, expected: str) -> None:
    kind = row.get("kind", expected)
    if kind != expected:
        raise _wrong_file(path, _KINDS.get(str(kind), (f"'{kind}' rows", ""))[0], expected)
    if row.get("version", VERSION) != VERSION:
        hint = f"this openchat reads version {VERSION}; a newer one wrote the file"
        raise InputError(f"{path}: rows of version {row['version']}", hint)


def _wrong_file(path: Path, found: str, expected: str) -> InputError:
    label, command = _KINDS[expected]
    return InputError(f"{path}: holds {found}, {label} were expected", f"made by: {command}")
