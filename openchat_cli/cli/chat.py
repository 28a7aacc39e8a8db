"""`openchat chat`."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from openchat_cli.cli.chat_screen import Keyboard, Plain, Reader, Rendered, Screen, piped_lines
from openchat_cli.cli.chat_session import Session
from openchat_cli.cli.downloads import ask_first
from openchat_cli.cli.options import JsonFlag, ModelFileOption, ModelTypeOption, QuietFlag
from openchat_cli.cli.serve import (
    ContextOption,
    DeviceOption,
    DtypeOption,
    ModelPathOption,
    TrustFlag,
    dtype_of,
    quantize_of,
)
from openchat_cli.cli.terminal import Terminal
from openchat_cli.core.errors import UsageError, need
from openchat_cli.engine.settings import EngineSettings
from openchat_cli.serving.chat import LOCAL_SERVER, ChatSettings, Local, Partner, Remote


def chat(
    url: Annotated[
        str | None, typer.Option(help="A running server, such as http://127.0.0.1:18888/v1.")
    ] = None,
    model_path: ModelPathOption = None,
    model_type: ModelTypeOption = None,
    model_file: ModelFileOption = None,
    model: Annotated[
        str | None, typer.Option(help="The server's model; the first it lists if absent.")
    ] = None,
    system: Annotated[str | None, typer.Option(help="A system message to begin with.")] = None,
    load: Annotated[
        Path | None, typer.Option(help="A conversation to go on with, as /save wrote it.")
    ] = None,
    device: DeviceOption = EngineSettings.device,
    dtype: DtypeOption = EngineSettings.dtype,
    quantize: Annotated[
        str | None, typer.Option(help="int8, or int4 on a GPU: round the weights of --model-path.")
    ] = None,
    context: ContextOption = None,
    trust_remote_code: TrustFlag = False,
    temperature: Annotated[
        float | None, typer.Option(help="0 always takes the likeliest word.")
    ] = ChatSettings.temperature,
    top_p: Annotated[float | None, typer.Option(help="Share of likely words to draw from.")] = (
        ChatSettings.top_p
    ),
    max_tokens: Annotated[
        int | None, typer.Option(help="The most tokens in one answer.")
    ] = ChatSettings.max_tokens,
    seed: Annotated[int | None, typer.Option(help="Repeat the same answers.")] = ChatSettings.seed,
    markdown: Annotated[
        bool, typer.Option("--markdown/--plain", help="On a terminal, show Markdown as such.")
    ] = True,
    history: Annotated[
        bool, typer.Option(help="Keep what is typed, for the arrow keys of the next time.")
    ] = True,
    json_: JsonFlag = False,
    quiet: QuietFlag = False,
) -> None:
    """Talk to a model in the terminal; /help lists what can be done, Ctrl-D leaves.

    \b
    openchat chat --model-path model/
    echo "Hello" | openchat chat --url http://127.0.0.1:18888/v1
    """
    with Terminal("chat", json_output=json_, quiet=quiet, data_on_stdout=True) as terminal:
        settings = ChatSettings(
            temperature=temperature, top_p=top_p, max_tokens=max_tokens, seed=seed
        )
        if url is not None and model_path is not None:
            raise UsageError("--url and --model-path are two models: give one of them")
        partner: Partner
        if model_path is None:
            partner = Remote(url or LOCAL_SERVER, model, api_key=os.environ.get("OPENAI_API_KEY"))
        else:
            need("openchat chat --model-path", "model", "torch", "transformers")
            ask_first(model_path, model_type, model_file, code=trust_remote_code)
            engine = EngineSettings(
                model_path=model_path,
                model_type=model_type,
                model_file=model_file,
                device=device,
                dtype=dtype_of(dtype),
                quantize=quantize_of(quantize),
                context=context,
                max_slots=1,
                trust_remote_code=trust_remote_code,
            )
            partner = Local(engine, progress=terminal.progress)
        person = sys.stdin.isatty() and sys.stdout.isatty()
        with partner:
            session = Session(terminal, partner, _screen(person, markdown, quiet), settings, system)
            if load is not None:
                session.load(load)
            turns = session.talk(_reader(person, history), person=person)
        terminal.done(counts={"turns": turns})


def _screen(person: bool, markdown: bool, quiet: bool) -> Screen:
    # A pager, a log or an editor's shell can't take back what was drawn.
    drawn = person and markdown and os.environ.get("TERM", "dumb") != "dumb"
    return Rendered(stats=not quiet) if drawn else Plain(safe=person, stats=person and not quiet)


def _reader(person: bool, history: bool) -> Reader:
    return Keyboard(history) if person else piped_lines
