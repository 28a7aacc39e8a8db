"""The exported folder under plain transformers: the same ids, whatever the text."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

from openchat_cli.core import templates, tokens
from openchat_cli.core.records import Message
from openchat_cli.model.prepare import prepare
from openchat_cli.model.settings import PrepareSettings
from tests.core import shared
from tests.core.small import NASTY, make_sentencepiece, nasty_texts
from tests.model.bases import make_llama


def plain_ids(tokenizer: Any, messages: list[Message], *, prompt: bool) -> list[int]:
    entries = [{"role": message.role, "content": message.content} for message in messages]
    found: list[int] = tokenizer.apply_chat_template(
        entries, tokenize=True, add_generation_prompt=prompt, return_dict=False
    )
    return found


def differing(folder: Path, conversations: list[list[Message]]) -> list[list[Message]]:
    kind = tokens.resolve_type(None, model_path=folder)
    ours = tokens.load_tokenizer(folder, kind)
    plain = AutoTokenizer.from_pretrained(folder)
    plain.model_max_length = 10**9
    return [
        messages
        for messages in conversations
        if plain_ids(plain, messages, prompt=False) != templates.render(kind, ours, messages).ids
        or plain_ids(plain, messages, prompt=True) != templates.prompt(kind, ours, messages)
    ]


def hostile_conversations(count: int) -> list[list[Message]]:
    """Random turns of all roles; without the two noncharacters that the template itself uses."""
    rng = random.Random(11)
    texts = [*NASTY, *nasty_texts(4 * count, seed=12)]
    texts = [text.replace("\ufdd0", "").replace("\ufdd1", "") for text in texts]
    roles = ["system", "user", "assistant", "user", "assistant"]
    return [
        [Message(rng.choice(roles), rng.choice(texts)) for _ in range(rng.randrange(1, 6))]
        for _ in range(count)
    ]


@pytest.mark.parametrize("name", ["prepared_llama", "prepared_starcoder"])
def test_the_chat_template_gives_our_ids(name: str, request: pytest.FixtureRequest) -> None:
    assert not differing(request.getfixturevalue(name), hostile_conversations(300))


@pytest.mark.parametrize(
    "options", [{"remove_extra_whitespaces": True}, {"add_dummy_prefix": False}]
)
def test_other_habits_of_sentencepiece(tmp_path: Path, options: dict[str, Any]) -> None:
    base = make_llama(tmp_path / "base")
    make_sentencepiece(base, **options)
    prepare(PrepareSettings(base, tmp_path / "out", "openchat"))
    assert not differing(tmp_path / "out", hostile_conversations(200))
    # The same without the model beside it: tokenizer.json alone says it all.
    with_model = tokens.load_tokenizer(tmp_path / "out", tokens.resolve_type("openchat"))
    (tmp_path / "out" / "tokenizer.model").unlink()
    without = tokens.load_tokenizer(tmp_path / "out", tokens.resolve_type("openchat"))
    assert without.hash == with_model.hash


def test_roles_of_the_users_own(llama: Path, tmp_path: Path) -> None:
    """A system role, a prefix that looks like a control token, and one that is empty."""
    file = tmp_path / "types.toml"
    file.write_text(
        '[mine]\nextends = "openchat"\n[mine.roles]\n'
        'user = "<s>\\"U\\"\\n"\nassistant = ""\nsystem = "EOT bos S "\n'
    )
    prepare(PrepareSettings(llama, tmp_path / "out", "mine", model_file=file))
    assert not differing(tmp_path / "out", hostile_conversations(150))


def test_the_two_noncharacters_are_lost_from_a_text(prepared_llama: Path) -> None:
    kind = tokens.resolve_type(None, model_path=prepared_llama)
    ours = tokens.load_tokenizer(prepared_llama, kind)
    plain = AutoTokenizer.from_pretrained(prepared_llama)
    found = plain_ids(plain, [Message("user", "a\ufdd0b\ufdd1c")], prompt=False)
    assert found == templates.render(kind, ours, [Message("user", "abc")]).ids


def test_an_unknown_role_is_refused(prepared_llama: Path) -> None:
    plain = AutoTokenizer.from_pretrained(prepared_llama)
    with pytest.raises(Exception, match="no role 'critic'"):
        plain_ids(plain, [Message("critic", "x")], prompt=False)


def test_special_tokens_of_the_exported_tokeniser(
    prepared_llama: Path, prepared_starcoder: Path
) -> None:
    llama = AutoTokenizer.from_pretrained(prepared_llama)
    assert (llama.bos_token, llama.eos_token, llama.unk_token) == (
        "<s>",
        "<|end_of_turn|>",
        "<unk>",
    )
    assert (llama.eos_token_id, len(llama), llama.model_max_length) == (700, 701, 2048)
    assert llama("a")["input_ids"][0] == 1
    assert list(llama("a")) == ["input_ids", "attention_mask"]
    starcoder = AutoTokenizer.from_pretrained(prepared_starcoder)
    assert starcoder.bos_token is None
    assert starcoder.eos_token == "<|end_of_turn|>"
    assert "<fim_prefix>" in starcoder.all_special_tokens


@shared.needs_data
@pytest.mark.slow
@pytest.mark.parametrize("name", ["llama", "starcoder"])
def test_real_conversations(name: str, tmp_path: Path) -> None:
    from openchat_cli.core import registry
    from openchat_cli.model import export

    kind = registry.get("openchat" if name == "llama" else "opencoder")
    source = shared.TOKENIZERS / name
    export.write_side_files(
        tmp_path,
        base=source,
        kind=kind,
        tokenizer=tokens.load_tokenizer(source, kind),
        configuration={"model_type": kind.architecture},
    )
    assert not differing(tmp_path, [*shared.conversations(), *hostile_conversations(400)])
