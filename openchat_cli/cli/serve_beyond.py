"""`openchat serve` where the model runs elsewhere: under vLLM, or behind a URL."""

from __future__ import annotations

import os
import shlex
import shutil
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import typer

from openchat_cli.cli.downloads import ask_first
from openchat_cli.cli.terminal import Terminal
from openchat_cli.core.errors import OpenChatError, UsageError, did_you_mean
from openchat_cli.serving.keys import read_key_file
from openchat_cli.serving.settings import ServeSettings
from openchat_cli.serving.upstream_settings import UpstreamSettings

if TYPE_CHECKING:
    from openchat_cli.serving import vllm

ENGINES = ("own", "vllm")
UPSTREAM_KEY = "OPENCHAT_UPSTREAM_KEY"

# What says how a model of this process is loaded and run.
_OF_OWN_ENGINE = ("device", "dtype", "quantize", "threads", "gpu_memory_utilization")


def given(command: typer.Context) -> set[str]:
    """The options that were set, by argument, environment or openchat.toml."""
    source = command.get_parameter_source
    names = [str(param.name) for param in command.command.params]
    found = {name: source(name) for name in names}
    return {name for name, where in found.items() if where is not None and where.name != "DEFAULT"}


def check(
    engine: str, upstream: str | None, options: Collection[str], extra: Sequence[str] | None
) -> None:
    """Refuse what does not go together."""
    if engine not in ENGINES:
        raise UsageError(f"no engine '{engine}'", did_you_mean(engine, ENGINES))
    if engine == "vllm":
        if upstream is not None:
            raise UsageError("--engine vllm and --upstream are two servers: give one of them")
        return
    if extra:
        raise UsageError(
            f"unexpected argument '{extra[0]}'", "what follows -- is for --engine vllm"
        )
    if "print_command" in options:
        raise UsageError("--print-command shows what --engine vllm would execute")
    if upstream is None:
        lost = sorted(name for name in options if name.startswith("upstream_"))
    else:
        lost = sorted(set(options) & set(_OF_OWN_ENGINE))
    if lost:
        listed = ", ".join(f"--{name.replace('_', '-')}" for name in lost)
        if upstream is None:
            raise UsageError(f"{listed} without --upstream", "openchat serve --upstream URL")
        raise UsageError(
            f"{listed} with --upstream: no model runs here", "set it where the upstream runs"
        )


def upstream_key(file: Path | None) -> str | None:
    """The key for the upstream: of the file, else of the environment."""
    key = os.environ.get(UPSTREAM_KEY, "").strip()
    where = UPSTREAM_KEY
    if file is not None:
        where = str(file)
        keys = read_key_file(file)
        if len(keys) > 1:
            raise UsageError(f"{where}: one key is expected, found {len(keys)}")
        key = keys[0]
    if not key:
        return None
    if len(key.split()) != 1 or not (key.isascii() and key.isprintable()):
        raise UsageError(f"{where}: one key and nothing else was expected")
    return key


def check_upstream(settings: UpstreamSettings) -> None:
    """Say now what is wrong with the tokeniser's folder."""
    from openchat_cli.serving.upstream_start import check_folder

    check_folder(settings)


def run_vllm(
    terminal: Terminal,
    settings: ServeSettings,
    *,
    options: Collection[str],
    extra: Sequence[str],
    print_command: bool,
) -> None:
    """Become `vllm serve`: this process is replaced, so signals and exit codes are vLLM's.

    With `print_command` the command line is printed, and nothing is executed.
    """
    from openchat_cli.serving import vllm

    program = shutil.which("vllm")
    if program is None and not print_command:
        hint = "python -m venv vllm-env && vllm-env/bin/pip install vllm, and vllm-env/bin on PATH"
        raise UsageError("--engine vllm: there is no program 'vllm' on PATH", hint)
    if not print_command:
        vllm.check(settings, options, extra)
        engine = settings.engine
        ask_first(engine.model_path, engine.model_type, engine.model_file)
    launch = vllm.plan(
        settings,
        given=options,
        extra=extra,
        cache=_cache(),
        fetch=not print_command,
        progress=terminal.progress,
    )
    if program is None or print_command:
        terminal.data(shlex.join(["vllm", *launch.arguments]))
        if launch.environment:
            terminal.note(f"with the key in {vllm.KEY_VARIABLE}, which openchat would set")
        return
    terminal.event("starting", program=program, arguments=list(launch.arguments))
    terminal.note(f"starting  {shlex.join([program, *launch.arguments])}")
    _become(program, launch)


def _become(program: str, launch: vllm.Launch) -> NoReturn:
    environment = {**os.environ, **launch.environment}
    environment.pop("OPENCHAT_API_KEYS", None)  # vLLM has its own variable for it
    try:
        os.execve(program, ["vllm", *launch.arguments], environment)
    except OSError as error:
        raise OpenChatError(f"{program}: can't be executed ({error.strerror})") from None


def _cache() -> Path:
    """Where tokenisers for vLLM are kept."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    folder = Path(base) if base and Path(base).is_absolute() else Path.home() / ".cache"
    return folder / "openchat" / "vllm"
