"""`openchat serve`."""

from __future__ import annotations

import logging
import os
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast, get_args

import typer

from openchat_cli.cli import serve_beyond
from openchat_cli.cli.downloads import ask_first
from openchat_cli.cli.options import JsonFlag, ModelFileOption, ModelTypeOption, QuietFlag
from openchat_cli.cli.start_screen import key_in_shell, show
from openchat_cli.cli.terminal import Terminal
from openchat_cli.core.errors import UsageError, did_you_mean, need
from openchat_cli.engine.settings import Dtype, EngineSettings, Quantize
from openchat_cli.serving.keys import exposed, read_key_file
from openchat_cli.serving.settings import ServeSettings
from openchat_cli.serving.upstream_settings import UpstreamSettings

if TYPE_CHECKING:
    from openchat_cli.serving.server import Ready

ModelPathOption = Annotated[
    Path | None,
    typer.Option("--model-path", "-m", help="The model's folder, or its name on the hub."),
]
TrustFlag = Annotated[
    bool, typer.Option("--trust-remote-code", help="Run Python code that the model brings along.")
]
DeviceOption = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1 …")]
DtypeOption = Annotated[str, typer.Option(help="auto (bf16 on CUDA, fp32 on CPU), fp32 or bf16.")]
ContextOption = Annotated[
    int | None, typer.Option(min=1, help="Tokens one conversation may hold, if fewer.")
]


def serve(
    command: typer.Context,
    extra: Annotated[
        list[str] | None,
        typer.Argument(metavar="[-- VLLM OPTIONS]", help="With --engine vllm: its own options."),
    ] = None,
    model_path: ModelPathOption = None,
    model_type: ModelTypeOption = None,
    model_file: ModelFileOption = None,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = ServeSettings.host,
    port: Annotated[
        int, typer.Option(help="Port to listen on; 0 takes any free one.")
    ] = ServeSettings.port,
    name: Annotated[
        str | None, typer.Option(help="What clients call the model; its type's name if absent.")
    ] = None,
    device: DeviceOption = EngineSettings.device,
    dtype: DtypeOption = EngineSettings.dtype,
    context: ContextOption = None,
    max_slots: Annotated[
        int | None,
        typer.Option(help="Requests answered together: 32, on a GPU what its memory holds."),
    ] = None,
    max_concurrency: Annotated[
        int | None,
        typer.Option(help="Answers written at once, if fewer than the slots; more raise those."),
    ] = None,
    queue_size: Annotated[
        int, typer.Option(help="Answers that may wait for a slot; past that requests get 429.")
    ] = EngineSettings.queue_size,
    request_timeout: Annotated[
        float | None, typer.Option(help="Seconds until an answer is given up; never if absent.")
    ] = None,
    shutdown_seconds: Annotated[
        float, typer.Option(help="Seconds that open requests may take to finish after SIGTERM.")
    ] = ServeSettings.shutdown_seconds,
    quantize: Annotated[
        str | None,
        typer.Option(help="int8, or int4 on a GPU: round the weights, for speed and memory."),
    ] = None,
    threads: Annotated[
        int | None, typer.Option(min=1, help="CPU threads; all that the process may use if absent.")
    ] = None,
    gpu_memory_utilization: Annotated[
        float, typer.Option(help="Share of the GPU's memory that may be in use in all.")
    ] = EngineSettings.gpu_memory_utilization,
    trust_remote_code: TrustFlag = False,
    temperature: Annotated[
        float, typer.Option(help="Temperature of a request that names none.")
    ] = ServeSettings.temperature,
    top_p: Annotated[
        float, typer.Option(help="top_p of a request that names none.")
    ] = ServeSettings.top_p,
    max_tokens: Annotated[
        int, typer.Option(help="New tokens of a request that names no limit.")
    ] = ServeSettings.max_tokens,
    api_key_file: Annotated[
        Path | None,
        typer.Option(help="API keys, one a line (or set OPENCHAT_API_KEYS, comma-separated)."),
    ] = None,
    allow_unauthenticated: Annotated[
        bool, typer.Option(help="Listen on a public address although there are no API keys.")
    ] = False,
    engine: Annotated[
        str, typer.Option(help="own, or vllm: start your own `vllm serve` with our template.")
    ] = "own",
    print_command: Annotated[
        bool, typer.Option("--print-command", help="With --engine vllm: show it, start nothing.")
    ] = False,
    upstream: Annotated[
        str | None,
        typer.Option(
            help="Another server's URL: serve in front of it, with the template of --model-path."
        ),
    ] = None,
    upstream_model: Annotated[
        str | None, typer.Option(help="The upstream's model; the first it lists if absent.")
    ] = None,
    upstream_key_file: Annotated[
        Path | None,
        typer.Option(help="The upstream's key (or set OPENCHAT_UPSTREAM_KEY)."),
    ] = None,
    upstream_timeout: Annotated[
        float, typer.Option(help="Seconds without a byte from the upstream.")
    ] = UpstreamSettings.timeout,
    cors_origin: Annotated[
        list[str] | None,
        typer.Option(help="A web page's origin that may ask (can be repeated), or * for all."),
    ] = None,
    log_file: Annotated[
        Path | None, typer.Option(help="Append a JSON line for each request; - for stdout.")
    ] = None,
    log_content: Annotated[
        bool, typer.Option("--log-content", help="Write prompts and answers to the logs.")
    ] = False,
    json_: JsonFlag = False,
    quiet: QuietFlag = False,
) -> None:
    """Serve a model with OpenAI's protocol.

    \b
    openchat serve --model-path model/
    openchat serve --model-path model/ --port 0 --json | head -1
    """
    with Terminal("serve", json_output=json_, quiet=quiet) as terminal:
        options = serve_beyond.given(command)
        serve_beyond.check(engine, upstream, options, extra)
        if model_path is None and upstream is None:
            raise UsageError("no model to serve", "openchat serve --model-path MODEL")
        behind = None
        if upstream is not None:
            behind = UpstreamSettings(
                upstream,
                key=serve_beyond.upstream_key(upstream_key_file),
                model=upstream_model,
                model_path=model_path,
                model_type=model_type,
                model_file=model_file,
                context=context,
                max_concurrency=(max_concurrency or max_slots or UpstreamSettings.max_concurrency),
                queue_size=queue_size,
                timeout=upstream_timeout,
            )
        settings = ServeSettings(
            engine=EngineSettings(
                model_path=model_path or Path(),  # an upstream needs none
                model_type=model_type,
                model_file=model_file,
                device=device,
                dtype=dtype_of(dtype),
                quantize=quantize_of(quantize),
                context=context,
                max_slots=max_slots,
                max_concurrency=max_concurrency,
                queue_size=queue_size,
                threads=threads,
                gpu_memory_utilization=gpu_memory_utilization,
                trust_remote_code=trust_remote_code,
            ),
            host=host,
            port=port,
            name=name,
            temperature=temperature,
            top_p=top_p,
            max_tokens=max_tokens,
            api_keys=_api_keys(api_key_file),
            allow_unauthenticated=allow_unauthenticated,
            request_timeout=request_timeout,
            shutdown_seconds=shutdown_seconds,
            cors_origins=tuple(cors_origin or ()),
            log_file=log_file,
            log_content=log_content,
            upstream=behind,
        )
        if api_key_file is not None and exposed(api_key_file):
            hint = f"chmod 600 {shlex.quote(str(api_key_file))}"
            terminal.progress.warn(
                f"{api_key_file}: other users of this machine can read it; {hint}"
            )
        if engine == "vllm":
            serve_beyond.run_vllm(
                terminal, settings, options=options, extra=extra or (), print_command=print_command
            )
            return
        if behind is None:
            need("openchat serve", "serve", "uvicorn", "starlette", "torch", "transformers")
            path = settings.engine.model_path
            ask_first(path, model_type, model_file, code=trust_remote_code)
        else:
            need("openchat serve --upstream", "serve", "uvicorn", "starlette")
            serve_beyond.check_upstream(behind)
        from openchat_cli.serving.server import serve as run

        _log_to_stderr(quiet)

        def ready(server: Ready) -> None:
            show(terminal, server, key=key_in_shell(settings.api_keys, api_key_file))

        run(settings, progress=terminal.progress, ready=ready)


# --- serve ---


def dtype_of(name: str) -> Dtype:
    """The dtype of that name."""
    if name not in get_args(Dtype):
        raise UsageError(f"no dtype '{name}'", did_you_mean(name, get_args(Dtype)))
    return cast(Dtype, name)


def quantize_of(name: str | None) -> Quantize | None:
    """The kind of rounding of that name."""
    if name is not None and name not in get_args(Quantize):
        raise UsageError(f"can't quantize to '{name}'", did_you_mean(name, get_args(Quantize)))
    return cast("Quantize | None", name)


def _api_keys(path: Path | None) -> tuple[str, ...]:
    listed = os.environ.get("OPENCHAT_API_KEYS", "").split(",")
    keys = tuple(key.strip() for key in listed if key.strip())
    return keys if path is None else (*keys, *read_key_file(path))


def _log_to_stderr(quiet: bool) -> None:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
    handler.setLevel(logging.ERROR if quiet else logging.INFO)
    logger = logging.getLogger("openchat")
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    # uvicorn's own remarks are said in our words; what it can't handle is still shown.
    uvicorn = logging.getLogger("uvicorn")
    uvicorn.addHandler(handler)
    uvicorn.setLevel(logging.CRITICAL)
