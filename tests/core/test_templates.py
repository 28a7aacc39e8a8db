"""The format of a conversation, over a tokeniser that shows what it was given."""

from __future__ import annotations

import pytest

from openchat_cli.core import registry, templates
from openchat_cli.core.errors import InputError
from openchat_cli.core.records import Message
from openchat_cli.core.templates import fold_system

LLAMA = registry.get("openchat")
STARCODER = registry.get("opencoder")
BOS, EOT = -1, -2


class Characters:
    """One id a character, so that ids read as text."""

    eot_id = EOT

    def __init__(self, bos_id: int | None) -> None:
        self.bos_id = bos_id

    def encode(self, text: str) -> list[int]:
        return [ord(character) for character in text]


def shown(ids: list[int]) -> str:
    return "".join({BOS: "[BOS]", EOT: "[EOT]"}.get(token) or chr(token) for token in ids)


TURN = [Message("user", "Hi"), Message("assistant", "Hello!")]


def test_llama_begins_with_bos_and_ends_each_message() -> None:
    rendered = templates.render(LLAMA, Characters(BOS), TURN)
    assert shown(rendered.ids) == "[BOS]Human: Hi[EOT]Assistant: Hello![EOT]"


def test_starcoder_has_no_bos_and_no_space_after_the_role() -> None:
    rendered = templates.render(STARCODER, Characters(None), TURN)
    assert shown(rendered.ids) == "User:Hi[EOT]Assistant:Hello![EOT]"


def test_openchat_3_5_puts_a_system_text_before_all_and_names_the_data() -> None:
    kind = registry.get("openchat_3.5")
    prompt = templates.prompt(kind, Characters(BOS), [Message("system", "Be brief."), *TURN[:1]])
    assert shown(prompt) == ("[BOS]Be brief.[EOT]GPT4 Correct User:Hi[EOT]GPT4 Correct Assistant:")


def test_only_the_assistant_text_and_its_end_are_learned() -> None:
    messages = [*TURN, Message("user", "Bye"), Message("assistant", "")]
    rendered = templates.render(LLAMA, Characters(BOS), messages)
    learned = [token for token, kept in zip(rendered.ids, rendered.mask, strict=True) if kept]
    assert shown(learned) == "Hello![EOT][EOT]"


def test_a_prompt_ends_with_the_assistant_prefix() -> None:
    assert shown(templates.prompt(LLAMA, Characters(BOS), TURN[:1])) == (
        "[BOS]Human: Hi[EOT]Assistant: "
    )


def test_no_messages_leave_the_beginning() -> None:
    assert templates.render(LLAMA, Characters(BOS), []).ids == [BOS]
    assert templates.render(STARCODER, Characters(None), []) == templates.Rendered([], [])


def test_a_role_that_the_type_lacks_is_named() -> None:
    with pytest.raises(InputError, match="no role 'tool'") as caught:
        templates.render(LLAMA, Characters(BOS), [Message("tool", "x")])
    assert caught.value.hint == "it has user, assistant"


@pytest.mark.parametrize(
    ("messages", "expected"),
    [
        ([("system", "S"), ("user", "U")], [("user", "S\n\nU")]),
        ([("system", "S"), ("system", "T"), ("user", "U")], [("user", "S\n\nT\n\nU")]),
        ([("user", "U"), ("system", "S")], [("user", "U"), ("user", "S")]),
        (
            [("system", "S"), ("assistant", "A"), ("user", "U")],
            [("assistant", "A"), ("user", "S\n\nU")],
        ),
        ([("system", ""), ("user", "U")], [("user", "\n\nU")]),
        ([("system", "")], [("user", "")]),
    ],
)
def test_system_texts_go_before_the_next_user_text(
    messages: list[tuple[str, str]], expected: list[tuple[str, str]]
) -> None:
    folded = fold_system(LLAMA, [Message(*message) for message in messages])
    assert [(message.role, message.content) for message in folded] == expected


def test_the_user_message_keeps_its_weight() -> None:
    folded = fold_system(LLAMA, [Message("system", "S"), Message("user", "U", 0.5)])
    assert folded[0].weight == 0.5


def test_the_hash_is_of_the_format_alone() -> None:
    """Changing one of these makes every model and dataset that people have another format's."""
    assert {name: templates.template_hash(kind) for name, kind in registry.built_in().items()} == {
        "openchat": "7bf2a6156447b263",
        "openchat_8192": "7bf2a6156447b263",
        "opencoder": "24f595cc5be20554",
        "openchat_3.5": "d0fee2995fffd8b6",
    }
    assert templates.template_hash(STARCODER) != templates.template_hash(LLAMA)
