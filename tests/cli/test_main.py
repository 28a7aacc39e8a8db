"""The root command as a process: help, version, misspelt commands and bad settings."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from openchat_cli import assets
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
        ('[data.clean]\nblocked_word = [["x"]]\n', "blocked_word: one value is expected, found a"),
        ("[data.clean]\nworkers = [1]\n", "workers: one value is expected, found a list"),
        ("[data.clean.workers]\na = 1\n", "workers: one value is expected, found a table"),
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


@pytest.mark.parametrize("text", ["workers = 'four'", "converter = 'fast'"])
def test_a_value_that_an_option_cannot_take_is_placed(
    openchat: RunCli, tmp_path: Path, text: str
) -> None:
    file = tmp_path / "openchat.toml"
    file.write_text(f"[data.clean]\n{text}\n")
    ended = openchat("data", "clean", "pages", "out", cwd=tmp_path)
    assert ended.returncode == 2
    assert ended.stderr.startswith(f"error: {file}: invalid value for '--{text.split()[0]}'")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_messages_that_find_no_room_end_nothing(tmp_path: Path) -> None:
    """`2> log` on a full disk: the work is done all the same."""
    page = Path(assets.__file__).parent / "pages" / "tent-kit.html"
    command = [sys.executable, "-m", "openchat_cli", "data", "clean", str(page), "out"]
    with Path("/dev/full").open("w") as full:
        ended = subprocess.run(command, cwd=tmp_path, stderr=full, timeout=60, check=False)
    assert ended.returncode == 0
    assert (tmp_path / "out" / "conversations.jsonl").read_text().count("\n") == 1


def base_install(*arguments: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run `openchat ARGUMENTS` where none of the extras' packages can be imported."""
    lacking = "torch transformers deepspeed uvicorn starlette html2text"
    code = (
        "import sys; sys.modules.update(dict.fromkeys(sys.argv.pop(1).split()));"
        "from openchat_cli.cli.main import run; run()"
    )
    command = [sys.executable, "-c", code, lacking, *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize(
    ("extra", "arguments"),
    [
        ("train", "train --model-path m --data-path d --save-path s"),
        ("serve", "serve --model-path m"),
        ("model", "chat --model-path m"),
        ("model", "model prepare m out --model-type openchat"),
        ("model", "model tiny out --corpus c.jsonl"),
        ("model", "eval answer out --model-path m"),
        ("model", "eval baseline out --model-path m"),
        ("html2text", "data clean pages out --converter html2text"),
        ("train,serve", "demo out"),
    ],
)
def test_a_missing_extra_names_its_pip_command_and_leaves_nothing(
    tmp_path: Path, extra: str, arguments: str
) -> None:
    for folder in ("m", "pages", "d"):
        (tmp_path / folder).mkdir()
    (tmp_path / "m" / "config.json").write_text("{}", "utf-8")
    (tmp_path / "pages" / "one.html").write_text("<html></html>", "utf-8")
    (tmp_path / "c.jsonl").write_text("", "utf-8")
    ended = base_install(*arguments.split(), cwd=tmp_path)
    assert ended.returncode == 2, ended.stderr
    assert ended.stderr.splitlines()[-1] == f"hint: pip install 'openchat-cli[{extra}]'"
    assert not (tmp_path / "out").exists()
    assert not (tmp_path / "s").exists()


def test_ctrl_c_while_the_program_loads_is_one_line() -> None:
    code = (
        "import sys, types\n"
        "def find_spec(name, *_):\n"
        "    if name == 'typer': raise KeyboardInterrupt\n"
        "sys.meta_path.insert(0, types.SimpleNamespace(find_spec=find_spec))\n"
        "import runpy; runpy.run_module('openchat_cli', run_name='__main__')\n"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (ended.returncode, ended.stdout, ended.stderr) == (130, "", "interrupted\n")
