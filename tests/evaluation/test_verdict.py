"""The verdict parser: what it reads, what it refuses to read, and the real reviews."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from openchat_cli.evaluation.verdict import read_choice, read_rating, read_scores

REAL = Path(__file__).parents[2].parent / "shared" / "data" / "eval"

READ = {
    # JSON in its shapes
    '{"evidence": "a [1, 2] b", "assistant_1_score": 8, "assistant_2_score": 9.5}': (8, 9.5),
    'Sure:\n```json\n{"assistant_1": {"score": 7}, "assistant_2": {"score": "6/10"}}\n```': (7, 6),
    '{"scores": [3, 4]}': (3, 4),
    "[6, 7]": (6, 7),
    "```json\n[6, 7]\n```": (6, 7),
    'It returns {"a": 1, "b": 2} as asked.\n\n[9, 8]': (9, 8),
    '{"Assistant A": 7, "Assistant B": 6}': (7, 6),
    '{"reasoning": "x", "ratings": {"answer_1": 7, "answer_2": 6}}': (7, 6),
    # pairs
    "9 8.5\nBoth are helpful; 3 of the 10 tips differ.": (9, 8.5),
    "Assistant 1 found the point (3, 4).\n[8, 9]": (8, 9),
    "Good.\n\n**[[8, 9]]**": (8, 9),
    "Scores: 8/10, 9/10\nAssistant 2 says more.\nIt is longer.\nIt is also better.\nBye.": (8, 9),
    "Both solve it.\n\nOutput: (1, 10)": (1, 10),
    "得分：８，９": (8, 9),
    "評価: 7, 8": (7, 8),
    "评分：[7, 8.5]": (7, 8.5),
    "Beide gut.\n8,5 9,0": (8.5, 9.0),
    "Bewertung: 8,5; 7,5": (8.5, 7.5),
    "<think>Maybe 3 4?\n3 4</think>\n\n7 9": (7, 9),
    "Puntuaciones: 6 y 8": (6, 8),
    "The final scores are (6, 8). Assistant 2 performed better.": (6, 8),
    "Both fine.\n[assistant_1_score, assistant_2_score] = [8, 9]": (8, 9),
    "Both fine.\nThe JSON list: [7, 8]": (7, 8),
    "Score A: 8\nScore B: 9": (8, 9),
    # tables
    "| Assistant | Score |\n|---|---|\n| Assistant 1 | 8/10 |\n| Assistant 2 | 9/10 |": (8, 9),
    "| | Assistant 1 | Assistant 2 |\n|:--|--:|--:|\n| Depth | 5 | 6 |\n| **Overall** | 7 | 8 |\n\n"
    "Assistant 2 wins.\nIt was close.\nThat is all.": (7, 8),
    # labelled
    "Scores:\nAssistant 1: 10 (correct answer)\nAssistant 2: 4 (wrong)\n\nAssistant 1 is better.": (
        10,
        4,
    ),
    "Assistant 1: 3 steps are wrong.\nAssistant 1: 2/10 (wrong)\nAssistant 2: 10/10 (right)": (
        2,
        10,
    ),
    "Score of Assistant 1: 8,5\nScore of Assistant 2: 9,0": (8.5, 9.0),
    "助手1：8分\n助手2：９分": (8, 9),
    "Assistent 1: 7 Punkte\nAssistent 2: 8,5 Punkte": (7, 8.5),
    "**Model A's score:** 6\n**Model B's score:** 7": (6, 7),
    "Assistant 1 score = [[5]]\nAssistant 2 score = [[6]]": (5, 6),
    "### Assistant 1\n**Score: 8/10**\n\n### Assistant 2 (short)\nLess.\n**Score: 7/10**": (8, 7),
    "助手1得分为8，助手2得分为9。": (8, 9),
    "アシスタント1のスコアは8点です。アシスタント2のスコアは7点です。": (8, 7),
    "Assistant 1 : 8,5/10\nAssistant 2 : 7/10\n\nLe premier est meilleur.": (8.5, 7),
    "| Criterion | Assistant 1's score | Assistant 2's score |\n|---|---|---|\n| Total | 8 | 9 |": (
        8,
        9,
    ),
    # sentences
    "Overall, 8/10 for Assistant 1 and 9/10 for Assistant 2.": (8, 9),
    "Assistant 1 receives 8 out of 10, while Assistant 2 gets 7/10.": (8, 7),
    "I would give Assistant 1 a score of 8 and Assistant 2 a score of 10, as it is exact.": (8, 10),
    "The scores for Assistant 1 and Assistant 2 are 7 and 9 respectively.": (7, 9),
    "So a score of 6 to Assistant 1 and 8 to Assistant 2 seems fair.": (6, 8),
    "I would rate Assistant 1 8/10 and Assistant 2 9/10.": (8, 9),
    "Therefore, both Assistant 1 and Assistant 2 receive a score of 9.": (9, 9),
}

UNREADABLE = [
    "",
    " \n\t",
    "I can't rate these answers.",
    "nan nan",
    "[85, 90]",
    '{"assistant_1_score": 85, "assistant_2_score": 90}\nAssistant 1: 8\nAssistant 2: 9',
    "8/10",
    "Assistant 1: 8/10",
    "The points are (2, -2) and (10, 4).\nThe length is 10.\nBoth say so.\nBoth show it.\nGood.",
    "Both found the point (3, 4).",
    "Assistant 1 uses f(2) = 5 * 8.\nAssistant 2 gives 9 reasons.",
    "Assistant 1: x = 10\nAssistant 2: x = 4",
    "I solve it:\n\n(3, 4)\n\nso the sum is 7.\nAssistant 1 agrees.\nAssistant 2 errs.\nEnd.",
    "It prints\nOutput: [3, 5]\nwhich is right.\nBoth do.\nBoth are clear.\nI like both.",
    "Score of Assistant 1: 8,5",
    "Read pages 3 - 4.",
    "Assistant 1: 3 apples\nAssistant 2: 4 apples",
    "In 2020, 5 of 10 said so.",
    '{"a": 1, "b": 2}',
    "{" * 2000,
    "Assistant 1: 8%\nAssistant 2: 9%",
    "Assistant 1 gets 4 and Assistant 2 gets 5, but the result is 6.",
    "### Assistant 1\nScore: 8/10\n\n### Assistant 2\nIt fails.",
    "| | Assistant 1 | Assistant 2 |\n|---|---|---|\n| Depth | 5 | 6 |\n| Style | 7 | 8 |",
    "| Total | 42/50 | 45/50 |",
    '{"step1": 3, "step2": 4}',
    '{"model": "x", "n": [1, 2]}',
    '{"evidence": "Assistant 1: 8 (good)\\nAssistant 2: 7 (less)", "assis',
    "It prints [[1, 2]] as the matrix.\nThat is right.\nBoth agree.\nGood work.\nThanks.",
    "The answer key says 3 7.\n\nBoth differ from it in step 2.",
    "Version 3.11 was used.\n10:30 to 11:45",
    "Score: 8",
]


@pytest.mark.parametrize("text", READ)
def test_scores_are_read(text: str) -> None:
    found = read_scores(text)
    assert found is not None
    assert (found.first, found.second) == READ[text]


@pytest.mark.parametrize("text", UNREADABLE)
def test_no_score_is_made_up(text: str) -> None:
    assert read_scores(text) is None


def test_the_range_is_enforced() -> None:
    assert read_scores("[0, 11]") is None
    assert read_scores("[0.5, 8]", lowest=1) is None
    assert read_scores("[85, 90]", highest=100) is not None


@pytest.mark.parametrize(
    "text",
    ["(" * 300_000, "Assistant 1: 8 " * 30_000, "a" * 1_000_000, "| 1 " * 100_000, "8 " * 200_000],
)
@pytest.mark.timeout(60)  # some 0.1 s; anything quadratic takes far longer
def test_hostile_text_comes_to_an_end(text: str) -> None:
    read_scores(text)


@pytest.mark.parametrize(
    ("text", "rating"),
    [
        ("Good. Rating: [[7]]", 7.0),
        ('{"explanation": "fine", "rating": 6.5}', 6.5),
        ("Rating: [[5]] was my first thought.\nRating: [[8]]", 8.0),
        ("Overall score: 9/10", 9.0),
        ("I give it 6/10.", 6.0),
        ("评分：８", 8.0),
        ("Rating: [[70]]", None),
        ("No idea.", None),
        ("It lists 7 points.", None),
    ],
)
def test_a_rating(text: str, rating: float | None) -> None:
    assert read_rating(text) == rating


@pytest.mark.parametrize(
    ("text", "choice"),
    [
        ("A is better. [[A]]", "first"),
        ("[[A]] at first, but [[B]]", "second"),
        ("[[C]]", "tie"),
        ("My verdict: [[A>>B]]", "first"),
        ("[[B>A]]", "second"),
        ("[[A=B]]", "tie"),
        ("A is better", None),
    ],
)
def test_a_choice(text: str, choice: str | None) -> None:
    assert read_choice(text) == choice


def _rows(*patterns: str) -> list[dict[str, object]]:
    files = sorted(path for pattern in patterns for path in REAL.glob(pattern))
    if not files:
        pytest.skip(f"{REAL} is not there: real reviews")
    return [
        json.loads(line) for path in files for line in path.read_text("utf-8").split("\n") if line
    ]


def test_real_reviews() -> None:
    """All are read, and as their authors stored them wherever those have a score."""
    rows = _rows("vicuna/review/*.jsonl", "qlora/reviews/*.jsonl")
    wrong = 0
    unread = 0
    for row in rows:
        found = read_scores(str(row["text"]))
        if found is None:
            unread += 1
        elif row["score"] != [-1, -1] and [found.first, found.second] != row["score"]:
            wrong += 1
    assert wrong == 0
    assert unread / len(rows) <= 0.001


def test_real_ratings() -> None:
    rows = _rows("mt_bench/single_*.jsonl")
    assert all(read_rating(str(row["judgment"])) == row["score"] for row in rows)
