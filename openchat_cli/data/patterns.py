"""What `--model` may say: a label, one with `*` in it, or a regular expression."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable

from openchat_cli.core.errors import UsageError
from openchat_cli.data import models

NONE = "none"  # the conversations without a label

LabelTest = Callable[[str | None], bool]


def label_test(wanted: str) -> LabelTest:
    """Whether a row's label is meant by one `--model`.

    `any` is every label and none, `none` is no label. `gpt-4*` begins so, `re:4o|turbo` and
    `/4o|turbo/` contain a match; else the whole label must be equal. Case and `Model: ` never
    count. Raises UsageError for a regular expression that is none.
    """
    text = wanted.strip()
    if text.casefold() == models.ANY:
        return lambda label: True
    if text.casefold() == NONE:
        return lambda label: label is None
    pattern = _pattern(text)
    if pattern is not None:
        return lambda label: label is not None and bool(pattern.search(models.plain(label)))
    if not text:
        raise UsageError("--model: a label is needed", "--model any takes all")
    folded = models.folded(text)
    return lambda label: label is not None and models.folded(label) == folded


def is_exact(wanted: str) -> bool:
    """Whether a `--model` names one label in full."""
    text = wanted.strip()
    return text.casefold() not in (models.ANY, NONE) and _pattern(text) is None


def compile_pattern(option: str, pattern: str, *, at: int = 0, flags: int = 0) -> re.Pattern[str]:
    """A user's regular expression; UsageError with the place of what is wrong in it.

    `at` is where in `option` the pattern begins.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Python's advice on odd sets is not for our users
            return re.compile(pattern, flags)
    except re.error as error:
        place = at + (error.pos or 0) + 1
        message = f"{option}: not a regular expression at character {place} ({error.msg})"
        raise UsageError(message, r"a backslash takes a sign as it is: \( \. \*") from None
    except (OverflowError, RecursionError) as error:
        raise UsageError(f"{option}: not a regular expression ({error})") from None


def _pattern(text: str) -> re.Pattern[str] | None:
    for start, end in (("re:", ""), ("/", "/")):
        if len(text) > len(start) + len(end) and text.startswith(start) and text.endswith(end):
            inner = text[len(start) : len(text) - len(end)]
            return compile_pattern(f"--model {text}", inner, at=len(start), flags=re.IGNORECASE)
    if "*" in text:
        parts = (re.escape(part) for part in models.plain(text).split("*"))
        return re.compile(rf"(?s)\A{'.*'.join(parts)}\Z", re.IGNORECASE)
    return None
