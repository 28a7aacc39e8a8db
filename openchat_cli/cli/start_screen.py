"""What `openchat serve` shows once it answers: where, what, and a line to try it with."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from openchat_cli.cli.terminal import Terminal

if TYPE_CHECKING:
    from openchat_cli.serving.server import Ready
    from openchat_cli.serving.upstream_settings import Behind

_UNITS = ((2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB"))


def show(terminal: Terminal, server: Ready, *, key: str | None) -> None:
    """The screen, and the event for scripts. `key`: how a shell finds an API key, None if there is
    none to be had.
    """
    terminal.event("ready", **_facts(server))
    root = server.url.removesuffix("/v1")
    terminal.panel("openchat serve", _lines(server, root, keys=key is not None))
    # Beside the panel, whole and without a frame: these are to be copied.
    terminal.note("try it:")
    terminal.note(f"  {curl(server, key)}")
    terminal.note(f"  openchat chat --url {server.url}")


def _facts(server: Ready) -> dict[str, Any]:
    """For scripts; what nobody here knows is absent."""
    facts: dict[str, Any] = {"url": server.url, "model": server.model}
    behind = server.upstream
    if behind is None or not behind.renders:
        facts["model_type"] = server.model_type
    if server.context:
        facts["context"] = server.context
    facts["slots"] = server.slots
    if behind is not None:
        return {**facts, "upstream": behind.url, "upstream_model": behind.model}
    return {
        **facts,
        "device": server.device,
        "dtype": server.dtype,
        "weight_bytes": server.weight_bytes,
        "slot_bytes": server.slot_bytes,
    }


def _lines(server: Ready, root: str, *, keys: bool) -> list[tuple[str, str]]:
    name, behind = server.model, server.upstream
    typed = name == server.model_type or (behind is not None and behind.renders)
    context = f"{server.context:,} tokens" if server.context else "as the upstream has it"
    return [
        ("API", server.url),
        ("chat page", f"{root}/"),
        ("model", name if typed else f"{name} (type {server.model_type})"),
        ("context", context),
        ("slots", f"{server.slots} requests together"),
        *(_device(server) if behind is None else _upstream(behind)),
        ("keys", "needed" if keys else "none: whoever reaches this port may ask"),
    ]


def _device(server: Ready) -> list[tuple[str, str]]:
    slots, weights = readable(server.slot_bytes), readable(server.weight_bytes)
    filling = " as they fill" if server.device == "cpu" else ""
    return [
        ("memory", f"weights {weights}, slots {slots}{filling}"),
        ("device", f"{server.device}, {server.dtype}"),
    ]


def _upstream(behind: Behind) -> list[tuple[str, str]]:
    return [
        ("upstream", f"{behind.url}, model {behind.model}"),
        ("template", "the upstream's" if behind.renders else "rendered here, sent as token ids"),
    ]


def curl(server: Ready, key: str | None) -> str:
    """A request that works when it is pasted into a shell."""
    body = {
        "model": server.model,
        "messages": [{"role": "user", "content": "Hello"}],
        "max_tokens": 64,
    }
    line = ["curl", f"{server.url}/chat/completions", "-H", "Content-Type: application/json"]
    quoted = shlex.join(line)
    if key is not None:
        quoted += f' -H "Authorization: Bearer {key}"'
    return f"{quoted} -d {shlex.quote(json.dumps(body))}"


def key_in_shell(keys: Sequence[str], file: Path | None) -> str | None:
    """A shell's words for the first key, which is never shown itself."""
    if not keys:
        return None
    if file is None:
        return "${OPENCHAT_API_KEYS%%,*}"
    path = shlex.quote(str(file.resolve()))
    return f"$(grep -v -e '^ *#' -e '^ *$' {path} | head -n 1)"


def readable(size: int) -> str:
    """A number of bytes for people."""
    for unit, name in _UNITS:
        if size >= unit:
            return f"{size / unit:.1f} {name}"
    return f"{size} bytes"
