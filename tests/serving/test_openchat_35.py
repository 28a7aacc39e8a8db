"""OpenChat 3.5: a Mistral with a window, its turn format, served."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, cast

import openai
import pytest
import torch
from sentencepiece import SentencePieceProcessor
from transformers import AutoTokenizer, MistralConfig, MistralForCausalLM

from openchat_cli.core import registry
from openchat_cli.core.tokens import load_tokenizer
from openchat_cli.engine.settings import EngineSettings
from openchat_cli.serving.server import background
from openchat_cli.serving.settings import ServeSettings
from tests.conftest import RunCli
from tests.core.small import make_sentencepiece
from tests.serving.folders import model_folder


def test_a_mistral_answers_in_its_own_format(tmp_path: Path) -> None:
    folder = model_folder(tmp_path / "model", name="openchat_3.5", context=8192)
    tokenizer = load_tokenizer(folder, registry.get("openchat_3.5"))
    ids = [1, *tokenizer.encode("Be brief."), tokenizer.eot_id]
    ids += [*tokenizer.encode("GPT4 Correct User:"), *tokenizer.encode("Hello"), tokenizer.eot_id]
    ids += tokenizer.encode("GPT4 Correct Assistant:")
    model = MistralForCausalLM.from_pretrained(folder).eval()
    assert model.config.sliding_window == 4096
    prompt = len(ids)
    with torch.inference_mode():
        for _ in range(6):
            best = int(model(input_ids=torch.tensor([ids])).logits[0, -1].argmax())
            ids.append(best)
            if best == tokenizer.eot_id:
                break
    settings = ServeSettings(engine=EngineSettings(model_path=folder, max_slots=2), port=0)
    with background(settings) as ready, openai.OpenAI(base_url=ready.url, api_key="x") as client:
        made = client.chat.completions.create(
            model="openchat_3.5",
            messages=[
                {"role": "system", "content": "Be brief."},
                {"role": "user", "content": "Hello"},
            ],
            max_tokens=6,
            temperature=0,
        )
    assert made.usage is not None
    assert made.usage.prompt_tokens == prompt
    assert made.choices[0].message.content == tokenizer.decode(ids[prompt:])


OPENCHAT = [sys.executable, "-m", "openchat_cli"]
OPTIONS = ["--port", "0", "--json", "--quiet", "--context", "4096"]


def mistral_base(folder: Path, *, tokenizer: Path | None = None) -> Path:
    """A random Mistral as a base model: a SentencePiece tokeniser without the end-of-turn token."""
    if tokenizer is None:
        make_sentencepiece(folder)
    else:
        folder.mkdir()
        shutil.copyfile(tokenizer, folder / "tokenizer.model")
    size = 700 if tokenizer is None else 32_000
    torch.manual_seed(2)
    config = MistralConfig(
        vocab_size=size,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=32_768,
        initializer_range=0.2,
        bos_token_id=1,
        eos_token_id=2,
    )
    MistralForCausalLM(config).bfloat16().save_pretrained(folder)
    return folder


WANTED = (
    "<s>GPT4 Correct User: Hello<|end_of_turn|>GPT4 Correct Assistant: Hi<|end_of_turn|>"
    "GPT4 Correct User: How are you today?<|end_of_turn|>GPT4 Correct Assistant:"
)
SAID = [("user", "Hello"), ("assistant", "Hi"), ("user", "How are you today?")]


@pytest.mark.slow
@pytest.mark.parametrize("real", [False, True])
def test_prepared_and_served_by_the_command_line(
    openchat: RunCli, tmp_path: Path, real: bool, request: pytest.FixtureRequest
) -> None:
    tokenizer = None
    if real:
        shared = request.getfixturevalue("shared_data")
        tokenizer = shared / "tokenizers" / "llama" / "tokenizer.model"
    base = mistral_base(tmp_path / "base", tokenizer=tokenizer)
    made = openchat("model", "prepare", base, "out", "--model-type", "openchat_3.5", "--json")
    assert made.returncode == 0, made.stderr
    out = tmp_path / "out"
    rows = [{"role": role, "content": text} for role, text in SAID]
    # As any other program renders and tokenises it.
    theirs: Any = AutoTokenizer.from_pretrained(out)
    ids = theirs.apply_chat_template(rows, add_generation_prompt=True, return_dict=False)
    # SentencePiece puts a space before every text, so one comes back after each control token.
    assert re.sub(r"(<s>|<\|end_of_turn\|>) ", r"\1", theirs.decode(ids)) == WANTED
    # As the releases' own code did: the text tokenised whole, end of turn as its token.
    parts = [one.strip("<s>") for one in WANTED.split("<|end_of_turn|>")]
    eot = theirs.convert_tokens_to_ids("<|end_of_turn|>")
    pieces = SentencePieceProcessor(model_file=str(base / "tokenizer.model"))
    whole = [1]
    for part in parts[:-1]:
        whole += [*pieces.encode(part), eot]
    assert ids == [*whole, *pieces.encode(parts[-1])]
    process = subprocess.Popen(
        [*OPENCHAT, "serve", "--model-path", str(out), *OPTIONS],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        ready = json.loads(process.stdout.readline())
        assert (ready["model_type"], ready["context"]) == ("openchat_3.5", 4096)
        with openai.OpenAI(base_url=ready["url"], api_key="x") as client:
            chat = client.chat.completions.create(
                model="openchat-3.5-0106",  # an alias
                messages=cast(Any, rows),
                max_tokens=8,
                temperature=0,
            )
            plain = client.completions.create(
                model="openchat_3.5", prompt=ids, max_tokens=8, temperature=0
            )
    finally:
        process.terminate()
        process.communicate(timeout=30)
    assert chat.usage is not None and plain.usage is not None
    assert chat.usage.prompt_tokens == len(ids) == plain.usage.prompt_tokens
    assert chat.choices[0].message.content == plain.choices[0].text.removeprefix(" ")
