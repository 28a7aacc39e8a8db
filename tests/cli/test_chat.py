"""`openchat chat` on a real terminal and on a pipe, over a server that says what a test wants."""

from __future__ import annotations

import json
import re
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from openchat_cli.cli.chat_screen import Blocks
from openchat_cli.engine.settings import EngineSettings
from openchat_cli.serving.settings import ServeSettings
from tests.cli.terminals import Typed
from tests.conftest import RunCli
from tests.serving.folders import model_folder
from tests.web.stand_in import StandIn, slowly, stand_in


@pytest.fixture
def stand() -> Iterator[StandIn]:
    with stand_in(ServeSettings(engine=EngineSettings(model_path=Path("none")))) as running:
        yield running


def chat(stand: StandIn, folder: Path, *options: object, **env: str) -> Typed:
    return Typed("chat", "--url", stand.url, *options, folder=folder, env=env)


def roles(stand: StandIn) -> list[tuple[str, str]]:
    return [(one["role"], one["content"]) for one in stand.asked[-1]["messages"]]


def test_markdown_is_drawn_and_control_characters_are_spelt_out(
    stand: StandIn, tmp_path: Path
) -> None:
    stand.script = lambda body: [
        "# Title\n\nSome **bo", "ld** and `code`.\n\n- one\n- two\n\n", "\x1b]0;evil\x07",
        "[link](https://example.org)\n\n```python\nif a < b:\n    pass\n```\n\nThe end.",
    ]  # fmt: skip
    with chat(stand, tmp_path) as typed:
        typed.prompt(1)
        assert "stand-in: /help" in typed.text
        typed.type("Hello\r")
        typed.prompt(2)
        shown = typed.text
        assert "Some bold and code." in shown
        assert "• one" in shown and "if a < b:" in shown
        assert "7 + 4 tokens" in shown
        assert "[U+001B]]0;evil[U+0007]" in shown
        assert "\x1b]" not in typed.raw
        assert shown.count("The end.") >= 1
        typed.type("\x04")
        assert typed.ended() == 0
    assert roles(stand) == [("user", "Hello")]


def test_ctrl_c_stops_an_answer_and_keeps_it(stand: StandIn, tmp_path: Path) -> None:
    stand.script = slowly("word " * 5000, size=5, seconds=0.01)
    with chat(stand, tmp_path) as typed:
        typed.prompt(1)
        typed.type("Go\r")
        typed.wait("word word")
        typed.type("\x03")
        typed.prompt(2)
        assert stand.hung_up.wait(5)
        stand.script = lambda body: ["Done."]
        typed.type("thrown away\x03")
        typed.prompt(3)
        typed.type("And now\r")
        typed.wait("Done.")
        typed.type("/quit\r")
        assert typed.ended() == 0
        assert "Traceback" not in typed.text
    asked = roles(stand)
    assert [role for role, _ in asked] == ["user", "assistant", "user"]
    assert asked[1][1].startswith("word word") and asked[2][1] == "And now"


def test_commands(stand: StandIn, tmp_path: Path, openchat: RunCli) -> None:
    with chat(stand, tmp_path, "--system", "Be kind") as typed:
        lines = [
            ("/help", "/save FILE"), ("/set temperature 0.2", "temperature 0.2"),
            ("/set top-k=5", "top_k 5"), ("/set temperature hot", "must be a number"),
            ("/set temprature 1", "did you mean 'temperature'"), ("/set top_p 7", "between 0 and"),
            ("/nonsense", "no command '/nonsense'"), ("/system Be brief", "system: Be brief"),
            ("/retry", "nothing was said yet"), ("/save", "which file"), ("Hello", "Hello there."),
            ("//slash", "Hello there."), ("/save one.jsonl", "wrote one.jsonl"),
            ("/save one.jsonl", "is there already"), ("/undo", "taken back: /slash"),
            ("/retry", "Hello there."), ("/load nowhere.jsonl", "no such file"),
            ("/load one.jsonl", "5 messages"), ("/history", "assistant: Hello there."),
            ("/set temperature default", "temperature default"), ("And on", "Hello there."),
        ]  # fmt: skip
        for number, (line, shown) in enumerate(lines, 1):
            typed.prompt(number)
            at = len(typed.text)
            typed.type(f"{line}\r")
            typed.prompt(number + 1)
            assert shown in typed.text[at:], line
        typed.type("\x04")
        assert typed.ended() == 0
    first, second, retried, last = stand.asked
    assert (first["temperature"], first["top_k"]) == (0.2, 5)
    assert first["messages"] == [
        {"role": "system", "content": "Be brief"},
        {"role": "user", "content": "Hello"},
    ]
    assert second["messages"][-1]["content"] == "/slash"
    assert retried["messages"] == first["messages"]
    assert "temperature" not in last
    assert [one["content"] for one in last["messages"]][::2] == ["Be brief", "Hello there.",
        "Hello there."]  # fmt: skip
    ended = openchat("data", "clean", tmp_path / "one.jsonl", "out", "--json")
    assert ended.returncode == 0, ended.stderr
    assert json.loads(ended.stdout)["counts"]["kept"] == 1
    (row,) = map(json.loads, (tmp_path / "out/conversations.jsonl").read_text().splitlines())
    assert [one["role"] for one in row["messages"]] == ["system"] + ["user", "assistant"] * 2
    assert row["model"] == "stand-in"


def test_messages_of_many_lines(stand: StandIn, tmp_path: Path) -> None:
    with chat(stand, tmp_path) as typed:
        typed.prompt(1)
        typed.type("one\\\rtwo\r")
        typed.prompt(2)
        assert roles(stand)[-1][1] == "one\ntwo"
        typed.type('"""first\r\r  second"""\r')
        typed.prompt(3)
        assert roles(stand)[-1][1] == "first\n\n  second"


def test_what_was_typed_is_remembered(stand: StandIn, tmp_path: Path) -> None:
    with chat(stand, tmp_path) as typed:
        typed.prompt(1)
        typed.type("Remember me\r")
        typed.prompt(2)
        typed.type("\x04")
        assert typed.ended() == 0
    file = tmp_path / "state/openchat/chat_history"
    assert "Remember me" in file.read_text()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    with chat(stand, tmp_path) as typed:
        typed.prompt(1)
        typed.type("\x1b[A\r")  # arrow up
        typed.prompt(2)
        assert roles(stand) == [("user", "Remember me")]
        typed.type("/ret\t\r")  # completed to /retry
        typed.prompt(3)
    assert len(stand.asked) == 3
    with chat(stand, tmp_path, "--no-history", XDG_STATE_HOME=str(tmp_path / "no")) as typed:
        typed.prompt(1)
        typed.type("Forget me\r")
        typed.prompt(2)
    assert not (tmp_path / "no").exists()


def test_an_error_is_told_and_the_talk_goes_on(stand: StandIn, tmp_path: Path) -> None:
    with chat(stand, tmp_path) as typed:
        typed.prompt(1)
        stand.refuse = (400, "Please reduce the length of the messages.")
        typed.type("Hello\r")
        typed.wait("Please reduce the length")
        typed.prompt(2)
        stand.refuse = None
        stand.script = lambda body: ["Half", None]
        typed.type("/retry\r")
        typed.wait("broke off before the answer ended")
        typed.prompt(3)
        stand.script = lambda body: ["Whole."]
        typed.type("/retry\r")
        typed.wait("Whole.")
        assert "Traceback" not in typed.text
    assert roles(stand) == [("user", "Hello")]


def test_an_answer_longer_than_the_screen_stands_there_once(stand: StandIn, tmp_path: Path) -> None:
    lines = [f"Paragraph number {n} of it." for n in range(60)]
    code = [f"code line {n}" for n in range(60)]
    text = "\n\n".join(lines) + "\n\n```\n" + "\n".join(code) + "\n```\n"
    stand.script = slowly(text, size=40, seconds=0.002)
    with chat(stand, tmp_path) as typed:
        typed.prompt(1)
        typed.type("Go\r")
        typed.prompt(2)
        drawn = screen(typed.raw)
    for line in [*lines, *code]:
        assert len([one for one in drawn if one.strip() == line]) == 1, line


@pytest.mark.slow
def test_a_model_in_this_process_can_be_stopped(tmp_path: Path) -> None:
    folder = model_folder(tmp_path / "tiny")
    options = ("--model-path", folder, "--max-tokens", 1900, "--temperature", 2, "--plain")
    with Typed("chat", *options, folder=tmp_path) as typed:
        typed.prompt(1)
        typed.type("Hello\r")
        typed.more(60)
        typed.type("\x03")
        typed.prompt(2)
        typed.type("/history\r")
        typed.wait("user: Hello")
        typed.wait("assistant: ")
        typed.prompt(3)  # what comes before the line editor listens again may be lost
        typed.type("\x04")
        assert typed.ended() == 0
        assert "Traceback" not in typed.text


def screen(raw: str) -> list[str]:
    """The lines that a terminal holds in the end: what the few sequences that rich uses do."""
    rows, at, column = [""], 0, 0
    for part in re.findall(r"\x1b\[[0-?]*[ -/]*[@-~]|[^\x1b]|\x1b", raw):
        if part == "\n":
            at += 1
            rows += [""] * (at + 1 - len(rows))
        elif part == "\r":
            column = 0
        elif part.endswith("A") and part[0] == "\x1b":
            at = max(0, at - int(part[2:-1] or 1))
        elif part == "\x1b[2K":
            rows[at] = ""
        elif part[0] != "\x1b":
            rows[at] = rows[at][:column].ljust(column) + part + rows[at][column + 1 :]
            column += 1
    return rows


def test_a_dumb_terminal_gets_plain_text(stand: StandIn, tmp_path: Path) -> None:
    stand.script = lambda body: ["Some **bold** \x1b[2J text."]
    with chat(stand, tmp_path, TERM="dumb") as typed:
        typed.prompt(1)
        typed.type("Hello\r")
        typed.prompt(2)
        assert "Some **bold** [U+001B][2J text." in typed.text
        assert "\x1b[2J" not in typed.raw


def test_a_pipe_gets_the_text_alone(stand: StandIn, openchat: RunCli, tmp_path: Path) -> None:
    stand.script = lambda body: ["Some **bold**\n\n", "text."]
    said = "/set seed 3\nHello\n/save talk.jsonl\n//x\n"
    ended = openchat("chat", "--url", stand.url, stdin=said)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout == "Some **bold**\n\ntext.\n" * 2
    assert stand.asked[0]["seed"] == 3
    assert (tmp_path / "talk.jsonl").is_file()
    ended = openchat("chat", "--url", stand.url, "--load", "talk.jsonl", stdin="And?\n")
    assert [text for _, text in roles(stand)] == ["Hello", "Some **bold**\n\ntext.", "And?"]
    ended = openchat("chat", "--url", stand.url, stdin="/rety\n")
    assert ended.returncode == 2
    assert "did you mean '/retry'" in ended.stderr
    stand.refuse = (400, "too long")
    ended = openchat("chat", "--url", stand.url, stdin="Hello\n")
    assert (ended.returncode, ended.stdout) == (1, "")
    assert "too long" in ended.stderr


@settings(max_examples=300, deadline=None)
@given(
    st.lists(
        st.sampled_from(["a", " b", "- c", "", "", "```", "~~~~", "> d", "1. e", "# f", "| g"])
    ),
    st.integers(1, 9),
)
def test_blocks_lose_nothing_and_never_cut_code(lines: list[str], size: int) -> None:
    text = "\n".join(lines)
    blocks, found = Blocks(), []
    for at in range(0, len(text), size):
        found += blocks.add(text[at : at + size])
    assert "".join([*found, blocks.rest]) == text
    for block in found:
        assert Blocks().add(block + "z\n") == [block] or not block.strip()
