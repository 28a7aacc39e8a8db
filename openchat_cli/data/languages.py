"""Which language a text is in, by py3langid (the extra `data`)."""

from __future__ import annotations

from openchat_cli.core.errors import need

_ENOUGH = 2000  # characters looked at


def detect(text: str) -> str | None:
    """The ISO 639-1 code of the text's language; None where it holds no words.

    Raises MissingExtraError where the extra is not installed.
    """
    need("telling languages apart", "data", "py3langid")
    import py3langid

    head = text[:_ENOUGH]
    if not any(character.isalpha() for character in head):
        return None
    return str(py3langid.classify(head)[0])
