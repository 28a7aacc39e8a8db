"""Generated conversations as thick with markup as real ones are.

The test generator's documents hold in every line something that a converter can get wrong: ten
times as much markup as anybody reads. How fast a page of the usual kind is cleaned is measured on
these. They are calibrated by what 1,935 English answers of ShareGPT (506 conversations) and 1,539
mostly Chinese ones hold, dressed as ChatGPT's page; in 1,000 characters of Markdown:

                              English  Chinese  these  the test generator's
start tags outside of code        8.1     18.2    8.0                  80.0
  paragraphs                      2.5      5.4    2.5                   5.7
  list items                      2.2      4.8    2.2                  15.0
  inline code                     0.9      2.0    0.9                   7.2
  table cells                     0.6      0.6    0.4                   8.0
  code blocks                     0.3      0.5    0.3                   2.2
  emphasis                       0.03     0.03   0.02                  14.3
  links                          0.06     0.02   0.06                   5.7
back-slashes                     0.01      0.8    0.0                  12.7
characters of an answer         1,314      279  1,265                   335

`DENSITY` holds the English column; a test holds these to it.
"""

from __future__ import annotations

import random
import re

# What is counted in an answer's HTML -> how many in 1,000 characters of real Markdown.
DENSITY = {"p": 2.5, "li": 2.2, "code": 0.9, "pre": 0.3, "td": 0.6}
_WORDS = re.findall(
    r"\S+",
    "the a of to and in is that for it as with on this be are or by an at can from your you which "
    "will not if one more value number list function file user data time first order result model "
    "example because before after different important following method project server language "
    "question answer system process information response however several between without change "
    "possible available consider provide include return create different simple usually",
)
_NAMES = (
    "sort()",
    "my_list",
    "config.json",
    "pip install",
    "SELECT *",
    "user_id",
    "--help",
    "None",
)
_CODE = (
    "def total(rows, key):\n    result = 0\n    for row in rows:\n        if row[key] > 0:\n"
    "            result += row[key]\n    return result\n",
    'const app = express();\n\napp.get("/", (req, res) => {\n  res.send("<h1>Hello</h1>");\n});\n',
    "SELECT name, count(*)\nFROM orders\nWHERE total > 100 AND paid = 1\nGROUP BY name;\n",
)
_ENDS = (
    *(
        ', it\'s "new"',
        ", isn't it",
        ', which is called "name"',
        ", they're the same",
        " of the user's",
    ),
    *(", e.g. 5 * 3 = 15", " [1]", " at $5", " as user_id does", " & more", "\nfor each line"),
    *("\nand then", "\nas follows"),
)
_LANGUAGES = ("python", "javascript", "sql", "")


def conversations(count: int, *, seed: int = 1) -> list[list[tuple[str, str]]]:
    """(role, Markdown) of the turns of so many conversations, three to four exchanges each."""
    chance = random.Random(seed)
    return [
        [
            turn
            for _ in range(chance.randint(1, 6))
            for turn in (
                ("human", _sentences(chance, chance.randint(1, 4))),
                ("gpt", _answer(chance)),
            )
        ]
        for _ in range(count)
    ]


def _answer(chance: random.Random) -> str:
    blocks = [_sentences(chance, chance.randint(1, 4))]
    for _ in range(chance.randint(1, 4)):
        kind = chance.random()
        if kind < 0.28:
            blocks.append(_list(chance))
        elif kind < 0.41:
            code = "\n".join(chance.choice(_CODE) for _ in range(chance.randint(1, 3)))
            blocks.append(f"```{chance.choice(_LANGUAGES)}\n{code}```")
        elif kind < 0.425:
            blocks.append(_table(chance))
        elif kind < 0.45:
            blocks.append(f"{'#' * chance.randint(2, 3)} {_words(chance, 3).capitalize()}")
        else:
            blocks.append(_sentences(chance, chance.randint(2, 6)))
    return "\n\n".join(blocks)


def _words(chance: random.Random, count: int) -> str:
    return " ".join(chance.choice(_WORDS) for _ in range(count))


def _sentence(chance: random.Random) -> str:
    text = _words(chance, chance.randint(8, 26)).capitalize()
    kind = chance.random()
    if kind < 0.11:
        text += f" `{chance.choice(_NAMES)}`"
    elif kind < 0.113:
        text += f" **{_words(chance, 2)}**"
    elif kind < 0.12:
        text += f" [{_words(chance, 2)}](https://example.com/{chance.randint(1, 99)})"
    elif kind < 0.5:
        text += chance.choice(_ENDS)
    return text + chance.choice("....:?")


def _sentences(chance: random.Random, count: int) -> str:
    return " ".join(_sentence(chance) for _ in range(count))


def _list(chance: random.Random) -> str:
    numbered = chance.random() < 0.6
    apart = "\n\n" if chance.random() < 0.15 else "\n"
    return apart.join(
        f"{f'{number}.' if numbered else '-'} {_sentence(chance)}"
        for number in range(1, chance.randint(3, 7))
    )


def _table(chance: random.Random) -> str:
    rows = [[_words(chance, 2) for _ in range(3)] for _ in range(chance.randint(3, 7))]
    rows.insert(1, ["---"] * 3)
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)
