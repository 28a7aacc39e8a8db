"""`openchat serve --engine vllm`: the command line of the user's own `vllm serve`.

vLLM pins its own torch and transformers, so it lives in an environment of its own and is started as
a program. It gets a folder with our tokeniser, our chat template and the end-of-turn token, written
beside the weights' own: with them it reads every conversation as the same ids as our own engine
does, and a control token written in a message stays text. Its options are those of vLLM 0.10 to
0.30.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from openchat_cli.core import jsonl, registry
from openchat_cli.core.errors import InputError, UsageError
from openchat_cli.core.manifest import read_manifest, resolve_type
from openchat_cli.core.progress import SILENT, Progress
from openchat_cli.core.registry import ModelType
from openchat_cli.core.tokens import ChatTokenizer, load_tokenizer
from openchat_cli.engine.settings import EngineSettings
from openchat_cli.model import chat, hub
from openchat_cli.serving.settings import ServeSettings

KEY_VARIABLE = "VLLM_API_KEY"
TEMPLATE = "chat_template.jinja"

_DTYPES = {"auto": "auto", "fp32": "float32", "bf16": "bfloat16"}
_POSITIONS = ("max_position_embeddings", "n_positions")
# The options of `openchat serve` that mean the same to vLLM. Any other that is set is refused: it
# would be silently without effect.
_HONOURED = {
    *("model_path", "model_type", "model_file", "host", "port", "name", "dtype", "quantize"),
    *("context", "max_slots", "max_concurrency", "gpu_memory_utilization"),
    *("temperature", "top_p", "api_key_file", "allow_unauthenticated", "cors_origin"),
    *("json_", "quiet"),
    *("engine", "print_command", "extra"),
}
_INSTEAD = {
    "max_tokens": "vLLM would take it as a limit for all requests, not as a default",
    "device": "CUDA_VISIBLE_DEVICES says which GPUs",
    "threads": "OMP_NUM_THREADS says how many",
    "trust_remote_code": "for vLLM it goes after --: -- --trust-remote-code",
    "queue_size": "vLLM's queue has no limit; --upstream in front of it has one",
}


@dataclass(frozen=True)
class Launch:
    """What to execute. The key goes by environment, since everybody may read an argument."""

    arguments: tuple[str, ...]
    environment: Mapping[str, str] = field(repr=False)  # what is added to our own
    folder: Path  # tokeniser, template, generation_config


def plan(
    settings: ServeSettings,
    *,
    given: Collection[str] = (),
    extra: Sequence[str] = (),
    cache: Path,
    fetch: bool = True,
    progress: Progress = SILENT,
) -> Launch:
    """The command line for `settings`; writes tokeniser and template into a folder under `cache`.

    `given` are the options that the user set, `extra` goes to vLLM as it is and comes last, where
    it wins. A model of the hub is brought here first, if `fetch`. Raises UsageError for what vLLM
    can't honour, InputError for a folder that does not fit its type.
    """
    check(settings, given, extra)
    engine = settings.engine
    path = _folder(engine, fetch=fetch, progress=progress)
    kind = resolve_type(engine.model_type, model_path=path, model_file=engine.model_file)
    tokenizer = load_tokenizer(path, kind)
    _check_chat_model(path, kind, tokenizer)
    context = _context(settings, path, kind)
    folder = write_tokenizer(cache, path, kind, tokenizer, context)
    arguments = [
        *("serve", str(path)),
        *("--tokenizer", str(folder)),
        *("--chat-template", str(folder / TEMPLATE)),
        # Parts of a text come to our template as they are: vLLM would put line breaks between.
        *("--chat-template-content-format", "openai"),
        *("--generation-config", str(folder)),
        *("--override-generation-config", _defaults(settings)),
        *("--served-model-name", *_names(settings, kind)),
        *("--host", settings.host, "--port", str(settings.port)),
        *("--allowed-origins", json.dumps(settings.cors_origins)),  # vLLM's default is all
        *("--dtype", _DTYPES[engine.dtype]),
        *("--max-model-len", str(context)),
        *("--gpu-memory-utilization", f"{engine.gpu_memory_utilization:g}"),
    ]
    together = engine.max_concurrency or engine.max_slots
    if together is not None:
        arguments += ["--max-num-seqs", str(together)]
    if engine.quantize == "int4":
        arguments += ["--quantization", "bitsandbytes"]
    keys = settings.api_keys
    return Launch((*arguments, *extra), {KEY_VARIABLE: keys[0]} if keys else {}, folder)


def _folder(engine: EngineSettings, *, fetch: bool, progress: Progress) -> Path:
    """The model's folder, from the hub where it is no folder here."""
    path = engine.model_path
    if engine.model_type is not None:
        registry.get(engine.model_type, engine.model_file)  # refused before a long download
    found = hub.find(path)
    if found is None and hub.is_name(path):
        if not fetch:
            hint = "fetch it first: hf download, or the same without --print-command"
            raise UsageError(f"{path} is not on this machine", hint)
        found = hub.local(path, typed=engine.model_type is not None, progress=progress)
    if found is None or not found.is_dir():
        hint = "a folder that `openchat model prepare` or `openchat train` made, or a hub name"
        raise InputError(f"{path}: no such folder", hint)
    return found


def check(settings: ServeSettings, given: Collection[str], extra: Sequence[str]) -> None:
    """UsageError for what vLLM can't honour."""
    lost = [name for name in given if name not in _HONOURED]
    if lost:
        listed = ", ".join(sorted(f"--{name.rstrip('_').replace('_', '-')}" for name in lost))
        reasons = [_INSTEAD[name] for name in sorted(lost) if name in _INSTEAD]
        hint = "; ".join(reasons) or "leave them out; vLLM's own options go after --"
        raise UsageError(f"--engine vllm can't honour {listed}", hint)
    if settings.port == 0:
        raise UsageError("--engine vllm needs a port: vLLM does not tell which one it takes")
    if settings.engine.quantize == "int8":
        raise UsageError(
            "--engine vllm has no 8-bit integers for weights that are not quantised yet",
            "int4 goes through bitsandbytes; or 8-bit floats: -- --quantization fp8",
        )
    if len(settings.api_keys) > 1:
        raise UsageError(
            f"vLLM takes one key from its environment, not {len(settings.api_keys)}",
            "give one, and the others to a server in front: openchat serve --upstream URL",
        )
    if any(part == "--api-key" or part.startswith("--api-key=") for part in extra):
        hint = "set OPENCHAT_API_KEYS, or --api-key-file"
        raise UsageError("--api-key would show the key to everybody on this machine", hint)


def _check_chat_model(path: Path, kind: ModelType, tokenizer: ChatTokenizer) -> None:
    size = _config(path).get("vocab_size")
    if not isinstance(size, int):
        raise InputError(f"{path / 'config.json'}: no vocab_size in it")
    if tokenizer.eot_id >= size:
        raise InputError(
            f"{path}: not a chat model yet: of its {size} tokens none is {kind.eot}",
            f"openchat model prepare {path} OUT --model-type {kind.name}",
        )


def _context(settings: ServeSettings, path: Path, kind: ModelType) -> int:
    manifest = read_manifest(path)
    config = _config(path)
    most = kind.context if manifest is None else manifest.context
    most = min([most, *(config[name] for name in _POSITIONS if isinstance(config.get(name), int))])
    asked = settings.engine.context
    if asked is not None and asked > most:
        raise UsageError(f"a context of {asked} was asked for, the model has {most}")
    return asked or most


def _config(path: Path) -> dict[str, Any]:
    file = path / "config.json"
    if not file.is_file():
        raise InputError(f"{path}: no config.json there", "a model folder has one")
    value = jsonl.read_json(file)
    return value if isinstance(value, dict) else {}


def _defaults(settings: ServeSettings) -> str:
    return json.dumps({"temperature": settings.temperature, "top_p": settings.top_p})


def _names(settings: ServeSettings, kind: ModelType) -> list[str]:
    """As our own server has it: the name, else the type's and its aliases; the folder's always."""
    names = [settings.name] if settings.name else [kind.name, *kind.aliases]
    path = settings.engine.model_path
    named = [path.resolve().name] if path.exists() else []
    if hub.is_name(path):
        named += [hub.short_name(path), hub.long_name(path)]
    return list(dict.fromkeys([*names, *named]))


def write_tokenizer(
    cache: Path, path: Path, kind: ModelType, tokenizer: ChatTokenizer, context: int
) -> Path:
    """The folder with tokeniser, template and end tokens, named after what is in it."""
    given = _optional(path / "tokenizer_config.json")
    ends = _end_tokens(path, tokenizer)
    files = {
        "tokenizer.json": jsonl.dumps(chat.tokenizer_json(kind, tokenizer)),
        "tokenizer_config.json": jsonl.dumps(
            chat.tokenizer_config(kind, tokenizer, given, context)
        ),
        "generation_config.json": jsonl.dumps({"eos_token_id": ends}),
        TEMPLATE: chat.chat_template(kind, tokenizer),
    }
    digest = hashlib.sha256(jsonl.dumps(files).encode()).hexdigest()[:16]
    folder = cache / f"{kind.name}-{digest}"
    jsonl.make_folder(folder)
    for name, text in files.items():
        file = folder / name
        if not file.is_file() or file.read_text("utf-8") != text:
            jsonl.write_text(file, text)
    return folder


def _end_tokens(path: Path, tokenizer: ChatTokenizer) -> list[int]:
    """The end-of-turn token, and what the model's own generation_config calls an end."""
    found = _optional(path / "generation_config.json").get("eos_token_id")
    listed = found if isinstance(found, list) else [found]
    others = [token for token in listed if isinstance(token, int) and token != tokenizer.eot_id]
    return [tokenizer.eot_id, *others]


def _optional(file: Path) -> dict[str, Any]:
    value = jsonl.read_json(file) if file.is_file() else {}
    return value if isinstance(value, dict) else {}
