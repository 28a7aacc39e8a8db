"""The tokeniser files of an exported model: any program that renders the chat template and
tokenises the result whole gets the ids that core/templates.py gives.

Plain concatenation would not: prefix and text are tokenised apart, and a control token written in a
text would be recognised. So the template writes two noncharacters, PART between prefix and text and
BREAK after each character that can begin a control token, and tokenizer.json takes them away when
they have done their work. A text that itself holds one of the two loses it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from openchat_cli.core.bytelevel import ByteLevelEncoder, added_token
from openchat_cli.core.registry import ModelType
from openchat_cli.core.sentencepiece import SPACE, SentencePieceEncoder
from openchat_cli.core.tokenizer_json import BREAK, PART, marked_spaces
from openchat_cli.core.tokens import ChatTokenizer

Json = dict[str, Any]

# Waiting system texts go before the next user message, as templates.fold_system has it. Roles that
# a type lacks, parts of texts and calls are read as serving/messages.py reads them.
_TEMPLATE = """\
{%- set state = namespace(waiting='') -%}
{%- macro turn(role, text) -%}
    {%- if role not in roles -%}
        {{- raise_exception("this model has no role '" ~ role ~ "'") -}}
    {%- endif -%}
    {{- roles[role] -}}
    {{- part if roles[role] else '' -}}
    {{- text | replace(part, '') | replace(guard, '')BREAKS -}}
    {{- eot -}}
{%- endmacro -%}
{%- macro calls_of(message) -%}
    {%- for call in message['tool_calls'] -%}
        {%- set asked = call['function'] -%}
        {%- set given = asked['arguments'] -%}
        {{- '\\n{"name": ' ~ (asked['name'] | tojson) -}}
        {%- if given is defined -%}
            {{- ', "arguments": ' ~ ((given if given is string else given | tojson) | tojson) -}}
        {%- endif -%}
        {{- '}' -}}
    {%- endfor -%}
{%- endmacro -%}
{{- bos -}}
{%- for message in messages -%}
    {%- set role = message['role'] -%}
    {%- if role == 'developer' and role not in roles -%}
        {%- set role = 'system' -%}
    {%- elif role in ('tool', 'function') and role not in roles -%}
        {%- set role = 'tool' if 'tool' in roles else 'user' -%}
    {%- endif -%}
    {%- set content = message['content'] or '' -%}
    {%- if content is not string -%}
        {%- set content = content | map(attribute='text') | join('') -%}
    {%- endif -%}
    {%- if message['tool_calls'] -%}
        {%- set content = (content ~ calls_of(message)).lstrip('\\n') -%}
    {%- endif -%}
    {%- if role == 'system' and 'system' not in roles -%}
        {%- set state.waiting = state.waiting ~ content ~ '\\n\\n' -%}
    {%- elif role == 'user' -%}
        {{- turn('user', state.waiting ~ content) -}}
        {%- set state.waiting = '' -%}
    {%- else -%}
        {{- turn(role, content) -}}
    {%- endif -%}
{%- endfor -%}
{%- if state.waiting -%}
    {{- turn('user', state.waiting[:-2]) -}}
{%- endif -%}
{%- if add_generation_prompt -%}
    {{- roles['assistant'] -}}
{%- endif -%}
"""


def chat_template(kind: ModelType, tokenizer: ChatTokenizer) -> str:
    """The Jinja template that belongs to `tokenizer_json`."""
    first = sorted({token[0] for token in tokenizer.control})
    roles = {role: _guarded(text, first) for role, text in kind.roles.items()}
    listed = ", ".join(f"{_literal(role)}: {_literal(text)}" for role, text in roles.items())
    values = {
        "roles": f"{{{listed}}}",
        "bos": _literal(kind.bos or ""),
        "eot": _literal(kind.eot),
        "part": _literal(PART),
        "guard": _literal(BREAK),
    }
    head = "".join(f"{{%- set {name} = {value} -%}}\n" for name, value in values.items())
    breaks = "".join(f" | replace({_literal(char)}, {_literal(char)} ~ guard)" for char in first)
    return head + _TEMPLATE.replace("BREAKS", breaks)


def _guarded(text: str, first: Sequence[str]) -> str:
    return "".join(char + BREAK if char in first else char for char in text)


def _literal(text: str) -> str:
    """Text as a Jinja string; the noncharacters as escapes, so that people can see them."""
    quoted = json.dumps(text, ensure_ascii=False)
    return quoted.replace(PART, "\\ufdd0").replace(BREAK, "\\ufdd1")


def tokenizer_json(kind: ModelType, tokenizer: ChatTokenizer) -> Json:
    """The `tokenizer.json` of an exported model."""
    encoder = tokenizer.encoder
    if isinstance(encoder, SentencePieceEncoder):
        spec = _sentencepiece(encoder)
    else:
        spec = _byte_level(encoder)
    known = {token["id"] for token in spec["added_tokens"]}
    spec["added_tokens"] += [
        added_token(token, index)
        for token, index in tokenizer.control.items()
        if index not in known
    ]
    spec["added_tokens"].sort(key=lambda token: token["id"])
    if tokenizer.bos_id is not None and kind.bos is not None:
        spec["post_processor"] = _begin_with(kind.bos, tokenizer.bos_id)
    return spec


def _sentencepiece(encoder: SentencePieceEncoder) -> Json:
    pieces = encoder.pieces
    steps: list[Json] = [
        {"type": "Replace", "pattern": {"String": SPACE}, "content": " "},
        {"type": "ByteFallback"},
        {"type": "Fuse"},
    ]
    if pieces.dummy_prefix:
        steps.append({"type": "Strip", "content": " ", "start": 1, "stop": 0})
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [added_token(pieces.unknown, pieces.vocab[pieces.unknown])],
        "normalizer": marked_spaces(fold=pieces.fold_spaces, prefix=pieces.dummy_prefix),
        "pre_tokenizer": _split_at_part(),
        "post_processor": None,
        "decoder": {"type": "Sequence", "decoders": steps},
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": pieces.unknown,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": True,
            "byte_fallback": True,
            "ignore_merges": False,
            "vocab": dict(pieces.vocab),
            "merges": [list(pair) for pair in pieces.merges],
        },
    }


def _byte_level(encoder: ByteLevelEncoder) -> Json:
    spec = encoder.spec()
    unbreak = {"type": "Replace", "pattern": {"String": BREAK}, "content": ""}
    spec["normalizer"] = {"type": "Sequence", "normalizers": [unbreak, *encoder.normalizers]}
    steps = [_split_at_part(), *encoder.pre_tokenizers]
    spec["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": steps}
    return spec


def _split_at_part() -> Json:
    pattern = {"String": PART}
    return {"type": "Split", "pattern": pattern, "behavior": "Removed", "invert": False}


def _begin_with(token: str, index: int) -> Json:
    begin = {"SpecialToken": {"id": token, "type_id": 0}}
    first, second = ({"Sequence": {"id": name, "type_id": i}} for i, name in enumerate("AB"))
    return {
        "type": "TemplateProcessing",
        "single": [begin, first],
        "pair": [begin, first, second],
        "special_tokens": {token: {"id": token, "ids": [index], "tokens": [token]}},
    }


def tokenizer_config(
    kind: ModelType, tokenizer: ChatTokenizer, base: Mapping[str, Any], context: int
) -> Json:
    """The `tokenizer_config.json`: read alike by transformers 4.57 and 5.x.

    `base` is the base model's own, from which the padding token is taken over.
    """
    names = {"unk_token": _name(base.get("unk_token")), "pad_token": _name(base.get("pad_token"))}
    if isinstance(tokenizer.encoder, SentencePieceEncoder):
        names["unk_token"] = tokenizer.encoder.pieces.unknown
    names["pad_token"] = names["pad_token"] or names["unk_token"] or kind.eot
    used = {kind.bos, *names.values()}
    others = [token for token in tokenizer.control if token not in used]
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": kind.bos,
        "eos_token": kind.eot,
        **names,
        "additional_special_tokens": others,
        # Without it 4.57 gives token_type_ids, which these models' generate() refuses.
        "model_input_names": ["input_ids", "attention_mask"],
        "clean_up_tokenization_spaces": False,
        "model_max_length": context,
    }


def _name(token: Any) -> str | None:
    """A token's text: the files hold it bare or as an object."""
    text = token.get("content") if isinstance(token, dict) else token
    return text if isinstance(text, str) else None
