"""Text that comes in pieces: whole characters, no stalls, no part of a stop string."""

from __future__ import annotations

import random

import pytest

from openchat_cli.engine.detokenise import TextStream, held_back


def stream(pieces: list[bytes], **options: object) -> tuple[list[str], TextStream]:
    text = TextStream(lambda token: pieces[token], **options)  # type: ignore[arg-type]  # any option
    given = [text.push(token) for token in range(len(pieces))]
    return [*given, text.finish()], text


def test_characters_come_whole() -> None:
    given, _ = stream([bytes([byte]) for byte in "a你😀".encode()])
    assert given == ["a", "", "", "你", "", "", "", "😀", ""]


def test_stray_bytes_do_not_stall() -> None:
    given, _ = stream([b"\x80"] * 6 + [b"ok"])
    assert given[:7] == ["\ufffd"] * 6 + ["ok"]


def test_an_unfinished_character_is_replaced_at_the_end() -> None:
    given, text = stream([b"a", "你".encode()[:2]])
    assert given == ["a", "", "\ufffd"]
    assert text.text == "a\ufffd"


@pytest.mark.parametrize("drop", [True, False])
def test_only_the_first_space_is_dropped(drop: bool) -> None:
    given, text = stream([b"", b" Hello", b" you"], drop_space=drop)
    assert text.text == ("Hello you" if drop else " Hello you")
    assert given[0] == ""


def test_the_start_of_a_stop_string_is_held_back_and_let_go() -> None:
    given, _ = stream([b"so", b"\n", b"Hum", b"ble", b"\nHuman:", b" x"], stop=["\nHuman:"])
    assert given == ["so", "", "", "\nHumble", "", "", ""]


def test_text_held_back_comes_at_the_end() -> None:
    given, text = stream([b"a\nHum"], stop=["\nHuman:"])
    assert given == ["a", "\nHum"]
    assert not text.stopped


def test_the_earliest_stop_string_wins() -> None:
    given, text = stream([b"one two three"], stop=["three", "two"])
    assert (given[0], text.stopped) == ("one ", True)


def test_held_back_is_the_longest_that_could_go_on() -> None:
    assert held_back("xaab", ["aabaac"]) == 3
    assert held_back("xaabaa", ["aabaac"]) == 5
    assert held_back("x", ["aa"]) == 0
    assert held_back("", ["aa"]) == 0


def test_any_cutting_of_any_bytes_gives_the_same_text() -> None:
    rng = random.Random(0)
    for _ in range(300):
        data = "".join(rng.choice("ab é你😀#") for _ in range(20)).encode()
        noise = bytearray(data)
        for _ in range(rng.randrange(4)):
            noise.insert(rng.randrange(len(noise)), rng.randrange(128, 256))
        pieces, at = [], 0
        while at < len(noise):
            size = rng.randint(1, 5)
            pieces.append(bytes(noise[at : at + size]))
            at += size
        stop = rng.choice([[], ["ab"], ["é你", "#"]])
        given, text = stream(pieces, stop=stop)
        whole = bytes(noise).decode(errors="replace")
        cuts = [whole.find(item) for item in stop if item in whole]
        assert "".join(given) == text.text == whole[: min(cuts, default=len(whole))]
