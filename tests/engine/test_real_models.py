"""Trained weights and real texts, where the folder of real data is there."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from transformers import LlamaForCausalLM

from openchat_cli.core import registry
from openchat_cli.core.tokens import ChatTokenizer, load_tokenizer
from openchat_cli.engine.detokenise import TextStream
from openchat_cli.engine.engine import Engine
from openchat_cli.engine.runner import Runner
from openchat_cli.engine.settings import SamplingParams

torch.set_num_threads(1)


def test_answers_of_trained_weights_equal_those_of_generate(shared_data: Path) -> None:
    folder = shared_data / "checkpoints" / "stories3M-hf"
    model = LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    kind = registry.get("openchat")
    tokenizer = load_tokenizer(folder, kind)
    starts = ["Once upon a time", "Lily", "The big dog", "One day, a boy named Tom", "A", "In the"]
    prompts = [[1, *tokenizer.encode(start)] for start in starts]
    runner = Runner(model, slots=4, context=512, vocab_size=model.config.vocab_size)
    params = SamplingParams(temperature=0, max_tokens=80)
    with Engine(runner, _EosEnds(tokenizer), kind, end_tokens=[2]) as engine:
        found = engine.complete(prompts, [params] * len(prompts))
    for prompt, completion in zip(prompts, found, strict=True):
        ids = torch.tensor([prompt])
        with torch.inference_mode():
            whole = model.generate(
                ids,
                attention_mask=torch.ones_like(ids),
                do_sample=False,
                max_new_tokens=80,
                eos_token_id=2,
                pad_token_id=0,
            )
        assert list(completion.token_ids) == whole[0, len(prompt) :].tolist()
        text = [token for token in completion.token_ids if token != 2]
        assert completion.text == tokenizer.decode(text)


class _EosEnds:
    """The folder's tokeniser; the weights know no end-of-turn token yet, so EOS stands in."""

    eot_id = 2

    def __init__(self, tokenizer: ChatTokenizer) -> None:
        self.bos_id = tokenizer.bos_id
        self.vocab_size = tokenizer.vocab_size
        self.encode = tokenizer.encode
        self.token_bytes = tokenizer.token_bytes


@pytest.mark.parametrize("name", ["openchat", "opencoder"])
def test_real_texts_stream_back_unchanged(shared_data: Path, name: str) -> None:
    folder = {"openchat": "llama", "opencoder": "starcoder"}[name]
    tokenizer = load_tokenizer(shared_data / "tokenizers" / folder, registry.get(name))
    drop_space = name == "openchat"
    for file in ("sharegpt_zh_300.jsonl", "sharegpt_en_506.jsonl"):
        for line in (shared_data / "conversations" / file).read_text("utf-8").splitlines()[:12]:
            row = json.loads(line)
            for turn in row.get("conversations") or row.get("items") or row["messages"]:
                text = turn.get("value") or turn.get("content") or ""
                stream = TextStream(tokenizer.token_bytes, drop_space=drop_space)
                pieces = [stream.push(token) for token in tokenizer.encode(text)]
                assert "".join(pieces) + stream.finish() == text
                assert not any("\ufffd" in piece for piece in pieces) or "\ufffd" in text
