"""Finding an upstream: waiting until it answers, learning what it calls its model."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from openchat_cli.core import registry
from openchat_cli.core.errors import InputError, OpenChatError, UsageError
from openchat_cli.core.manifest import read_manifest, resolve_type
from openchat_cli.core.progress import SILENT, Progress, Task
from openchat_cli.core.registry import ModelType
from openchat_cli.core.tokens import ChatTokenizer, load_tokenizer
from openchat_cli.model import hub
from openchat_cli.serving.settings import is_loopback
from openchat_cli.serving.upstream import NoTokenizer, UpstreamEngine
from openchat_cli.serving.upstream_client import headers
from openchat_cli.serving.upstream_settings import UpstreamSettings

if TYPE_CHECKING:
    import httpx2

Card = Mapping[str, Any]

_AGAIN_SECONDS = 0.5  # between tries while the upstream is not there yet
_SLOW_AGAIN_SECONDS = 3.0
_PATIENCE = 10.0  # seconds of the quick tries
_OWN_CONTEXT = ("max_model_len", "context_length", "max_context_length", "context_window")


def connect(settings: UpstreamSettings, *, progress: Progress = SILENT) -> UpstreamEngine:
    """Wait until the upstream answers; gives what asks it from then on.

    Raises InputError or UsageError for a folder that does not fit, OpenChatError where the upstream
    refuses the key, does not have the model, or is no server of this protocol.
    """
    kind, tokenizer, context = _template(settings, progress)
    with progress.task("waiting for the upstream", 1, "models") as task:
        card = _model_card(settings, progress, task)
        task.update(done=1, detail="")
    model = str(card["id"])
    told = next((card[name] for name in _OWN_CONTEXT if _is_count(card.get(name))), None)
    known = [size for size in (context, told, settings.context) if size is not None]
    if kind is None:
        # Nothing of a type is used then but its names.
        kind = dataclasses.replace(registry.built_in()["openchat"], name=model, aliases=())
    elif model != kind.name:
        kind = dataclasses.replace(kind, aliases=(*kind.aliases, model))
    return UpstreamEngine(
        settings,
        kind,
        tokenizer,
        model=model,
        context=min(known) if known else 0,
        names_ids=card.get("owned_by") == "vllm",
    )


def _template(
    settings: UpstreamSettings, progress: Progress
) -> tuple[ModelType | None, ChatTokenizer | NoTokenizer, int | None]:
    path = settings.model_path
    if path is None:
        if settings.model_type is not None:
            hint = "add --model-path FOLDER, or leave --model-type out and let the upstream render"
            raise UsageError("--model-type with --upstream needs a tokenizer's folder", hint)
        return None, NoTokenizer(), None
    if settings.model_type is not None:
        registry.get(settings.model_type, settings.model_file)  # refused before a download
    path = _folder(path, progress)
    kind = resolve_type(settings.model_type, model_path=path, model_file=settings.model_file)
    tokenizer = load_tokenizer(path, kind)
    if not tokenizer.has_eot:
        hint = f"openchat model prepare {path} OUT --model-type {kind.name}"
        raise InputError(f"{path}: not a chat model's tokenizer: it has no {kind.eot}", hint)
    manifest = read_manifest(path)
    return kind, tokenizer, kind.context if manifest is None else manifest.context


def _folder(path: Path, progress: Progress) -> Path:
    """The folder, or where the hub's tokeniser of that name is on this machine."""
    found = hub.find(path, tokenizer_only=True)
    if found is None and hub.is_name(path):
        download = hub.plan(path, tokenizer_only=True)
        progress.note(f"{download.title}: fetching its tokenizer ({hub.gigabytes(download.size)})")
        return hub.fetch(download, progress=progress)
    if found is None or not found.is_dir():
        hint = "a folder with the model's tokenizer, or the model's name on the hub"
        raise InputError(f"{path}: no such folder", hint)
    return found


def check_folder(settings: UpstreamSettings) -> None:
    """Raise what is wrong with the template's folder before anything is waited for."""
    path = settings.model_path
    if path is None or path.exists() or not hub.is_name(path):
        _template(settings, SILENT)


def _model_card(settings: UpstreamSettings, progress: Progress, task: Task) -> Card:
    import httpx2

    timeout = httpx2.Timeout(10.0, connect=settings.connect_timeout)
    with httpx2.Client(
        headers=headers(settings), timeout=timeout, trust_env=not is_loopback(settings.host)
    ) as client:
        began = time.monotonic()
        waiting: str | None = None
        while True:
            try:
                answer = client.get(settings.base + "/models")
                reason = f"it answers {answer.status_code}"
                if answer.status_code not in (429, 500, 502, 503, 504):
                    return _chosen(settings, answer, progress)
            except httpx2.InvalidURL:
                raise UsageError(f"{settings.base}: not the URL of a server") from None
            except httpx2.HTTPError as error:
                reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            if reason != waiting:
                waiting = reason
                progress.note(f"waiting for the upstream {settings.base} ({reason})")
                task.update(detail=reason)
            quick = time.monotonic() - began < _PATIENCE
            time.sleep(_AGAIN_SECONDS if quick else _SLOW_AGAIN_SECONDS)


def _chosen(settings: UpstreamSettings, answer: httpx2.Response, progress: Progress) -> Card:
    where = settings.base
    if answer.status_code in (401, 403):
        hint = "set OPENCHAT_UPSTREAM_KEY, or --upstream-key-file"
        raise OpenChatError(f"{where}: the upstream does not accept the key", hint)
    if answer.status_code == 404 and settings.model is not None:
        return {"id": settings.model}  # a server that lists no models
    try:
        data = json.loads(answer.content)["data"]
        cards: dict[str, Card] = {card["id"]: card for card in data if isinstance(card["id"], str)}
    except (ValueError, KeyError, TypeError, RecursionError):
        hint = "the URL that the protocol's paths come after, such as http://127.0.0.1:8000/v1"
        message = f"{where}: no server of OpenAI's protocol (GET /models: {answer.status_code})"
        raise OpenChatError(message, hint) from None
    if settings.model is not None:
        if settings.model in cards:
            return cards[settings.model]
        # Aliases need not be listed: the first request shows whether it is there.
        progress.note(f"the upstream does not list '{settings.model}' among its models")
        return {"id": settings.model}
    if not cards:
        hint = "name one with --upstream-model"
        raise OpenChatError(f"{where}: the upstream lists no model", hint)
    first = next(iter(cards))
    if len(cards) > 1:
        progress.note(
            f"the upstream has {', '.join(cards)}: asking for {first} "
            "(--upstream-model takes another)"
        )
    return cards[first]


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0
