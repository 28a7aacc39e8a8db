"""Models by their hub name: the real client over a real socket, a stand-in behind it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx2
import pytest

from openchat_cli.model import hub as ours
from tests.cli.terminals import Typed
from tests.conftest import RunCli
from tests.model.hub_stand_in import Hub, commit, serving

CODE = """
import sys
from pathlib import Path
from openchat_cli.cli.terminal import Terminal, error_line
from openchat_cli.core.errors import OpenChatError
from openchat_cli.model import hub
try:
    print(hub.local(Path(sys.argv[1]), progress=Terminal("test").progress))
except OpenChatError as error:
    error_line(error)
    sys.exit(error.exit_code)
"""
Look = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Hub]:
    """A hub with one model of a few files, among them much that nobody needs."""
    folder = tmp_path / "served"
    (folder / "onnx").mkdir(parents=True)
    for name, text in {
        "config.json": "{}",
        "tokenizer.json": "{}",
        "README.md": "a model",
        "model.safetensors": "w" * 3_000_000,
        "pytorch_model.bin": "p" * 3_000_000,
        "training_args.bin": "t",
        "consolidated.safetensors": "w" * 3_000_000,
        "onnx/model.onnx": "o" * 1000,
        "LICENSE.txt": "free",
        "evil.py": "raise SystemExit",
    }.items():
        (folder / name).write_text(text)
    with serving(Hub({"open/chat": folder})) as running:
        yield running


@pytest.fixture
def look(hub: Hub, tmp_path: Path) -> Look:
    """Ask for a model in a process of its own: the client reads its settings as it is imported."""

    def run(name: str, **env: str) -> subprocess.CompletedProcess[str]:
        settings = hub.environment(tmp_path / "cache") | env
        return subprocess.run(
            [sys.executable, "-c", CODE, name],
            env={**os.environ, **settings},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=60,
        )

    return run


def test_a_download_is_announced_shown_and_kept(look: Look, hub: Hub) -> None:
    ended = look("open/chat")
    assert ended.returncode == 0, ended.stderr
    folder = Path(ended.stdout.strip())
    held = {path.name for path in folder.rglob("*")}
    assert held == {"config.json", "tokenizer.json", "model.safetensors", "LICENSE.txt"}
    assert (folder / "model.safetensors").stat().st_size == 3_000_000
    said = ended.stderr.splitlines()
    assert said == [
        "open/chat is not on this machine: 3.0 MB to fetch",
        "fetching open/chat: 3/3 MB",
    ]
    hub.asked.clear()
    again = look("open/chat")
    assert (again.stdout, again.stderr, hub.asked) == (ended.stdout, "", [])
    offline = look("open/chat", HF_HUB_OFFLINE="1")
    assert (offline.stdout, offline.returncode) == (ended.stdout, 0)


def test_a_revision_is_another_folder(look: Look, hub: Hub) -> None:
    main, tagged = look("open/chat"), look("open/chat@v2")
    assert tagged.returncode == 0, tagged.stderr
    assert Path(main.stdout.strip()).name == commit("open/chat", "main")
    assert Path(tagged.stdout.strip()).name == commit("open/chat", "v2")
    by_commit = look(f"open/chat@{commit('open/chat', 'v2')}")
    assert by_commit.stdout == tagged.stdout


def test_an_interrupted_download_goes_on(look: Look, hub: Hub, tmp_path: Path) -> None:
    hub.cut = "model.safetensors"
    first = look("open/chat")
    assert "Traceback" not in first.stderr
    again = look("open/chat")
    assert again.returncode == 0, again.stderr
    folder = Path(again.stdout.strip())
    assert (folder / "model.safetensors").read_text() == "w" * 3_000_000
    # What came without its weights is no model yet.
    (folder / "model.safetensors").unlink()
    hub.asked.clear()
    assert look("open/chat").returncode == 0
    assert any("model.safetensors" in line for line in hub.asked)


@pytest.mark.parametrize(
    ("name", "words", "setting"),
    [
        ("open/none", ("no such model on the hub", "hf auth login"), ""),
        ("open/chat@v9", ("open/chat@v9", "no such revision"), ""),
        ("open/chat", ("asks for consent", "hf auth login"), "gated"),
        ("open/chat", ("can't be reached", "500"), "broken"),
        ("open/chat", ("can't be reached", "--model-path"), "gone"),
        ("open/chat", ("HF_HUB_OFFLINE is set",), "offline"),
    ],
)
def test_what_goes_wrong_is_one_line(
    look: Look, hub: Hub, name: str, words: tuple[str, ...], setting: str
) -> None:
    more = {"offline": {"HF_HUB_OFFLINE": "1"}, "gone": {"HF_ENDPOINT": "http://127.0.0.1:9"}}
    hub.gated, hub.broken = setting == "gated", setting == "broken"
    ended = look(name, **more.get(setting, {}))
    assert ended.returncode == 1
    lines = [line for line in ended.stderr.splitlines() if not line.startswith(("open", "fetch"))]
    assert lines[0].startswith(f"error: {name}: ")
    assert len(lines) == 2 or (len(lines) == 1 and setting == "")
    for word in words:
        assert word in ended.stderr


@pytest.mark.parametrize(
    ("name", "yes"),
    [
        ("open/chat", True),
        ("open/chat@main", True),
        ("open/chat@refs/pr/1", True),
        ("open", False),
        ("../chat", False),
        ("a/b/c", False),
        ("/open/chat", False),
        ("open/chat@", False),
    ],
)
def test_names(name: str, yes: bool) -> None:
    assert ours.is_name(Path(name)) == yes


def test_what_is_neither_is_left_to_others(tmp_path: Path) -> None:
    assert ours.local(tmp_path) == tmp_path
    assert ours.local(Path("a/b/c")) == Path("a/b/c")


def test_what_nobody_could_serve_is_not_fetched(openchat: RunCli, hub: Hub, tmp_path: Path) -> None:
    env = hub.environment(tmp_path / "cache")
    for options, word in (((), "--model-type"), (("--model-type", "openhat"), "did you mean")):
        ended = openchat("chat", "--model-path", "open/chat", *options, stdin="Hi\n", env=env)
        assert ended.returncode == 2
        assert word in ended.stderr
        assert len(ended.stderr.splitlines()) == 2
    assert not [line for line in hub.asked if "resolve" in line]


@pytest.mark.parametrize("command", ["serve", "chat"])
def test_a_person_is_asked_before_a_download(command: str, hub: Hub, tmp_path: Path) -> None:
    env = hub.environment(tmp_path / "cache")
    options = ("--model-path", "open/chat", "--model-type", "openchat")
    with Typed(command, *options, folder=tmp_path, env=env) as typed:
        typed.wait("open/chat is not on this machine. Download it (3.0 MB)? [y/N]")
        assert not [line for line in hub.asked if "resolve" in line]
        typed.type("\r")
        assert typed.ended() == 1
        assert "error: open/chat: not downloaded" in typed.text
    assert not [line for line in hub.asked if "resolve" in line]
    with Typed(command, *options, folder=tmp_path, env=env) as typed:
        typed.wait("[y/N]")
        typed.type("y\r")
        typed.wait("fetching open/chat")
    with Typed(command, "--model-path", "open/chat", folder=tmp_path, env=env) as typed:
        assert typed.ended() == 2  # whose type nobody knows
        assert "[y/N]" not in typed.text


@pytest.mark.slow
def test_commands_take_a_name(
    openchat: RunCli, hub: Hub, llama: Path, prepared_llama: Path, tmp_path: Path
) -> None:
    hub.models = {"some/llama": llama, "open/prepared": prepared_llama}
    env = hub.environment(tmp_path / "cache")
    made = openchat(
        "model", "prepare", "some/llama", "out", "--model-type", "openchat", "--json", env=env
    )
    assert made.returncode == 0, made.stderr
    assert "some/llama is not on this machine" in made.stderr
    said = openchat(
        "chat", "--model-path", "open/prepared", "--max-tokens", 3, stdin="Hi\n", env=env
    )
    assert said.returncode == 0, said.stderr
    assert "fetching open/prepared" in said.stderr
    questions = tmp_path / "q.jsonl"
    questions.write_text(json.dumps({"question_id": 1, "category": "a", "turns": ["Hi"]}) + "\n")
    options = ("--questions", questions, "--model-path", "open/prepared@v2", "--max-tokens", 3)
    answered = openchat("eval", "answer", "run", *options, env=env)
    assert answered.returncode == 0, answered.stderr
    assert (tmp_path / "run" / "answers" / "prepared.jsonl").is_file()


@pytest.mark.slow
def test_a_served_model_answers_to_its_name_on_the_hub(
    hub: Hub, prepared_llama: Path, tmp_path: Path
) -> None:
    hub.models = {"open/prepared": prepared_llama}
    options = ("--model-path", "open/prepared@v2", "--port", "0", "--json")
    with subprocess.Popen(
        [sys.executable, "-m", "openchat_cli", "serve", *options],
        env={**os.environ, **hub.environment(tmp_path / "cache")},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        assert process.stdout is not None
        url = json.loads(process.stdout.readline())["url"]
        for name in ("openchat", "prepared", "open/prepared", "Open/Prepared"):
            asked = {"model": name, "prompt": "Hi", "max_tokens": 1}
            assert httpx2.post(f"{url}/completions", json=asked).status_code == 200, name
        asked = {"model": "other/prepared", "prompt": "Hi"}
        assert httpx2.post(f"{url}/completions", json=asked).status_code == 404
        process.terminate()
