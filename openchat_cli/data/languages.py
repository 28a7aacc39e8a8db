"""Which language a conversation is in: by its script, else by py3langid (the extra `data`).

Code, addresses and markup are taken out first, and only a bounded head of each message is looked
at, so a message of a megabyte costs no more than one of a page.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterable

from openchat_cli.core.errors import UsageError, did_you_mean, need

ANY = "any"
NONE = "none"  # how the conversations are asked for whose language can't be told

# What can be told apart: the ISO 639-1 code and the English name.
_TABLE = """
    af Afrikaans, am Amharic, an Aragonese, ar Arabic, as Assamese, az Azerbaijani, ba Bashkir,
    be Belarusian, bg Bulgarian, bn Bengali, br Breton, bs Bosnian, ca Catalan, cs Czech,
    cy Welsh, da Danish, de German, dz Dzongkha, el Greek, en English, eo Esperanto, es Spanish,
    et Estonian, eu Basque, fa Persian, fi Finnish, fo Faroese, fr French, fy Western Frisian,
    ga Irish, gd Scottish Gaelic, gl Galician, gu Gujarati, ha Hausa, he Hebrew, hi Hindi,
    hr Croatian, ht Haitian, hu Hungarian, hy Armenian, id Indonesian, ig Igbo, is Icelandic,
    it Italian, ja Japanese, jv Javanese, ka Georgian, kk Kazakh, km Khmer, kn Kannada,
    ko Korean, ku Kurdish, ky Kyrgyz, la Latin, lb Luxembourgish, lg Ganda, ln Lingala, lo Lao,
    lt Lithuanian, lv Latvian, mg Malagasy, mk Macedonian, ml Malayalam, mn Mongolian,
    mr Marathi, ms Malay, mt Maltese, my Burmese, ne Nepali, nl Dutch, nn Norwegian Nynorsk,
    no Norwegian, oc Occitan, om Oromo, or Odia, pa Punjabi, pl Polish, ps Pashto,
    pt Portuguese, qu Quechua, ro Romanian, ru Russian, rw Kinyarwanda, sa Sanskrit,
    se Northern Sami, si Sinhala, sk Slovak, sl Slovenian, sn Shona, so Somali, sq Albanian,
    sr Serbian, st Southern Sotho, sv Swedish, sw Swahili, ta Tamil, te Telugu, tg Tajik,
    th Thai, tk Turkmen, tl Tagalog, tr Turkish, tt Tatar, ug Uyghur, uk Ukrainian, ur Urdu,
    uz Uzbek, vi Vietnamese, vo Volapük, wa Walloon, xh Xhosa, yo Yoruba, zh Chinese, zu Zulu
"""
NAMES = {entry[:2]: entry[3:] for entry in " ".join(_TABLE.split()).split(", ")}
_CODES = {name.casefold(): code for code, name in NAMES.items()}

# The library's finer codes, and what they are called here.
_VARIANTS = {
    "wuu": "zh",
    "yue": "zh",
    "arz": "ar",
    "ary": "ar",
    "sdh": "ku",
    "uzs": "uz",
    "hbo": "he",
    "grc": "el",
}
_NO_LANGUAGE = "zxx"  # the library's class of numbers, markup and identifiers

_RAW = 2500  # characters of one text that are looked at
_EACH = 250  # characters of prose that one message gives
_ENOUGH = 1600  # characters of prose that decide
# Below it the library guesses: of 3,700 real messages nearly all wrong answers lie under it.
_SURE = 0.2

_NOT_PROSE = re.compile(
    r"(?ms)^[ \t]*(```+|~~~+).*?(?:^[ \t]*\1|\Z)"  # fenced code, also an unclosed one
    r"|`[^`\n]{1,300}`|\$\$.{1,600}?\$\$"
    r"|<[a-zA-Z/!][^<>]{0,300}>|&[a-z]{2,8};"
    r"|\b(?:https?://|www\.)\S{1,500}|\b\w+_\w+|\d+"
)
_HAN = re.compile("[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U000323af]")
_KANA = re.compile("[\u3041-\u3096\u309d-\u30fa\u30fd-\u30ff\u31f0-\u31ff\uff66-\uff9f]")
_HANGUL = re.compile("[\u1100-\u11ff\u3131-\u318e\uac00-\ud7a3]")
_LETTER = re.compile(r"[^\W\d_]")
_PER_SIGN = 3  # letters that say as much as one sign of East Asia
_KANA_SHARE = 0.2  # of Japanese text kana are half and more; a Chinese text quotes some


def detect(text: str) -> str | None:
    """The ISO 639-1 code of a text's language; None where it can't be told.

    Raises MissingExtraError where the extra is not installed.
    """
    return _of_prose(_prose(text, _ENOUGH))


def of_messages(texts: Iterable[str]) -> str | None:
    """As `detect`, for a whole conversation: the beginning of each message until they decide."""
    parts: list[str] = []
    length = 0
    for text in texts:
        parts.append(_prose(text, _EACH))
        length += len(parts[-1])
        if length >= _ENOUGH:
            break
    return _of_prose("\n".join(parts)[:_ENOUGH])


def known(label: str | None) -> str | None:
    """The code that a row's own label means: `zh-CN` is zh, `English` is en; None for others."""
    if label is None:
        return None
    text = label.strip().casefold()
    first = re.split("[-_]", text, maxsplit=1)[0]
    code = _VARIANTS.get(first, first)
    return code if code in NAMES else _CODES.get(text)


def chosen(options: Iterable[str]) -> tuple[str, ...]:
    """The codes of `--lang`, each a code or several with commas; `any` and `none` stand as such.

    Raises UsageError for one that isn't known.
    """
    codes: list[str] = []
    for option in options:
        for part in option.split(","):
            text = part.strip().casefold()
            if not text:
                continue
            region = re.fullmatch(r"([a-z]{2,3})(?:[-_]\w+)*", text)
            code = known(region[1]) if region else None
            if text not in (ANY, NONE) and code is None:
                raise UsageError(f"--lang {part.strip()}: not a language code", _hint(text))
            codes.append(text if code is None else code)
    if not codes:
        raise UsageError("--lang: a language code is needed", "such as --lang en")
    return tuple(dict.fromkeys(codes))


def require() -> None:
    """Raise MissingExtraError where languages can't be told apart."""
    need("telling languages apart", "data", "py3langid")


def _hint(text: str) -> str:
    if text in _CODES:
        return f"did you mean '{_CODES[text]}'?"
    if len(text) > 3:
        near = did_you_mean(text, _CODES).partition(";")[0]
        if near.startswith("did you mean '"):
            name = near.split("'")[1]
            return f"did you mean '{_CODES[name]}' ({NAMES[_CODES[name]]})?"
    return f"known: {', '.join(NAMES)}; {NONE} where it can't be told, {ANY} for all"


def _prose(text: str, most: int) -> str:
    return " ".join(_NOT_PROSE.sub(" ", text[:_RAW]).split())[:most]


def _of_prose(prose: str) -> str | None:
    if not _LETTER.search(prose):
        return None
    han, kana, hangul = (len(signs.findall(prose)) for signs in (_HAN, _KANA, _HANGUL))
    east = han + kana + hangul
    if east and east * _PER_SIGN > len(_LETTER.findall(prose)) - east:
        if hangul > han + kana:
            return "ko"
        return "ja" if kana > _KANA_SHARE * (han + kana) else "zh"
    return _by_library(prose)


def _by_library(prose: str) -> str | None:
    shares: dict[str, float] = {}
    for label, share in _ranking()(prose):
        code = _VARIANTS.get(label, label)
        shares[code] = shares.get(code, 0.0) + share
    best = max(shares, key=lambda code: shares[code])
    return None if best == _NO_LANGUAGE or shares[best] < _SURE else best


@functools.cache
def _ranking() -> Callable[[str], list[tuple[str, float]]]:
    """The library's shares of all languages, best first; loading its model takes 0.3 s."""
    require()
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    identifier = LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
    ours = {*NAMES, *_VARIANTS, _NO_LANGUAGE}
    identifier.set_languages([label for label in identifier.labels if label in ours])
    return lambda text: list(identifier.rank(text))
