"""How true a conversion is: what was written against what a CommonMark reader finds in ours."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from markdown_it.rules_inline import StateInline
from markdown_it.token import Token

from tests.data import chatgpt


def _maths(state: StateInline, silent: bool) -> bool:
    """`$…$` and `$$…$$`, as readers with formulas have them."""
    match = _TEX.match(state.src, state.pos)
    if match is None:
        return False
    if not silent:
        state.push("math", "", 0).content = " ".join((match[2] or match[3]).split())
    state.pos = match.end()
    return True


# Pandoc's rule: no white space inside, beside the dollars, and no digit after a single one.
_TEX = re.compile(
    r"(\$\$)(?!\s*\$)((?:[^$\\]|\\.)+?)\$\$"
    r"|(?:\$)(?![\s$])((?:[^$\\]|\\.|\$(?=[0-9]))*?[^$\\\s]|\\.)\$(?![0-9])",
    re.S,
)
_READER = chatgpt.reader_of_html()
_WITH_MATHS = chatgpt.reader_of_html()
_WITH_MATHS.inline.ruler.before("escape", "math", _maths)
_ESCAPE = re.compile(r"\\(?=[!-/:-@\[-`{-~])")


@dataclass
class Score:
    """Hits and tries by kind."""

    hits: Counter[str] = field(default_factory=Counter)
    tries: Counter[str] = field(default_factory=Counter)
    misses: list[tuple[str, str, str]] = field(default_factory=list)

    def add(self, kind: str, true: list[str], found: list[str]) -> None:
        """Compare in order; what is missing or too much counts as a miss."""
        self.tries[kind] += max(len(true), len(found))
        same = sum(a == b for a, b in zip(true, found, strict=False))
        self.hits[kind] += same
        if same < max(len(true), len(found)):
            self.misses.append((kind, str(true), str(found)))

    def share(self, kind: str) -> float:
        """Hits of tries."""
        return self.hits[kind] / max(1, self.tries[kind])


def compare(score: Score, written: str, ours: str) -> None:
    """Add one answer: the Markdown that was written, and what became of its HTML."""
    formulas = chatgpt.FORMULA.sub(_dollars, written.replace("$", "\\$"))
    reader = _WITH_MATHS if formulas.replace("\\$", "") != written.replace("$", "") else _READER
    true, found = reader.parse(formulas if reader is _WITH_MATHS else written), reader.parse(ours)
    for kind, pick in _KINDS.items():
        score.add(kind, list(pick(true)), list(pick(found)))
    score.add("words", [" ".join(_words(true))], [" ".join(_words(found))])
    # TeX has backslashes of its own.
    bare = ours if reader is _READER else _TEX.sub("x", ours)
    score.add("needless", ["0"], [str(min(1, needless(bare)))])
    score.add("button", ["0"], [str(ours.count("Copy code"))])


def _dollars(match: re.Match[str]) -> str:
    return f"${match[1]}$" if match[1] else f"$${match[2]}$$"


def needless(markdown: str) -> int:
    """Backslashes without which the same would be read."""
    shown = _READER.render(markdown)
    places = [match.start() for match in _ESCAPE.finditer(markdown)]
    kept = (markdown[:place] + markdown[place + 1 :] for place in places)
    return sum(_READER.render(text) == shown for text in kept)


def formulas(markdown: str) -> list[str]:
    """The TeX that a reader with formulas finds."""
    return list(_formulas(_WITH_MATHS.parse(markdown)))


def _fences(tokens: list[Token]) -> Iterator[str]:
    return (token.content for token in tokens if token.type in ("fence", "code_block"))


def _languages(tokens: list[Token]) -> Iterator[str]:
    return (token.info.strip() for token in tokens if token.type in ("fence", "code_block"))


def _inline(tokens: list[Token]) -> Iterator[Token]:
    return (child for token in tokens for child in token.children or ())


def _codes(tokens: list[Token]) -> Iterator[str]:
    return (token.content for token in _inline(tokens) if token.type == "code_inline")


def _formulas(tokens: list[Token]) -> Iterator[str]:
    return (token.content for token in _inline(tokens) if token.type == "math")


def _text(token: Token) -> str:
    kinds = {"softbreak": " ", "hardbreak": " ", "html_inline": ""}
    children = token.children or ()
    return "".join(kinds.get(child.type, child.content) for child in children)


def _nested(tokens: list[Token], opening: str) -> Iterator[str]:
    """The text of each element of that kind, what is nested in it included."""
    open_at: list[list[str]] = []
    for token in tokens:
        if token.type == f"{opening}_open":
            open_at.append([])
        elif token.type == f"{opening}_close":
            yield " ".join(" ".join(open_at.pop()).split())
        elif token.content and token.type in ("inline", "fence"):
            for texts in open_at:
                texts.append(_text(token) if token.type == "inline" else token.content)


def _items(tokens: list[Token]) -> Iterator[str]:
    return _nested(tokens, "list_item")


def _tables(tokens: list[Token]) -> Iterator[str]:
    return _nested(tokens, "tr")


def _words(tokens: list[Token]) -> list[str]:
    texts = (_text(t) if t.type == "inline" else t.content for t in tokens if t.content)
    return " ".join(texts).split()


_KINDS = {
    "code": _fences,
    "language": _languages,
    "inline code": _codes,
    "items": _items,
    "tables": _tables,
    "tex": _formulas,
}
BARS = {
    "code": 1.0,
    "language": 1.0,
    "inline code": 1.0,
    "items": 0.999,
    "tables": 0.98,
    "tex": 0.995,
    "words": 0.997,
    "button": 1.0,
    "needless": 0.995,
}
