"""Labels of the model that answered, as pages and exports write them."""

from __future__ import annotations

import re

ANY = "any"
_PREFIX = "Model: "
_LONGEST_LABEL = 64
# One word of letters with a number in it: gpt-4, org/llama-2-70b; or a name of ChatGPT's page.
_NAME = re.compile(r"(?=\S*[A-Za-z])(?=\S*\d)[\w./:@+-]+(?: \(.+\))?|\w+ \(GPT-.+\)", re.I)

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
    name = label.strip().removeprefix(_PREFIX.rstrip()).strip()
    if not name or "\n" in name or len(name) > _LONGEST_LABEL:
        return None
    # A first message that begins with a model's name does not make that name a message.
    is_text = _NAME.fullmatch(name) is None and first_text.strip().startswith(name)
    return None if is_text else label
