"""The rules of `data clean`: every verdict on pages with known truth, and each rule by itself."""

from __future__ import annotations

import json
import random
import re
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from openchat_cli.data import rules, visible
from openchat_cli.data.candidates import REASONS, Candidate, Form, RejectError, Turn
from openchat_cli.data.html import to_markdown
from tests.conftest import ROOT, RunCli
from tests.data import faults, generator


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


# --- every verdict ---

# Reasons that need an option, another source, or a converter that fails: other tests show them.
ELSEWHERE = {"failed", "near_duplicate", "not_text", "tool_use"}


@pytest.mark.parametrize(
    ("count", "workers"), [(200, 1), pytest.param(2000, 2, marks=pytest.mark.slow)]
)
def test_every_verdict_is_right(openchat: RunCli, tmp_path: Path, count: int, workers: int) -> None:
    truths = faults.fill(tmp_path / "in", count, seed=count)
    ended = openchat("data", "clean", "in", "out", "--json", "--workers", workers)
    assert ended.returncode == 0, ended.stderr
    kept = rows(tmp_path / "out" / "conversations.jsonl")
    dropped = rows(tmp_path / "out" / "dropped.jsonl")

    found = {
        (row["source"], row["where"].partition(",")[0].replace("page", "")): row for row in dropped
    }
    wrong = []
    for truth in truths:
        row = found.get((truth.source, truth.where))
        verdict = (row["reason"], row["kept_id"]) if row else (None, None)
        if verdict != (truth.reason, truth.kept_id):
            wrong.append((truth, row))
    assert wrong == []
    # The kept ones in their order; a row of a dump is told by its id.
    assert [row["source"] for row in kept] == [one.source for one in truths if one.reason is None]
    ids = [row["id"] for row in kept]
    named = [one.id for one in truths if one.reason is None]
    assert [a for a, b in zip(ids, named, strict=True) if b is not None] == [
        name for name in named if name is not None
    ]
    assert len(set(ids)) == len(ids)
    _check_sums(tmp_path / "out", json.loads(ended.stdout)["counts"], truths)


def _check_sums(out: Path, counts: dict[str, Any], truths: list[faults.Truth]) -> None:
    reasons = Counter(one.reason for one in truths if one.reason is not None)
    report = json.loads((out / "clean.report.json").read_text("utf-8"))
    assert report["reasons"] == reasons == counts["reasons"]
    assert list(report["reasons"]) == [code for code in REASONS if code in reasons]
    assert report["read"] == report["kept"] + report["dropped"] == len(truths) == counts["read"]
    assert set(reasons) == set(REASONS) - ELSEWHERE, "a reason never occurs"
    assert report["changed"]["new_id"] == 1
    lengths = report["lengths"]
    assert lengths["turns"]["n"] == lengths["characters"]["n"] == report["kept"]
    assert sum(step["n"] for step in lengths["turns"]["steps"]) == report["kept"]


def test_the_documented_table_is_the_rules() -> None:
    text = (ROOT / "docs" / "data.md").read_text("utf-8")
    head = text.index("| reason | meaning | the detail says |")
    table = re.findall(r"^\| `(\w+)` \| (.+?) \| .+ \|$", text[head:].partition("\n\n")[0], re.M)
    assert [(code, words.replace("`", "")) for code, words in table] == list(REASONS.items())


# --- one by one ---


def turn(role: str, text: str, form: Form | None = None) -> Turn:
    return Turn(role, text, form or ("markdown" if role == "gpt" else "text"))


def judged(*turns: Turn, blocked: tuple[str, ...] = (), keep_blocked: bool = False) -> rules.Kept:
    candidate = Candidate("id", None, turns)
    return rules.judge(candidate, to_markdown, blocked, keep_blocked=keep_blocked)


def reason(*turns: Turn, blocked: tuple[str, ...] = ()) -> tuple[str, str] | None:
    """(reason, place) of a drop; None where it is kept."""
    try:
        judged(*turns, blocked=blocked)
    except RejectError as error:
        return error.reason, error.where
    return None


ASK, SAY = turn("human", "hi"), turn("gpt", "hello")


def test_turns_left_out_are_noted() -> None:
    kept = judged(turn("system", "Be brief."), SAY, ASK, SAY, ASK)
    assert [message.role for message in kept.messages] == ["system", "user", "assistant"]
    assert kept.notes == ("leading_gpt", "trailing_human")


@pytest.mark.parametrize(
    ("turns", "expected"),
    [
        ((SAY, SAY, ASK, SAY), ("not_alternating", "turn 2")),
        ((ASK, SAY, ASK, ASK), ("not_alternating", "turn 4")),
        ((ASK, ASK, SAY), ("not_alternating", "turn 2")),
        ((ASK, SAY, SAY), ("not_alternating", "turn 3")),
        ((ASK, ASK), ("too_short", "")),
        ((SAY, SAY), ("too_short", "")),
        ((SAY, ASK), ("too_short", "")),
        ((turn("system", "s"), turn("system", "s"), ASK, SAY), ("not_alternating", "turn 2")),
        ((turn("tool", "{}"), ASK, SAY), ("not_alternating", "turn 1")),
        ((ASK, turn("gpt", "")), ("empty_answer", "turn 2")),
        ((SAY, ASK, SAY, ASK, turn("gpt", "\u3164\u2800")), ("empty_answer", "turn 5")),
        ((ASK, turn("gpt", "![](data:image/png;base64,AAAA)")), ("empty_answer", "turn 2")),
        ((ASK, turn("gpt", "[![](a.png)](b)\n\n```python\n```")), ("empty_answer", "turn 2")),
        ((ASK, turn("gpt", "![a cat](a.png)")), None),
        ((ASK, turn("gpt", "![](a.png) is a cat")), None),
        ((ASK, turn("gpt", "```\n0\n```")), None),
        ((ASK, turn("gpt", "---")), ("empty_answer", "turn 2")),
        ((ASK, turn("gpt", "> ---\n\n```\n```\n\n___")), ("empty_answer", "turn 2")),
        ((ASK, turn("gpt", "<hr>", "html")), ("empty_answer", "turn 2")),
        ((ASK, turn("gpt", "--- a")), None),
        ((ASK, turn("gpt", "👍")), None),
        ((turn("human", "   "), SAY), None),
        ((turn("user", "hi"), turn("assistant", "a", "markdown")), None),
    ],
)
def test_turns(turns: tuple[Turn, ...], expected: tuple[str, str] | None) -> None:
    assert reason(*turns) == expected


def test_a_blank_system_message_is_left_out() -> None:
    kept = judged(turn("system", " \u200b"), ASK, SAY)
    assert [message.role for message in kept.messages] == ["user", "assistant"]
    assert kept.notes == ("empty_system",)


def test_a_converter_that_fails_fails_one_conversation() -> None:
    def converter(html: str) -> str:
        raise ValueError("no such tag")

    candidate = Candidate("id", None, (ASK, turn("gpt", "<p>x</p>", "html")))
    with pytest.raises(RejectError) as caught:
        rules.judge(candidate, converter, ())
    error = caught.value
    assert (error.reason, error.where, error.detail) == (
        "failed",
        "turn 2",
        "ValueError: no such tag",
    )


@pytest.mark.parametrize(
    ("text", "form", "found"),
    [
        ("by OpenAI", "text", True),
        ("see https://openai.com", "text", True),
        ("*a* [x](https://openai.com)", "text", True),  # a person's text has no marks
        ("by Open**AI**", "markdown", True),
        ("[OpenAI](https://example.com)", "markdown", True),
        ("<https://openai.com/>", "markdown", True),
        ("```\nimport openai\n```", "markdown", True),
        ("`[x](openai)`", "markdown", True),
        ("by Op&#101;nAI", "markdown", True),
        (r"by Open\AI", "markdown", False),
        ("[x](https://openai.com 'OpenAI')", "markdown", False),
        ("![a](https://openai.com/a_(b).png)", "markdown", False),
        ("![by OpenAI](a.png)", "markdown", True),
        ('<p><img src="a.png" alt="by OpenAI"></p>', "html", True),
        ('<p><img src="openai.png" alt="a"></p>', "html", False),
        ("[x][1]\n\n[1]: https://openai.com", "markdown", False),
        ("[1]: see openai for more", "markdown", True),
        ('<img src="openai.png"> no', "markdown", False),
        ("open_ai and open ai", "markdown", False),
        ("``` a` [x](https://openai.com)", "markdown", False),
        ("<p>by Open<b>AI</b></p>", "html", True),
        ("<pre><code>import open<span>ai</span></code></pre>", "html", True),
        ("<p>It is open</p><p>AI is</p>", "html", False),
        ("<p>open<br>ai</p>", "html", False),
        ('<p><a href="https://openai.com" title="OpenAI">x</a></p>', "html", False),
        ("<p>a</p><button>openai</button><svg><title>openai</title></svg>", "html", False),
        ("<button>openai", "html", True),  # without an end it hides nothing
        ("<p>&lt;openai&gt;</p>", "html", True),
    ],
)
def test_blocked_words_are_what_is_seen(text: str, form: Form, found: bool) -> None:
    answer = reason(ASK, turn("gpt", text, form), blocked=("openai",))
    assert answer == (("blocked_word", "turn 2") if found else None)


def test_the_quick_look_for_blocked_words_overlooks_none() -> None:
    """What it says no to is not said: words written in every way and parted by everything."""
    chance = random.Random(3)
    words = ("open skies", "i'm", "a_b")
    parts = (
        *("<b>", "</b>", "<B class='x>y'>", '<i title="a<b>c">', "</span >", "<b", '<b "', "<bx>"),
        *("<p>", "<br/>", "<svg>", "</svg>", "<a-b>", "<!x>", "<? >", "<!-- x -->", "<!--", "&"),
        *("\u0301", "\u0338", "\u00ad"),  # accents join what is before them
    )
    quick = said = 0
    for _ in range(20_000):
        html = ""
        for letter in chance.choice(words):
            others = (letter.upper(), f"&#{ord(letter)};", letter.replace("s", "\u017f"))
            html += chance.choice((letter,) * 10 + others)
            html += chance.choice(parts) * chance.randrange(3) if chance.random() < 0.1 else ""
        is_said = any(word in visible.folded(visible.of_html(html)) for word in words)
        may_be = visible.html_may_say(html, words)
        assert may_be or not is_said, html
        quick, said = quick + (not may_be), said + is_said
    assert quick > 300 and said > 3000


def test_blocked_words_fold_case_and_white_space() -> None:
    words = tuple(map(visible.folded, ("Straße", "as  an AI", "E\u0301TE\u0301")))
    for text in ("STRASSE", "as an\nai model", "\u00e9t\u00e9"):
        assert reason(turn("human", text), SAY, blocked=words) == ("blocked_word", "turn 1")
    html = turn("gpt", "<p>As</p><p>an <b>AI</b></p>", "html")
    assert reason(ASK, html, blocked=words) == ("blocked_word", "turn 2")


def test_the_detail_shows_the_word_in_its_place() -> None:
    with pytest.raises(RejectError) as caught:
        judged(ASK, turn("gpt", f"{'x' * 99} I am by OpenAI, too."), blocked=("openai",))
    assert caught.value.word == "openai"
    assert caught.value.detail.startswith('openai: "…xxx')
    assert caught.value.detail.endswith('I am by OpenAI, too."')
    kept = judged(ASK, turn("gpt", "OpenAI"), blocked=("ai", "openai"), keep_blocked=True)
    assert kept.blocked == "ai"


@pytest.mark.parametrize(
    "unit", ["`", "` ``", "](", '](a "', "<a ", "[a]: ", "<button>", "![", "*_", "<b"]
)
def test_looking_at_the_text_takes_one_pass(unit: str) -> None:
    text = unit * (1_000_000 // len(unit))
    began = time.process_time()
    visible.of_markdown(text)
    visible.of_html(text)
    visible.says_nothing(text)
    visible.says_nothing("![](a)" * 200_000 + "x")
    assert time.process_time() - began < 6


# --- the options ---


def page(folder: Path, name: str, *items: tuple[str, str]) -> None:
    folder.mkdir(exist_ok=True)
    (folder / f"{name}.html").write_bytes(generator.page(list(items), name=name))


def test_words_from_a_file(openchat: RunCli, tmp_path: Path) -> None:
    for word in ("alpha", "beta", "gamma", "#delta", "openai"):
        page(tmp_path / "in", word.strip("#"), ("human", f"say {word}"), ("gpt", word))
    text = "\ufeffalpha\r\n# beta\r\n\r\n  Gamma  \r\n"
    (tmp_path / "words.txt").write_bytes(text.encode())
    words = ("--blocked-words", "words.txt", "--blocked-word", "#DELTA")
    ended = openchat("data", "clean", "in", "out", *words)
    assert ended.returncode == 0, ended.stderr
    kept = [row["id"] for row in rows(tmp_path / "out" / "conversations.jsonl")]
    assert kept == ["beta", "openai"]
    report = json.loads((tmp_path / "out" / "clean.report.json").read_text("utf-8"))
    assert report["blocked_dropped"] == {"alpha": 1, "gamma": 1, "#delta": 1}
    (tmp_path / "latin.txt").write_bytes(b"\xe9\n")
    for name in ("absent.txt", "latin.txt", "in"):
        ended = openchat("data", "clean", "in", "no", "--blocked-words", name)
        assert (ended.returncode, ended.stderr.count("\n")) == (1, 1)
        assert name in ended.stderr


def test_blocked_words_kept_are_counted(openchat: RunCli, tmp_path: Path) -> None:
    page(tmp_path / "in", "a", ("human", "who?"), ("gpt", "OpenAI"))
    page(tmp_path / "in", "b", ("human", "who?"), ("gpt", "me"))
    ended = openchat("data", "clean", "in", "out", "--keep-blocked", "--json", "--strict")
    assert ended.returncode == 0, ended.stderr
    assert "1 of the kept ones say a blocked word" in ended.stderr
    counts = json.loads(ended.stdout)["counts"]
    assert (counts["kept"], counts["dropped"], counts["blocked_kept"]) == (2, 0, 1)
    report = json.loads((tmp_path / "out" / "clean.report.json").read_text("utf-8"))
    assert (report["blocked_kept"], report["reasons"]) == ({"openai": 1}, {})


def test_one_word_in_the_settings_file(openchat: RunCli, tmp_path: Path) -> None:
    page(tmp_path / "in", "a", ("human", "who?"), ("gpt", "Zebra"))
    page(tmp_path / "in", "b", ("human", "who?"), ("gpt", "OpenAI"))
    (tmp_path / "openchat.toml").write_text('[data.clean]\nblocked_word = "zebra"\n')
    ended = openchat("data", "clean", "in", "out")
    assert ended.returncode == 0, ended.stderr
    assert [row["id"] for row in rows(tmp_path / "out" / "conversations.jsonl")] == ["b"]


def test_an_id_is_given_once(openchat: RunCli, tmp_path: Path) -> None:
    texts = [("x", "one"), ("x", "two"), ("y", "three"), ("x", "two"), ("x", "four")]
    lines = [
        json.dumps(
            {
                "id": name,
                "conversations": [{"from": "human", "value": text}, {"from": "gpt", "value": text}],
            }
        )
        for name, text in texts
    ]
    ended = openchat("data", "clean", "-", "out", stdin="\n".join(lines))
    assert ended.returncode == 0, ended.stderr
    assert "2 of the kept ones had the id of an earlier one" in ended.stderr
    kept = rows(tmp_path / "out" / "conversations.jsonl")
    assert [row["messages"][0]["content"] for row in kept] == ["one", "two", "three", "four"]
    assert [row["id"] for row in kept][::2] == ["x", "y"]
    assert all(re.fullmatch("[0-9a-f]{32}", row["id"]) for row in kept[1::2])
    (dropped,) = rows(tmp_path / "out" / "dropped.jsonl")
    assert (dropped["reason"], dropped["kept_id"]) == ("duplicate", kept[1]["id"])
