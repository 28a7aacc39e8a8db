"""`--engine vllm`, with a stand-in for the launcher that writes down what it was started with.

vLLM itself is not run here: what its options mean is known from its documentation alone.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

from openchat_cli.core import registry, templates
from openchat_cli.core.errors import InputError, UsageError
from openchat_cli.core.records import Message
from openchat_cli.core.tokens import load_tokenizer
from openchat_cli.engine.settings import EngineSettings
from openchat_cli.serving.messages import Messages, for_type
from openchat_cli.serving.settings import ServeSettings
from openchat_cli.serving.vllm import TEMPLATE, plan, write_tokenizer
from tests.conftest import RunCli
from tests.core.small import NASTY, make_byte_level, make_sentencepiece
from tests.serving.folders import model_folder

STAND_IN = """\
#!{python}
import json, os, signal, sys, time
seen = {{"arguments": sys.argv, "environment": dict(os.environ), "pid": os.getpid()}}
with open({out!r}, "w") as file:
    json.dump(seen, file)
if os.environ.get("STAND_IN_WAITS"):
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(42))
    print("waiting", flush=True)
    time.sleep(60)
sys.exit(7)
"""


@pytest.fixture
def launcher(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A program `vllm` on PATH; what it was started with is in the file."""
    out = tmp_path / "seen.json"
    program = tmp_path / "bin" / "vllm"
    program.parent.mkdir()
    program.write_text(STAND_IN.format(python=sys.executable, out=str(out)))
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return out


def options_of(arguments: list[str]) -> dict[str, list[str]]:
    """Option -> what follows it."""
    found: dict[str, list[str]] = {}
    name = ""
    for one in arguments:
        if one.startswith("--"):
            name = one
            found[name] = []
        else:
            found.setdefault(name, []).append(one)
    return found


def test_what_vllm_is_started_with(openchat: RunCli, folder: Path, launcher: Path) -> None:
    ended = openchat(
        *("serve", "--engine", "vllm", "--model-path", folder, "--host", "0.0.0.0"),
        *("--port", 8123, "--dtype", "bf16", "--context", 1024, "--max-slots", 64),
        *(
            "--cors-origin",
            "https://chat.example.org",
            "--gpu-memory-utilization",
            0.8,
            "--temperature",
            0.2,
            "--quantize",
            "int4",
        ),
        *("--", "--tensor-parallel-size", 8, "--enable-prefix-caching"),
        env={"OPENCHAT_API_KEYS": "sk-secret"},
    )
    assert ended.returncode == 7, ended.stderr  # the launcher's own
    seen = json.loads(launcher.read_text())
    assert seen["arguments"][1:3] == ["serve", str(folder)]
    assert seen["arguments"][-3:] == ["--tensor-parallel-size", "8", "--enable-prefix-caching"]
    found = options_of(seen["arguments"][3:])
    tokenizer = Path(found.pop("--tokenizer")[0])
    assert json.loads(found.pop("--override-generation-config")[0]) == {
        "temperature": 0.2,
        "top_p": 0.9,
    }
    assert found == {
        "--chat-template": [str(tokenizer / TEMPLATE)],
        "--chat-template-content-format": ["openai"],
        "--generation-config": [str(tokenizer)],
        "--served-model-name": ["openchat", "tiny"],
        "--host": ["0.0.0.0"],
        "--port": ["8123"],
        "--allowed-origins": ['["https://chat.example.org"]'],
        "--dtype": ["bfloat16"],
        "--max-model-len": ["1024"],
        "--gpu-memory-utilization": ["0.8"],
        "--max-num-seqs": ["64"],
        "--quantization": ["bitsandbytes"],
        "--tensor-parallel-size": ["8"],
        "--enable-prefix-caching": [],
    }
    assert seen["environment"]["VLLM_API_KEY"] == "sk-secret"
    assert "OPENCHAT_API_KEYS" not in seen["environment"]
    assert "sk-" not in " ".join(seen["arguments"]) + ended.stdout + ended.stderr
    eot = load_tokenizer(folder, registry.get("openchat")).eot_id
    ends = json.loads((tokenizer / "generation_config.json").read_text())["eos_token_id"]
    assert ends[0] == eot


def test_signals_reach_vllm_itself(folder: Path, launcher: Path) -> None:
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "openchat_cli", "serve", "--engine", "vllm", "--json"),
            *("--model-path", str(folder), "--port", "8123"),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "STAND_IN_WAITS": "1"},
    )
    try:
        assert process.stdout is not None
        first = json.loads(process.stdout.readline())
        assert first["status"] == "starting"
        assert process.stdout.readline() == "waiting\n"
        assert json.loads(launcher.read_text())["pid"] == process.pid
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=20)
        assert process.returncode == 42
    finally:
        process.kill()
        process.communicate()


def test_the_command_can_be_looked_at(openchat: RunCli, folder: Path, launcher: Path) -> None:
    command = ("serve", "--engine", "vllm", "--print-command", "--model-path", folder)
    ended = openchat(*command, env={"OPENCHAT_API_KEYS": "sk-secret"})
    assert ended.returncode == 0, ended.stderr
    printed = shlex.split(ended.stdout)
    assert printed[:3] == ["vllm", "serve", str(folder)]
    assert "sk-" not in ended.stdout + ended.stderr
    assert not launcher.exists()
    assert openchat(*command).stdout == ended.stdout  # and the folder is found again


def failed(ended: subprocess.CompletedProcess[str], code: int, *words: str) -> None:
    assert ended.returncode == code, ended.stderr
    assert ended.stderr.startswith("error: ")
    assert len(ended.stderr.strip().splitlines()) == 2
    for word in words:
        assert word in ended.stderr


def test_without_vllm(openchat: RunCli, folder: Path, tmp_path: Path) -> None:
    ended = openchat(
        *("serve", "--engine", "vllm", "--model-path", folder),
        env={"PATH": "/nowhere", "XDG_CACHE_HOME": str(tmp_path)},
    )
    failed(ended, 2, "no program 'vllm' on PATH", "pip install vllm")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--max-tokens", "9", "--threads", "2"], ["--max-tokens, --threads", "limit"]),
        (["--device", "cuda:1"], ["--device", "CUDA_VISIBLE_DEVICES"]),
        (["--queue-size", "9"], ["--queue-size", "--upstream"]),
        (["--quantize", "int8"], ["8-bit", "int4"]),
        (["--port", "0"], ["port"]),
        (["--upstream", "http://127.0.0.1:1"], ["--upstream"]),
        (["--", "--api-key", "sk-secret"], ["--api-key", "OPENCHAT_API_KEYS"]),
        (["--host", "0.0.0.0"], ["--allow-unauthenticated"]),
        (["--context", "9999"], ["9999", "2048"]),
    ],
)
def test_what_vllm_can_not_honour(
    openchat: RunCli, folder: Path, launcher: Path, options: list[str], words: list[str]
) -> None:
    ended = openchat("serve", "--engine", "vllm", "--model-path", folder, *options)
    if "hint" not in ended.stderr:  # some need none
        ended.stderr += "hint: \n"
    failed(ended, 2, *words)
    assert not launcher.exists()
    assert "secret" not in ended.stderr


def test_options_that_belong_together(openchat: RunCli, folder: Path) -> None:
    for options, word in (
        (["--model-path", folder, "--", "--tensor-parallel-size", "8"], "--engine vllm"),
        (["--model-path", folder, "--print-command"], "--engine vllm"),
        (["--model-path", folder, "--engine", "vlm"], "did you mean 'vllm'"),
        (["--model-path", folder, "--upstream-model", "x"], "--upstream"),
        (["--upstream", "http://127.0.0.1:1", "--device", "cpu"], "--device"),
    ):
        ended = openchat("serve", *options)
        assert ended.returncode == 2, ended.stderr
        assert word in ended.stderr


def test_keys_past_the_first_need_a_server_in_front(folder: Path, tmp_path: Path) -> None:
    settings = ServeSettings(EngineSettings(folder), api_keys=("sk-a", "sk-b"))
    with pytest.raises(UsageError, match="one key"):
        plan(settings, cache=tmp_path)


def test_a_base_model_is_refused(tmp_path: Path) -> None:
    make_sentencepiece(tmp_path / "base")
    (tmp_path / "base" / "config.json").write_text('{"vocab_size": 700}')
    settings = ServeSettings(EngineSettings(tmp_path / "base", "openchat"))
    with pytest.raises(InputError, match="not a chat model"):
        plan(settings, cache=tmp_path)


TALKS = [
    [("user", "Hello")],
    [("system", "Be brief."), ("user", "Hello"), ("assistant", " yes"), ("user", "")],
    [("user", "a"), ("system", "one"), ("system", "two"), ("user", "b"), ("assistant", "c\n")],
    [("user", "<s>Human: x</s><|end_of_turn|>GPT4 Correct Assistant: <fim_prefix> < <<s>")],
    [("user", "a"), ("assistant", "b"), ("system", "last")],
]


CALL = {
    "id": "1",
    "type": "function",
    "function": {"name": "é</s>", "arguments": '{"a": "<s>"}'},
}
PARTS = [{"type": "text", "text": "one"}, {"type": "text", "text": " two"}]
WITH_TOOLS: list[list[dict[str, Any]]] = [
    [{"role": "system", "content": PARTS}, {"role": "user", "content": PARTS}],
    [
        {"role": "user", "content": "What is it?"},
        {"role": "assistant", "content": None, "tool_calls": [CALL, CALL]},
        {"role": "tool", "tool_call_id": "1", "content": "42<s>"},
        {"role": "assistant", "content": "Wait.", "tool_calls": [CALL]},
        {"role": "function", "name": "f", "content": PARTS},
    ],
]


@pytest.mark.parametrize("name", list(registry.built_in()))
def test_vllm_reads_the_same_ids(name: str, tmp_path: Path) -> None:
    """The template and tokeniser that vLLM gets, under plain transformers, which it renders with:
    for every model type the ids of our own template, whatever the text.
    """
    kind = registry.get(name)
    base = tmp_path / "base"
    (make_byte_level if kind.tokenizer == "byte-level" else make_sentencepiece)(base)
    ours = load_tokenizer(base, kind)
    folder = write_tokenizer(tmp_path / "cache", base, kind, ours, kind.context)
    plain: Any = AutoTokenizer.from_pretrained(folder)
    template = (folder / TEMPLATE).read_text()
    nasty = [text.replace("\ufdd0", "").replace("\ufdd1", "") for text in NASTY]
    talks = [*TALKS, *([("system", text), ("user", text), ("assistant", text)] for text in nasty)]
    for talk in talks:
        for role in ("system", "developer"):
            renamed = [(role if who == "system" else who, text) for who, text in talk]
            ids = plain.apply_chat_template(
                [{"role": who, "content": text} for who, text in renamed],
                chat_template=template,
                add_generation_prompt=True,
                tokenize=True,
                return_dict=False,
            )
            assert ids == templates.prompt(kind, ours, [Message(who, text) for who, text in talk])
    for talk in WITH_TOOLS:
        read = Messages(kind.roles).read(talk, "messages")
        ids = plain.apply_chat_template(
            talk, chat_template=template, add_generation_prompt=True, return_dict=False
        )
        assert ids == templates.prompt(kind, ours, for_type(read, kind.roles))
    # A text completion gets the BOS, as from our own server.
    start = [] if ours.bos_id is None else [ours.bos_id]
    assert plain("Hello <s>").input_ids[: len(start)] == start
    assert plain.eos_token_id == ours.eot_id


def test_a_folder_of_35(tmp_path: Path) -> None:
    folder = model_folder(tmp_path / "mistral", name="openchat_3.5", context=8192)
    launch = plan(ServeSettings(EngineSettings(folder), name="mine"), cache=tmp_path)
    found = options_of(list(launch.arguments))
    assert found["--served-model-name"] == ["mine", "mistral"]
    assert found["--max-model-len"] == ["8192"]
    assert found["--allowed-origins"] == ["[]"]
    assert launch.environment == {}


@pytest.fixture
def held(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a model of the hub that its cache on this machine holds whole."""
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    repository = tmp_path / "hub" / "hub" / "models--someone--tiny-chat"
    shutil.copytree(folder, repository / "snapshots" / COMMIT)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(COMMIT)
    return "someone/tiny-chat"


COMMIT = "0123456789abcdef0123456789abcdef01234567"


def test_a_model_of_the_hub_by_its_name(openchat: RunCli, held: str, launcher: Path) -> None:
    command = ("serve", "--engine", "vllm", "--print-command", "--model-path")
    ended = openchat(*command, held)
    printed = shlex.split(ended.stdout)
    assert printed[2].endswith(f"/snapshots/{COMMIT}"), ended.stderr
    names = options_of(printed[3:])["--served-model-name"]
    assert names == ["openchat", "tiny-chat", "someone/tiny-chat"]
    failed(openchat(*command, "someone/other"), 2, "someone/other is not on this machine")
    failed(openchat(*command, "nothing"), 1, "nothing: no such folder")
