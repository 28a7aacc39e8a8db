"""The text of one message of ChatGPT's export, without the marks of its citations.

content_type                      what becomes of it
text, multimodal_text             its parts; a part with a sound's transcript is that text
code                              a fenced block
thoughts, reasoning_recap         left out
user_editable_context,            left out: custom instructions and memory
model_editable_context
execution_output, tether_quote,   left out: what tools gave
tether_browsing_display, …
any other                         its parts where they are texts
"""

from __future__ import annotations

import json
import re
from typing import Any

from openchat_cli.data.candidates import RejectError
from openchat_cli.data.marks import fence_for

Json = dict[str, Any]

_LEFT_OUT = {
    "thoughts",
    "reasoning_recap",
    "user_editable_context",
    "model_editable_context",
    "execution_output",
    "computer_output",
    "tether_quote",
    "tether_browsing_display",
    "sonic_webpage",
    "system_error",
}
_SOUND = {"audio_asset_pointer", "real_time_user_audio_video_asset_pointer"}

# ChatGPT's own marks stand between private-use characters: \ue200 kind \ue202 … \ue201.
_MARK = re.compile("(?:(?<![ \t])[ \t]+)?\ue200([a-z_]*)\ue202?([^\ue200\ue201]*)\ue201")
_STRAY = re.compile("[\ue200-\ue206]")
# 【12†source】, as browsing and file search wrote them.
_SOURCE = re.compile(r"(?:(?<![ \t])[ \t]+)?【\d+(?::\d+)?†[^】\n]{0,200}】")


def text_of(message: Json, role: str | None) -> str | None:
    """The message's text, None where it has nothing to say.

    `role` None: the message is not shown; only what it shows beside text counts.
    Raises RejectError for pictures, attached files, and sound without a transcript.
    """
    content = message.get("content")
    content = content if isinstance(content, dict) else {}
    kind, parts = str(content.get("content_type", "text")), content.get("parts")
    place = str(message.get("id", ""))
    _check_attached(message, role, place)
    if kind == "code" and role == "assistant":
        return _fenced(content)
    if not isinstance(parts, list) or kind in _LEFT_OUT:
        return None
    texts = _texts(parts, place)
    text = ("\n" if kind == "multimodal_text" else "").join(texts)
    if role == "assistant":
        text = without_marks(text)
    return text if role and text.strip() else None


def _check_attached(message: Json, role: str | None, place: str) -> None:
    metadata = message.get("metadata")
    attached = metadata.get("attachments") if isinstance(metadata, dict) else None
    if role == "user" and isinstance(attached, list) and attached:
        raise RejectError("not_text", "an attached file", place)


def _texts(parts: list[Any], place: str) -> list[str]:
    texts: list[str] = []
    sounds = False
    for part in parts:
        if isinstance(part, str):
            texts.append(part)
            continue
        kind = str(part.get("content_type")) if isinstance(part, dict) else type(part).__name__
        if isinstance(part, dict) and isinstance(part.get("text"), str):
            texts.append(part["text"])
        elif kind in _SOUND:
            sounds = True
        elif part is not None:
            is_picture = kind == "image_asset_pointer"
            raise RejectError("not_text", "a picture" if is_picture else kind[:60], place)
    if sounds and not any(text.strip() for text in texts):
        raise RejectError("not_text", "sound without a transcript", place)
    return texts


def _fenced(content: Json) -> str | None:
    code = content.get("text")
    if not isinstance(code, str) or not code.strip():
        return None
    language = content.get("language")
    name = language if isinstance(language, str) and language.isidentifier() else ""
    fence = fence_for(code)
    return f"{fence}{'' if name == 'unknown' else name}\n{code.rstrip()}\n{fence}"


def without_marks(text: str) -> str:
    """An answer without the marks of its citations; what a mark shows as a word stays."""
    if "\ue200" in text or "\ue203" in text:
        text = _STRAY.sub("", _MARK.sub(_shown, text))
    return _SOURCE.sub("", text) if "†" in text else text


def _shown(match: re.Match[str]) -> str:
    space = match[0][: match[0].index("\ue200")]
    if match[1] == "url":
        return space + match[2].split("\ue202")[0]
    if match[1] == "entity":
        try:
            return space + str(json.loads(match[2])[1])
        except (ValueError, LookupError, TypeError, RecursionError):
            return ""
    return ""
