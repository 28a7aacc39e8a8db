"""`data clean` through the command line: verdicts, bytes, bad input, interruptions."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from openchat_cli.data.clean import clean
from openchat_cli.data.settings import CleanSettings
from tests.conftest import RunCli
from tests.data import generator, roundtrip

OUTPUTS = ("clean.report.json", "conversations.jsonl", "dropped.jsonl")
NAMES = {"user": "human", "assistant": "gpt"}


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def write(folder: Path, *pages: bytes) -> Path:
    folder.mkdir(exist_ok=True)
    for number, data in enumerate(pages):
        (folder / f"{number}.html").write_bytes(data)
    return folder


def kept_and_dropped(folder: Path, *pages: bytes) -> tuple[list[dict[str, Any]], list[str]]:
    """The kept rows and the reasons of the others, of pages cleaned in process."""
    out = folder / "out"
    clean(CleanSettings(write(folder / "in", *pages), out))
    return rows(out / OUTPUTS[1]), [row["reason"] for row in rows(out / OUTPUTS[2])]


@pytest.mark.parametrize("full", [False, True], ids=["script only", "with shell"])
def test_every_verdict_is_right(openchat: RunCli, tmp_path: Path, full: bool) -> None:
    made = generator.pages(150, seed=7, full=full)
    generator.write(tmp_path / "in" / "ShareGPT", made)
    ended = openchat("data", "clean", "in", "out", "--json")
    assert ended.returncode == 0, ended.stderr

    kept = {
        row["source"].removeprefix("ShareGPT/"): row for row in rows(tmp_path / "out" / OUTPUTS[1])
    }
    dropped = {
        row["source"].removeprefix("ShareGPT/"): row for row in rows(tmp_path / "out" / OUTPUTS[2])
    }
    wrong = [
        (entry.name, entry.reason, dropped.get(entry.name))
        for entry in made
        if (entry.reason is None) != (entry.name in kept)
        or (entry.reason is not None and dropped[entry.name]["reason"] != entry.reason)
    ]
    assert wrong == []
    for entry in made:
        if entry.reason is None:
            _check_content(entry, kept[entry.name]["messages"])
        if entry.reason == "duplicate":
            assert dropped[entry.name]["kept_id"] in {row["id"] for row in kept.values()}
    _check_sums(tmp_path / "out", json.loads(ended.stdout), made)


def _check_content(entry: generator.Page, messages: list[dict[str, str]]) -> None:
    assert [NAMES[message["role"]] for message in messages] == [role for role, _ in entry.messages]
    for message, (role, text) in zip(messages, entry.messages, strict=True):
        if role == "human":
            assert message["content"] == text
        else:
            assert roundtrip.looks_the_same(message["content"], text), entry.name


def _check_sums(out: Path, summary: dict[str, Any], made: list[generator.Page]) -> None:
    reasons = Counter(entry.reason for entry in made)
    kept = reasons.pop(None)
    report = json.loads((out / OUTPUTS[0]).read_text("utf-8"))
    assert report["read"] == report["kept"] + report["dropped"] == len(made)
    assert report["kept"] == kept == summary["counts"]["kept"]
    assert report["reasons"] == reasons == summary["counts"]["reasons"]
    assert sum(report["models"].values()) + report["models_missing"] == kept


# --- the rules, one by one ---

HI = [("human", "hi"), ("gpt", "hello")]


def test_a_leading_answer_and_a_trailing_question_go(tmp_path: Path) -> None:
    page = generator.page([("gpt", "before"), *HI, ("human", "more?")])
    kept, dropped = kept_and_dropped(tmp_path, page)
    assert dropped == []
    assert kept[0]["messages"] == [
        {"role": "user", "content": "hi"},
        {"role": "assistant", "content": "hello"},
    ]
    assert (kept[0]["id"], kept[0]["model"], kept[0]["source"]) == ("abc", "Model: GPT-4", "0.html")


def test_duplicates_are_told_by_roles_and_texts(tmp_path: Path) -> None:
    other = generator.page([("human", "h"), ("gpt", "ihello")], name="other")
    pages = generator.page(HI, name="first"), generator.page(HI, name="second"), other
    kept, dropped = kept_and_dropped(tmp_path, *pages)
    assert [row["id"] for row in kept] == ["first", "other"]
    assert dropped == ["duplicate"]
    row = rows(tmp_path / "out" / OUTPUTS[2])[0]
    assert (row["id"], row["kept_id"], row["source"]) == ("second", "first", "1.html")


def test_without_an_id_the_content_names_the_row(tmp_path: Path) -> None:
    kept, _ = kept_and_dropped(tmp_path, generator.page(HI, name=None))
    assert len(kept[0]["id"]) == 32


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2 / 2\nWhat now?", "What now?"),
        ("2 / 2What now?", "What now?"),
        ("6 / 6你是老師", "你是老師"),
        ("1 / 2 cup of flour", "1 / 2 cup of flour"),
        ("1 / 2cups of flour", "1 / 2cups of flour"),
        ("3 / 2\nimproper", "3 / 2\nimproper"),
        ("1 / 2x + 3 = 7", "1 / 2x + 3 = 7"),
        ("do itCopy123 chars / 45 words", "do it"),
        ("do it\nShare Prompt", "do it"),
        ("do itShare PromptCopy1 chars / 1 words", "do it"),
        ("press Share Prompt", "press Share Prompt"),
        ("  a_b <c> \\d\n\n\n  e  ", "  a_b <c> \\d\n\n\n  e  "),
        ("&lt;b&gt;", "&lt;b&gt;"),
        ("half \ud83d and whole \ud83d\ude00", "half \ufffd and whole 😀"),
    ],
)
def test_human_text_is_verbatim_but_for_noise(tmp_path: Path, text: str, expected: str) -> None:
    value = {"from": "human", "value": text}
    answer = {"from": "gpt", "value": "<p>ok</p>"}
    content = {"items": [value, answer]}
    data = json.dumps({"props": {"pageProps": {"content": content}}})
    script = f'<script id="__NEXT_DATA__" type="application/json">{data}</script>'
    kept, dropped = kept_and_dropped(tmp_path, script.encode("utf-8", "surrogatepass"))
    assert dropped == []
    assert kept[0]["messages"][0]["content"] == expected


def test_half_a_surrogate_pair_is_mended_wherever_it_stands(tmp_path: Path) -> None:
    hi = [{"from": "human", "value": "hi"}, {"from": "gpt", "value": "<p>ok</p>"}]
    good = {"id": "a\ud800", "content": {"model": "GPT\udc00-4", "items": hi}}
    alien = [{"from": "alien\ud83d", "value": "hi"}, hi[1]]
    odd = {"id": "b\udfff", "content": {"items": alien}}
    pages = [
        f'<script id="__NEXT_DATA__">{json.dumps({"props": {"pageProps": one}})}</script>'.encode()
        for one in (good, odd)
    ]
    (kept,), _ = kept_and_dropped(tmp_path, *pages)
    (dropped,) = rows(tmp_path / "out" / "dropped.jsonl")
    assert (kept["id"], kept["model"]) == ("a\ufffd", "GPT\ufffd-4")
    assert dropped["id"] == "b\ufffd"
    assert "'alien\ufffd'" in dropped["detail"]


def test_a_pager_beside_an_answer_goes_and_one_in_it_stays(tmp_path: Path) -> None:
    answers = ("<div>2 / 2</div><div><p>yes</p></div>", "<p>1 / 2</p><p>is a half</p>")
    pages = [
        generator.page([("human", "hi"), ("gpt", html)], answers_as_html=False) for html in answers
    ]
    kept, _ = kept_and_dropped(tmp_path, *pages)
    assert [row["messages"][1]["content"] for row in kept] == ["yes", "1 / 2\n\nis a half"]


@pytest.mark.parametrize(
    ("answer", "blocked"),
    [
        ("<p>Made by OpenAI.</p>", True),
        ("<p>Made by Open<b>AI</b>.</p>", True),
        ("<pre><code>import openai\n</code></pre>", True),
        ('<p><a href="https://openai.com/">here</a></p>', False),
        ("<p>an open AI</p>", False),
    ],
)
def test_blocked_words_are_looked_for_in_the_text(
    tmp_path: Path, answer: str, blocked: bool
) -> None:
    page = generator.page([("human", "hi"), ("gpt", answer)], answers_as_html=False)
    good = generator.page(HI)
    _, dropped = kept_and_dropped(tmp_path, page, good)
    assert dropped == (["blocked_word"] if blocked else [])


def test_blocked_words_in_a_system_message(tmp_path: Path) -> None:
    page = generator.page([("system", "You are a model by OpenAI"), *HI])
    _, dropped = kept_and_dropped(tmp_path, page, generator.page(HI))
    assert dropped == ["blocked_word"]


def test_blocked_words_of_the_user(openchat: RunCli, tmp_path: Path) -> None:
    write(
        tmp_path / "in",
        generator.page([("human", "openai?"), ("gpt", "Zebra")], name="z"),
        generator.page(HI),
    )
    (tmp_path / "words.txt").write_text("zebra\n\n", "utf-8")
    (tmp_path / "none.txt").write_text("", "utf-8")
    openchat("data", "clean", "in", "one", "--blocked-words", "words.txt")
    openchat("data", "clean", "in", "two", "--blocked-words", "none.txt")
    openchat("data", "clean", "in", "three", "--blocked-word", "hello")
    names = [
        [row["id"] for row in rows(tmp_path / out / OUTPUTS[1])] for out in ("one", "two", "three")
    ]
    assert names == [["abc"], ["z", "abc"], ["z"]]
    ended = openchat("data", "clean", "in", "four", "--blocked-words", "absent.txt")
    assert (ended.returncode, ended.stderr.count("\n")) == (1, 1)


def test_a_model_label_that_is_the_first_message(tmp_path: Path) -> None:
    pages = (
        generator.page(HI, model="hi"),
        generator.page([("human", "x"), ("gpt", "y")], model="A long\nfirst message"),
    )
    kept, _ = kept_and_dropped(tmp_path, *pages)
    assert [row["model"] for row in kept] == [None, None]
    report = json.loads((tmp_path / "out" / OUTPUTS[0]).read_text("utf-8"))
    assert report["models_not_credible"] == 2


# --- pages that are not what they should be ---


def test_the_script_is_found_wherever_and_however_it_stands(tmp_path: Path) -> None:
    inner = generator.page(HI)
    start = inner.index(b'{"props"')
    data = inner[start : inner.index(b"</script>")]
    shapes = (
        b"<script id=__NEXT_DATA__ type=application/json>%s</script>",
        b"<html><script type='application/json' crossorigin id='__NEXT_DATA__'>%s</script>",
        b"<p>__NEXT_DATA__</p><script>var a='id=\"__NEXT_DATA__\"'</script>"
        b'<body>\n<script id = "__NEXT_DATA__">%s</script >',
        b'<SCRIPT ID="__NEXT_DATA__">%s</SCRIPT>',
        b'<!-- <script id="__NEXT_DATA__">{}</script> --><script id="__NEXT_DATA__">%s</script>',
        b"<script id='__NEXT_DATA__' data-a='b > c'>%s</script>",
        b"<script data-a='<b>' id='&#95;_NEXT_DATA__'>%s</script>",
        b'<title><script id="__NEXT_DATA__">{}</script></title>'
        b"<script id=__NEXT_DATA__>%s</script>",
        b'<textarea><script id="__NEXT_DATA__">{}</script></TEXTAREA><script id=__NEXT_DATA__>%s'
        b"</script>",
        b"<textarea>%%s<script id='__NEXT_DATA__'>{}</script></textarea>"
        b'<script id="__NEXT_DATA__">%s</script>',
        b"<script>var a = '<!--'</script><script id=\"__NEXT_DATA__\">%s</script>",
    )
    utf16 = (shapes[0] % data).decode().encode("utf-16")
    kept, dropped = kept_and_dropped(tmp_path, *(shape % data for shape in shapes), utf16)
    assert len(kept) == 1
    assert dropped == ["duplicate"] * len(shapes)


def test_cut_off_inside_a_character(tmp_path: Path) -> None:
    page = generator.page([("human", "é" * 50), ("gpt", "x")])
    cut = page[: page.index("éé".encode()) + 3]
    _, dropped = kept_and_dropped(tmp_path, cut, generator.page(HI))
    assert dropped == ["bad_json"]


def test_one_page_of_ten_megabytes(tmp_path: Path) -> None:
    long = generator.page([("human", "x" * 5_000_000), ("gpt", "word " * 1_000_000)])
    kept, _ = kept_and_dropped(tmp_path, long)
    assert len(kept[0]["messages"][0]["content"]) == 5_000_000


@pytest.mark.parametrize(
    "unit",
    [b"<script id=__NEXT_DATA_ ", b"<script __NEXT_DATA__ ", b"<!-- <script id=__NEXT_DATA__>"],
)
def test_a_page_of_unended_tags_is_no_work(tmp_path: Path, unit: bytes) -> None:
    _, dropped = kept_and_dropped(tmp_path, unit * (5_000_000 // len(unit)), generator.page(HI))
    assert dropped == ["no_data"]


def test_deep_json_and_huge_numbers_are_drops(tmp_path: Path) -> None:
    deep = generator.wrapped({}).replace(b"{}", b"[" * 200_000)
    huge = generator.wrapped({}).replace(b"{}", b"9" * 10_000)
    _, dropped = kept_and_dropped(tmp_path, deep, huge, generator.page(HI))
    assert dropped == ["bad_json", "bad_json"]


def test_an_unreadable_page_is_a_drop(tmp_path: Path) -> None:
    folder = write(tmp_path / "in", generator.page(HI))
    (folder / "gone.html").symlink_to("nowhere")
    (folder / "torn.html.gz").write_bytes(generator.packed(generator.page(HI))[:-9])
    clean(CleanSettings(folder, tmp_path / "out"))
    found = {row["source"]: row["reason"] for row in rows(tmp_path / "out" / OUTPUTS[2])}
    assert found == {"gone.html": "unreadable", "torn.html.gz": "unreadable"}


# --- the command ---


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda folder: None, "in: no such file or folder"),
        (lambda folder: folder.mkdir(), "in: holds no pages and no dumps"),
        (lambda folder: write(folder, b"").joinpath("0.html").rename(folder / "a.txt"), "holds no"),
        (lambda folder: write(folder, b"<p>"), "none of 1 conversations was kept"),
        (lambda folder: folder.write_bytes(b"\x89PNG\0\0"), "in: holds binary data"),
    ],
    ids=["missing", "empty", "other files", "nothing kept", "not text"],
)
def test_input_that_gives_nothing(openchat: RunCli, tmp_path: Path, make: Any, says: str) -> None:
    make(tmp_path / "in")
    ended = openchat("data", "clean", "in", "out", "--quiet")
    assert ended.returncode == 1
    assert ended.stderr.startswith("error: ") and says in ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_an_unreadable_folder(openchat: RunCli, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir(mode=0)
    ended = openchat("data", "clean", "in", "out")
    assert (ended.returncode, "can't be read" in ended.stderr) == (1, True)


def test_strict_force_and_what_is_in_the_way(openchat: RunCli, tmp_path: Path) -> None:
    write(tmp_path / "in", generator.page(HI), b"nothing")
    assert openchat("data", "clean", "in", "out", "--strict").returncode == 3
    assert (tmp_path / "out" / OUTPUTS[1]).is_file()
    assert openchat("data", "clean", "in", "out").returncode == 2
    assert openchat("data", "clean", "in", "out", "--force").returncode == 0
    (tmp_path / "file").write_text("x", "utf-8")
    assert openchat("data", "clean", "in", "file").returncode == 2
    assert openchat("data", "clean", "in", "other", "--workers", "0").returncode == 2
    assert openchat("data", "clean", "in", "other", "--converter", "best").returncode == 2


def test_rows_on_stdout_and_from_stdin(openchat: RunCli, tmp_path: Path) -> None:
    write(tmp_path / "in", generator.page(HI))
    ended = openchat("data", "clean", "in", "-")
    row = json.loads(ended.stdout)
    assert (row["kind"], row["version"]) == ("conversation", 1)
    again = openchat("data", "clean", "-", "out", stdin=ended.stdout)
    assert again.returncode == 0, again.stderr
    (found,) = rows(tmp_path / "out" / OUTPUTS[1])
    assert found["messages"] == row["messages"]


def test_html2text_as_the_other_converter(openchat: RunCli, tmp_path: Path) -> None:
    pytest.importorskip("html2text")
    markdown = "Text with **bold**:\n\n```python\na_b = 1\n\n  x\n```\n\n- one"
    write(tmp_path / "in", generator.page([("human", "hi"), ("gpt", markdown)]))
    ended = openchat("data", "clean", "in", "out", "--converter", "html2text")
    assert ended.returncode == 0, ended.stderr
    answer = rows(tmp_path / "out" / OUTPUTS[1])[0]["messages"][1]["content"]
    assert "**bold**" in answer and "```python\na_b = 1\n\n  x\n```" in answer


@pytest.mark.slow
def test_memory_stays_flat(tmp_path: Path) -> None:
    """Five times the pages: the same memory, but for a digest and an id for each."""
    peaks: list[int] = []
    page = generator.page([("human", "NUMBER"), ("gpt", "word *and* `code` " * 100)])
    for count in (2000, 10_000):
        folder = tmp_path / f"in{count}"
        folder.mkdir()
        for number in range(count):
            (folder / f"{number}.html").write_bytes(page.replace(b"NUMBER", str(number).encode()))
        code = (
            "import resource, sys; from openchat_cli.cli.main import main;"
            "code = main(sys.argv[1:]);"
            "print(code, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss,"
            " resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
        )
        command = [
            sys.executable,
            "-c",
            code,
            "data",
            "clean",
            str(folder),
            str(tmp_path / f"o{count}"),
        ]
        ended = subprocess.run(
            [*command, "--workers", "2", "--quiet"], capture_output=True, text=True, check=True
        )
        status, own, child = map(int, ended.stdout.split())
        assert status == 0
        peaks.append(max(own, child))
    assert peaks[1] < peaks[0] + 16_000  # KiB
