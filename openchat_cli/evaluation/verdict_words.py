"""The words and patterns of judges' verdicts in several languages, for verdict.py."""

from __future__ import annotations

import re

_NUMBER = r"\d{1,3}(?:[.,]\d+)?"
_POINTED = r"\d{1,3}(?:\.\d+)?"  # where a comma parts two numbers
_UNIT = r"(?:\s*/\s*10(?:[.,]0)?|\s+out\s+of\s+10|\s*(?:points?|punkte|puntos|分|点|점))?"
_GRADE = rf"(?P<grade>{_NUMBER}){_UNIT}"
_SCORE = (
    r"(?:(?:(?<![A-Za-z])(?:scor(?:e[sd]?|ing)|ratings?|grades?|marks?|(?:punkt|noten)zahl|punkte"
    r"|bewertung(?:en)?|note[ns]?|puntuaci[oó]n(?:es)?|puntajes?|pontua[cç][aã]o|notas?"
    r"|оцен(?:ка|ки|ок)|балл(?:ы|ов|а)?)(?![A-Za-zа-я]))|总分|得分|评分|分数|打分|スコア|評価|得点|점수|평점)"
)
_WHO = (
    r"(?:\b(?:assistant|assistente?n?|asistente|modell?|answer|response|réponse|respuesta|antwort"
    r"|ассистент\w?|помощник\w?|модел[ьи]|ответ)|助手|助理|模型|回答|回复|アシスタント|モデル|어시스턴트)"
)
_NOT_MORE = r"(?![0-9A-Za-z]|[.,]\d)"


def _who(which: str) -> str:
    """One of the two: "Assistant 1", "AI Assistant #1", "Model A", "助手一"."""
    return rf"(?:ai\s+)?{_WHO}\s*(?:#|no\.?\s|nr\.?\s)?\s*(?:{which}){_NOT_MORE}"


_ONE, _TWO = _who("1|A|one|一"), _who("2|B|two|二")


def to_float(text: str) -> float:
    """A number as these patterns find it, with a point or a comma."""
    return float(text.replace(",", "."))


def _pattern(text: str) -> re.Pattern[str]:
    return re.compile(text, re.IGNORECASE | re.MULTILINE)


def _for_each(template: str) -> tuple[re.Pattern[str], re.Pattern[str]]:
    return _pattern(template.replace("WHO", _ONE)), _pattern(template.replace("WHO", _TWO))


FIRST, SECOND = _pattern(_ONE), _pattern(_TWO)
SCORE = _pattern(_SCORE)
RESULT = _pattern(
    rf"{_SCORE}|\b(?:output|list|tuple)(?:\s+(?:tuple|list))?\s*(?::|=|is\b)|\bverdict\b|\bresult\s*:"
)
OVERALL = _pattern(
    r"\b(?:overall|total|final|gesamt|insgesamt|totale?|итого|среднее)\b|总分|总体|合計|총점"
)
GRADE = _pattern(_GRADE)

_CELL = rf"(?:['’]s)?(?:\s*\([^()]*\))?(?:\s*{_SCORE}[^|]*)?"
FIRST_CELL, SECOND_CELL = _pattern(_ONE + _CELL), _pattern(_TWO + _CELL)
_HEADING = (
    r"(?:['’]s\s+\w+)?(?:\s*[(\[][^()\]]{0,60}[)\]])?(?:\s*(?:evaluation|review|analysis))?\s*:?"
)
FIRST_HEADING, SECOND_HEADING = _pattern(_ONE + _HEADING), _pattern(_TWO + _HEADING)
OWN_SCORE = _pattern(
    rf"\W*(?:overall\s+|final\s+|total\s+)?{_SCORE}\s*(?:is|[:=–—-])\s*[\[(]{{0,2}}{_GRADE}[\])]{{0,2}}\.?"
)

_SIDE = re.compile(
    r"(?P<word>score|rating|grade|assistant|model|answer|response)?s?"
    r"(?:of|for|assistant|model|answer|response|score|rating)*(?P<side>[12ab])?(?:score|rating)?"
)


def side_of(key: str) -> str | None:
    """Whose score a JSON key holds: "1", "2", "a", "b", or "both" for {"scores": …}.

    Bare letters are nobody's: objects in code under review have such keys.
    """
    found = _SIDE.fullmatch(re.sub(r"[\W_]+", "", key.lower()))
    if found is None or found["word"] is None:
        return None
    return found["side"] or ("both" if found["word"] in ("score", "rating") else None)


# --- two numbers beside each other ---

_AND = r"\s+(?:and|und|et|y|e|и|vs\.?)\s+"
_OPEN, _CLOSE = r"[\[(]{0,2}\s*", r"\s*[\])]{0,2}"
_LEAD = r"(?P<lead>\S[^\n]{0,160}?(?:[:=]|\b(?:is|are|be)\b)\s*)?"


def _two(number: str, gap: str) -> str:
    return rf"(?P<first>{number}){_UNIT}{gap}(?P<second>{number}){_UNIT}"


PAIR_LINES = tuple(
    _pattern(rf"^{_LEAD}{_OPEN}{_two(number, gap)}{_CLOSE}[.。]?$")
    for number, gap in (
        (_POINTED, rf"(?:\s*[,;|&]\s*|{_AND}|\s+)"),
        (_NUMBER, rf"(?:\s*[;|&]\s*|,\s+|{_AND}|\s+)"),
    )
)
_COMMA = r"\s*,\s*"
_SPACE = r"(?:\s*[,;]\s*|\s+)"
DOUBLE_BRACKETS = _pattern(rf"\[\[\s*{_two(_POINTED, _SPACE)}\s*\]\]")
TUPLE = _pattern(rf"[\[(]\s*{_two(_POINTED, _COMMA)}\s*[\])]")
BARE_DOUBLE = _pattern(rf"\W*{DOUBLE_BRACKETS.pattern}\W*")
BARE_TUPLE = _pattern(rf"\W*{TUPLE.pattern}\W*")

# --- scores with the names of their owners ---

_EITHER = rf"(?:{_COMMA}|{_AND})"
# What follows a labelled score: the end of the phrase, a bracket, the next one. Not an equation.
_ENDS = (
    r"(?=\s*(?:$|[,;)\](|。]|\.(?!\d)|[–—-]\s"
    r"|です|(?:and|und|et|y|e|и|while|whereas|due|for|because)\b))"
)
_OWN = r"(?:['’]s|的|の)?"
_SAYS = r"(?:\s*(?:is|=|:|[–—→-]|は|ist|es|est|é)\s*|\s+)"
_BRACKETS = r"(?:\s*\([^()\n]{0,80}\))?"

LABELLED = _for_each(
    rf"WHO{_OWN}{_BRACKETS}(?:\s*(?:overall|final|total)?\s*{_SCORE})?\s*(?:is|=|:|[–—→-]|は|为|是|打|得)\s*"
    rf"(?:{_SCORE}\s*[:=]?\s*)?[\[(]{{0,2}}\s*{_GRADE}\s*[\])]{{0,2}}{_ENDS}"
)
SCORE_OF = _for_each(
    rf"{_SCORE}\s*(?:of|for|to|für|para|de|pour|для)?\s*(?:the\s+)?WHO{_SAYS}[\[(]{{0,2}}{_GRADE}{_ENDS}"
)
NUMBERED = tuple(
    _pattern(rf"{_SCORE}\s*#?\s*(?:{which}){_NOT_MORE}\s*[:=]\s*{_GRADE}{_ENDS}")
    for which in ("1|A", "2|B")
)
GIVEN = _for_each(
    rf"WHO\s+(?:[^\n.\d]{{0,30}}?\s)??(?:an?\s+)?(?:overall\s+|final\s+)?{_SCORE}\s+(?:of|de|von)\s+{_GRADE}{_ENDS}"
)
# With its unit only: "Assistant 1 gets 4" may be a result in mathematics.
_WHOLE = _GRADE.removesuffix("?")
RATED = _for_each(
    rf"WHO\s+(?:[a-z]+\s+){{0,2}}?(?:receives?|gets?|earns?|deserves?|scores?|given|awarded|rated)\s+"
    rf"(?:an?\s+)?{_WHOLE}{_ENDS}"
)
TOGETHER = (
    # the scores for Assistant 1 and Assistant 2 are 8 and 9 respectively
    _pattern(
        rf"{_SCORE}\s+(?:for|of)\s+(?:the\s+)?{_ONE}{_AND}(?:the\s+)?{_TWO}[^\d\n]{{0,30}}"
        rf"{_two(_POINTED, _EITHER)}"
    ),
    # a score of 8 to Assistant 1 and (a score of) 9 to Assistant 2
    _pattern(
        rf"{_SCORE}\s+of\s+(?P<first>{_NUMBER}){_UNIT}\s+(?:to|for)\s+(?:the\s+)?{_ONE}\b[^\n\d]{{0,80}}?"
        rf"(?P<second>{_NUMBER}){_UNIT}\s+(?:to|for)\s+(?:the\s+)?{_TWO}"
    ),
    # 8/10 for Assistant 1, 9/10 for Assistant 2
    _pattern(
        rf"(?P<first>{_NUMBER})\s*/\s*10\s+(?:to|for)\s+(?:the\s+)?{_ONE}\W+(?:and\s+)?"
        rf"(?P<second>{_NUMBER})\s*/\s*10\s+(?:to|for)\s+(?:the\s+)?{_TWO}"
    ),
    # I would rate Assistant 1 8/10 and Assistant 2 9/10
    _pattern(
        rf"\b(?:rate|give|grade|score)\s+(?:the\s+)?{_ONE}\s+(?:with\s+|an?\s+)*(?P<first>{_NUMBER}){_UNIT}"
        rf"(?:\s*,\s*|\s*,?{_AND})(?:the\s+)?{_TWO}\s+(?:with\s+|an?\s+)*(?P<second>{_NUMBER}){_UNIT}"
    ),
)
BOTH = _pattern(
    rf"\bboth\b[^.\n\d]{{0,60}}(?:1\s+and\s+[^.\n\d]{{0,20}}2[^.\n\d]{{0,40}})?{_SCORE}\s+of\s+{_GRADE}"
)

# --- one score ---

RATINGS = (
    _pattern(rf"\[\[\s*{_GRADE}\s*\]\]"),
    _pattern(rf"{_SCORE}\s*(?:is|[:=])\s*[\[(]{{0,2}}{_GRADE}(?![\d/])"),
    _pattern(rf"(?P<grade>{_NUMBER})\s*/\s*10\b"),
)
