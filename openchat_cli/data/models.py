"""Labels of the model that answered, as pages and exports write them."""

from __future__ import annotations

import re

ANY = "any"
_PREFIX = "Model: "
_LONGEST_LABEL = 64

# What ChatGPT's export calls the models that its page named otherwise; other slugs (gpt-4o, o1)
# are the name. Longest prefix first.
_SLUGS = (
    (
        re.compile(
            r"gpt-4(?:-(?:browsing|plugins|code-interpreter|dalle|gizmo|mobile|magic-create))*"
        ),
        "GPT-4",
    ),
    (re.compile(r"text-davinci-002-render-paid"), "Legacy (GPT-3.5)"),
    (re.compile(r"text-davinci-002(?:-render(?:-sha)?)?(?:-mobile)?"), "Default (GPT-3.5)"),
    (re.compile(r"gpt-3\.5-turbo"), "Default (GPT-3.5)"),
)


def plain(label: str) -> str:
    """The label without ShareGPT's `Model: `, a slug of ChatGPT's export as its page's name."""
    name = label.strip()
    if name.lower().startswith(_PREFIX.lower().rstrip()):
        name = name[len(_PREFIX.rstrip()) :].strip()
    for slug, known in _SLUGS:
        if slug.fullmatch(name):
            return known
    return name


def folded(label: str) -> str:
    """What two equal labels have in common."""
    return plain(label).casefold()


def credible(label: object, first_text: str) -> str | None:
    """The label, unless it can't be one: the extension sometimes saved the first message there."""
    if not isinstance(label, str) or not label.strip():
        return None
    text = label.strip()
    if text.startswith(_PREFIX.rstrip()) and len(text) <= _LONGEST_LABEL:
        return label
    is_text = "\n" in text or len(text) > _LONGEST_LABEL or first_text.strip().startswith(text)
    return None if is_text else label
