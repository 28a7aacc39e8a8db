"""Telling languages: scripts, code and markup, short and long texts, and `--lang`."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from openchat_cli.core.errors import UsageError
from openchat_cli.data import languages
from tests.conftest import RunCli
from tests.data.test_filter_criteria import filtered, kept, row, write

pytest.importorskip("py3langid")

CODE = "```python\nfor item in items:\n    print(item)  # the quick brown fox jumps\n```"
ENGLISH = "How can I keep my tomato plants healthy during a hot summer?"
GERMAN = "Wie halte ich meine Tomaten in einem heißen Sommer gesund?"


@pytest.mark.parametrize(
    ("code", "text"),
    [
        ("en", ENGLISH),
        ("de", GERMAN),
        ("fr", "Comment garder mes tomates en bonne santé pendant un été chaud ?"),
        ("es", "¿Cómo mantengo sanas mis plantas de tomate en un verano caluroso?"),
        ("pt", "Como mantenho os meus tomateiros saudáveis num verão quente?"),
        ("it", "Come mantengo sane le mie piante di pomodoro in un'estate calda?"),
        ("nl", "Hoe houd ik mijn tomatenplanten gezond tijdens een hete zomer?"),
        ("pl", "Jak utrzymać pomidory w zdrowiu podczas gorącego lata?"),
        ("tr", "Sıcak bir yazda domateslerimi nasıl sağlıklı tutabilirim?"),
        ("vi", "Làm thế nào để giữ cho cây cà chua khỏe mạnh trong mùa hè nóng?"),
        ("ru", "Как сохранить помидоры здоровыми жарким летом?"),
        ("uk", "Як зберегти помідори здоровими спекотного літа?"),
        ("el", "Πώς κρατάω υγιείς τις ντομάτες μου ένα ζεστό καλοκαίρι;"),
        ("ar", "كيف أحافظ على صحة نباتات الطماطم في صيف حار؟"),
        ("he", "איך שומרים על עגבניות בריאות בקיץ חם?"),
        ("hi", "गर्मियों में टमाटर के पौधों को स्वस्थ कैसे रखें?"),
        ("th", "จะดูแลต้นมะเขือเทศในฤดูร้อนได้อย่างไร"),
        ("zh", "炎热的夏天怎样让番茄保持健康？"),
        ("zh", "用 React 和 TypeScript 写一个待办应用"),
        ("zh", "唔該用廣東話講一次"),
        ("ja", "暑い夏にトマトを元気に保つには？"),
        ("ja", "続けて"),
        ("ko", "더운 여름에 토마토를 건강하게 키우려면?"),
        ("en", "Translate 你好，世界 into English and explain each character"),
        (None, "ok"),
        (None, "continue"),
        (None, "12 + 30 = 42 !!"),
        (None, ""),
        (None, CODE),
        (None, "https://example.org/how-to-grow-tomatoes-in-summer"),
        ("de", f"{GERMAN}\n{CODE * 3}"),
        ("de", f"<div class='the answer of the page'>{GERMAN}</div>"),
        ("de", GERMAN + "\n```\nthis fence was never closed and goes on in English for long\n"),
        ("en", "\ud800 " + ENGLISH),
    ],
)
def test_texts(code: str | None, text: str) -> None:
    assert languages.detect(text) == code


def test_both_sides_of_a_conversation_count() -> None:
    assert languages.of_messages(["ok", f"{CODE}\n{GERMAN}"]) == "de"
    assert languages.of_messages([CODE, ENGLISH, CODE]) == "en"
    assert languages.of_messages([ENGLISH, GERMAN, GERMAN, GERMAN]) == "de"
    assert languages.of_messages([]) is None


def test_the_table_is_what_the_library_can_tell() -> None:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    labels = LanguageIdentifier.from_model_file(MODEL_FILE).labels
    assert {label for label in labels if len(label) == 2} == set(languages.NAMES)


@pytest.mark.parametrize(
    "text", ["a" * 1_000_000, "`" * 1_000_000, "<a" * 500_000, "a_" * 500_000, "あ" * 1_000_000]
)
def test_a_message_of_a_megabyte_costs_no_more_than_a_page(text: str) -> None:
    languages.detect(ENGLISH)  # loads the model
    began = time.process_time()
    for _ in range(10):
        languages.of_messages([text] * 10)
    assert time.process_time() - began < 1


def test_labels_of_others() -> None:
    labels = ("en", "EN", "English", "zh-CN", "zh_Hans", "wuu", "pt-br", "klingon", "", None)
    codes = ("en", "en", "en", "zh", "zh", "zh", "pt", None, None, None)
    assert tuple(map(languages.known, labels)) == codes


def test_choosing_languages() -> None:
    assert languages.chosen(["en,zh-CN", " DE ", "none"]) == ("en", "zh", "de", "none")
    for text, hint in (
        ("english", "did you mean 'en'?"),
        ("Frensh", "did you mean 'fr' (French)?"),
        ("xx", "known: af, am"),
        ("en,xx", "known: af, am"),
    ):
        with pytest.raises(UsageError) as caught:
            languages.chosen([text])
        assert hint in str(caught.value.hint)
    with pytest.raises(UsageError, match="a language code is needed"):
        languages.chosen([" , "])


def test_filtering_by_language(tmp_path: Path) -> None:
    rows = [
        row("a", ENGLISH, "Water them early, and give them some shade at noon."),
        row("b", GERMAN, "Gieße sie früh am Morgen und gib ihnen mittags Schatten."),
        row("c", "ok", "42"),
        row("d", ENGLISH, "Shade.", language="fr"),  # what a row says is believed
        row("e", "ok", "42", language="English"),
    ]
    source = write(tmp_path / "rows.jsonl", *rows)
    assert kept(source, lang=("en",)) == ["a", "e"]
    assert kept(source, lang=("de,fr",)) == ["b", "d"]
    assert kept(source, lang=("none",)) == ["c"]
    assert kept(source, lang=("any",), where=("language=de",)) == ["b"]
    summary, lines = filtered(source, lang=("any",))
    found = [json.loads(line).get("language") for line in lines]
    assert found == ["en", "de", None, "fr", "English"]
    assert summary.languages == {"en": 2, "de": 1, "(none)": 1, "fr": 1}
    # A row that already says its language passes byte for byte, also the second time.
    assert lines[3:] == [json.dumps(one).encode() + b"\n" for one in rows[3:]]
    (tmp_path / "again.jsonl").write_bytes(b"".join(lines))
    assert filtered(tmp_path / "again.jsonl", lang=("any",))[1] == lines


def test_without_the_extra(tmp_path: Path) -> None:
    code = "import sys; sys.modules['py3langid'] = None\n"
    code += "from openchat_cli.cli.main import main; sys.exit(main(sys.argv[1:]))"
    source = write(tmp_path / "rows.jsonl", row("a"))

    def run(*options: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", code, "data", "filter", str(source), "-", *options]
        return subprocess.run(command, capture_output=True, text=True, timeout=60)

    refused = run("--lang", "en")
    assert refused.returncode == 2
    assert "telling languages apart needs the 'data' extra" in refused.stderr
    assert run().stdout.count("\n") == 1  # nothing else needs it


def test_no_row_in_the_language(openchat: RunCli, tmp_path: Path) -> None:
    write(tmp_path / "rows.jsonl", row("a", ENGLISH, "Shade."), row("b", model=None))
    ended = openchat("data", "filter", "rows.jsonl", "out", "--lang", "fr", "--quiet")
    assert ended.returncode == 1
    assert "none of 2 conversations was kept; dropped by: model 1, lang 1" in ended.stderr
    assert "languages there: en (1)" in ended.stderr
    assert not list((tmp_path / "out").iterdir())


def test_real_conversations(shared_data: Path) -> None:
    for name, code, least in (("en_506", "en", 501), ("zh_300", "zh", 300)):
        text = (shared_data / "conversations" / f"sharegpt_{name}.jsonl").read_text("utf-8")
        chats = [json.loads(line)["conversations"] for line in text.splitlines()]
        found = [languages.of_messages(turn["value"] for turn in chat) for chat in chats]
        assert found.count(code) >= least
