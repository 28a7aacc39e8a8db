"""What is embedded of a conversation, and in which order conversations were read."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from openchat_cli.core.records import Conversation

EMPTY = "(empty)"  # endpoints refuse a text without characters


def text_of(conversation: Conversation, most: int) -> str:
    """At most `most` characters: all that the human wrote, in order, then all the answers.

    The human comes first because the question says what a conversation is about; an answer fills
    what is left. System and tool messages are left out unless there is nothing else.
    """
    said = {"user": [], "assistant": []}  # type: dict[str, list[str]]
    for message in conversation.messages:
        if message.role in said and message.content.strip():
            said[message.role].append(message.content.strip())
    parts = [*said["user"], *said["assistant"]]
    if not parts:
        parts = [one.content.strip() for one in conversation.messages if one.content.strip()]
    found: list[str] = []
    left = most
    for part in parts:
        if left <= 0:
            break
        found.append(part[:left])
        left -= len(found[-1]) + 2
    return _clean("\n\n".join(found)) or EMPTY


def _clean(text: str) -> str:
    """Without what no endpoint takes: NUL and lone surrogates."""
    if text.isascii() and "\0" not in text:
        return text
    return text.replace("\0", " ").encode("utf-8", "replace").decode()


class Fingerprint:
    """A hash over ids and messages in their order: equal hashes, equal conversations."""

    def __init__(self) -> None:
        import xxhash

        self._hash = xxhash.xxh3_128()

    def through(self, rows: Iterable[Conversation]) -> Iterator[Conversation]:
        """The rows as they are; each is taken into the hash as it passes."""
        for row in rows:
            parts = [row.id]
            for message in row.messages:
                parts += [message.role, message.content]
            for part in parts:
                data = part.encode("utf-8", "surrogatepass")
                self._hash.update(len(data).to_bytes(8, "little") + data)
            yield row

    def value(self) -> str:
        """The hash of all that has passed, in hexadecimal."""
        return str(self._hash.hexdigest())
