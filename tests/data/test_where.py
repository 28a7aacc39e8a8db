"""`--where`: the small language of conditions on fields."""

from __future__ import annotations

from typing import Any

import pytest

from openchat_cli.core.errors import UsageError
from openchat_cli.core.records import Conversation
from openchat_cli.data import where
from openchat_cli.data.entry import Entry

MESSAGES = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "größer?"},
    {"role": "assistant", "content": "Ja, 日本も。\nTODO"},
]
ROW: dict[str, Any] = {
    "kind": "conversation",
    "id": "x1",
    "source": "ShareGPT/a=b.html",
    "model": "Model: GPT-4",
    "messages": MESSAGES,
    "weight": 0.5,
    "language": None,
    "empty": "",
    "nothing": [],
    "votes": 12,
    "flag": True,
    "year": "2023",
    "date": "2023-05-01",
    "tags": ["code", "math"],
    "meta": {"score": 3, "who": {"name": "Ann"}},
    "moderation.flagged": False,
    "my field": "v",
}


def entry(**fields: Any) -> Entry:
    row = {**ROW, **fields}
    return Entry(b"", row, Conversation.from_row(row), row["language"])


@pytest.mark.parametrize(
    ("text", "holds"),
    [
        ("id=x1", True),
        ("id == x1", True),
        ("id = X1", False),
        ("source~^ShareGPT/", True),
        ("source ~ a=b", True),
        ("source!~^ShareGPT/", False),
        ("source=ShareGPT/a=b.html", True),
        ("model=GPT-4", True),
        ("weight>=0.5", True),
        ("weight>0.5", False),
        ("weight<5e-1", False),
        ("weight!=1", True),
        ("weight=.50", True),
        ("turns=2", True),
        ("turns<2", False),
        ("chars>=25", True),
        ("longest<=14", True),
        ("language=", True),
        ("language!=", False),
        ("language=en", False),
        ("language!=en", True),
        ("language!~en", True),
        ("language<en", False),
        ("empty=", True),
        ("nothing=", True),
        ("absent=", True),
        ("absent!=", False),
        ("absent!=3", True),
        ("votes=12.0", True),
        ('votes="12"', False),
        ("votes=twelve", False),
        ("votes!=twelve", True),
        ("votes>9", True),
        ("votes>a", False),
        ("votes~^1.$", True),
        ("flag=true", True),
        ("flag=false", False),
        ("flag!=true", False),
        ("flag=1", False),
        ("year=2023", True),
        ('year="2023"', True),
        ("year>=2023", False),
        ('year>="2022"', True),
        ("date>=2023-04-30", True),
        ("date<2023-05", False),
        ("tags=math", True),
        ("tags!=math", False),
        ("tags~^c", True),
        ("tags.1=math", True),
        ("tags.-1=math", True),
        ("tags.2=", True),
        ("meta.score>2", True),
        ("meta.who.name=Ann", True),
        ("meta.who=", False),
        ("meta=x", False),
        ("moderation.flagged=false", True),
        ("my field = v", True),
        ("messages.role=assistant", True),
        ("messages.role!=tool", True),
        ("messages.role=tool", False),
        ("messages.0.role=system", True),
        ("messages.-1.content~TODO$", True),
        ("messages.-1.role!=user", True),
        ("messages[-1].role=assistant", True),
        ("messages.1.content~GRÖSSER", False),
        ("messages.1.content~(?i)GRÖ", True),
        ("messages.content~日本", True),
        ("messages.9.content~x", False),
        ('source="ShareGPT/a=b.html"', True),
        ('source="', False),
        ("source.deeper=x", False),
    ],
)
def test_conditions(text: str, holds: bool) -> None:
    assert where.parse(text).holds(entry()) is holds


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("weight", "an operator was expected at character 7"),
        ("weight ! 3", "an operator was expected at character 8"),
        ("", "an operator was expected at character 1"),
        ("=3", "a field was expected at character 1"),
        ("meta..x=3", "a field was expected at character 5"),
        ("weight>= ", "a value was expected at character 10"),
        ("weight>=heavy", "weight is a number, 'heavy' at character 9 is not"),
        ("turns=two", "turns is a number, 'two' at character 7 is not"),
        ('chars<"5"', "chars is a number"),
        ("source~ a(b", "not a regular expression at character 10"),
        ("source~a{99999999999}", "not a regular expression"),
    ],
)
def test_what_cannot_be_read(text: str, says: str) -> None:
    with pytest.raises(UsageError) as caught:
        where.parse(text)
    assert caught.value.message.startswith(f"--where '{text}': ")
    assert says in caught.value.message


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("wieght!=1", "no row that was looked at has a 'wieght'; did you mean 'weight'?"),
        ("zzz=", "there are chars, condition"),
        ("source>=5", "no 'source' could be compared with that value"),
        ("flag=yes", "no 'flag' could be compared"),
        ("language=en", "--lang any fills it in"),
        ("weight=7", None),
        ("condition=", None),
        ("votes>100", None),
    ],
)
def test_advice_after_the_last_row(text: str, says: str | None) -> None:
    condition = where.parse(text)
    assert condition.advice() is None  # before any row
    condition.holds(entry())
    condition.holds(entry())
    advice = condition.advice()
    assert advice is None if says is None else says in str(advice)
