"""OpenChat 3.5: a Mistral with a window, its turn format, served."""

from __future__ import annotations

from pathlib import Path

import openai
import torch
from transformers import MistralForCausalLM

from openchat_cli.core import registry
from openchat_cli.core.tokens import load_tokenizer
from openchat_cli.engine.settings import EngineSettings
from openchat_cli.serving.server import background
from openchat_cli.serving.settings import ServeSettings
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
