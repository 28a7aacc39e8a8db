"""The root command as a process: help, version, misspelt commands and bad settings."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import RunCli


def test_version_is_just_the_number(openchat: RunCli) -> None:
    ended = openchat("--version")
    assert ended.returncode == 0
    assert ended.stdout.strip().replace(".", "").isdigit()


@pytest.mark.parametrize("arguments", [(), ("data",), ("eval",), ("model",)])
def test_no_arguments_show_help(openchat: RunCli, arguments: tuple[str, ...]) -> None:
    ended = openchat(*arguments)
    assert ended.returncode == 2
    assert "Usage: openchat" in ended.stdout + ended.stderr


@pytest.mark.parametrize("flag", ["-h", "--help"])
def test_help_leads_with_copyable_examples(openchat: RunCli, flag: str) -> None:
    ended = openchat(flag, env={"COLUMNS": "100"})
    assert ended.returncode == 0
    assert "openchat data clean pages/ out/ && openchat data filter" in ended.stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("dato",), "no such command 'dato'. Did you mean 'data'?"),
        (("data", "clean", "--nope"), "no such option: --nope"),
        (("data", "clean"), "missing argument"),
    ],
)
def test_usage_errors_are_one_line_and_a_hint(
    openchat: RunCli, arguments: tuple[str, ...], words: str
) -> None:
    ended = openchat(*arguments)
    assert ended.returncode == 2
    assert ended.stdout == ""
    error, hint = ended.stderr.splitlines()
    assert error.startswith("error: ")
    assert words in error
    assert hint.startswith("hint: openchat")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[data\n", "can't be read as TOML"),
        ("[dato.clean]\nworkers = 1\n", "has no command 'dato'"),
        ("[data.clean]\nworkes = 1\n", "[data.clean] has no option 'workes'"),
        ("[data.clean]\nnope = 1\n", "force, input, json"),
        ("data = 1\n", "[data] must be a table"),
    ],
)
def test_a_bad_settings_file_is_named(
    openchat: RunCli, tmp_path: Path, text: str, words: str
) -> None:
    (tmp_path / "openchat.toml").write_text(text)
    inside = tmp_path / "deep" / "er"
    inside.mkdir(parents=True)
    ended = openchat("model", "list", cwd=inside)
    assert ended.returncode == 2
    assert words in ended.stderr
    assert str(tmp_path / "openchat.toml") in ended.stderr
