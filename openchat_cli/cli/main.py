"""The root command; the one place that turns errors and signals into exit codes."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from types import FrameType
from typing import Annotated, Any, NoReturn, TextIO, cast

import typer

from openchat_cli import __version__
from openchat_cli.cli import chat, data, demo, evaluate, model, serve, settings, tiny, train
from openchat_cli.cli.terminal import Messages, error_line
from openchat_cli.core.errors import OpenChatError, UsageError

_CONTEXT = {"help_option_names": ["-h", "--help"]}

app = typer.Typer(
    name="openchat",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings=_CONTEXT,
)


def _print_version(wanted: bool) -> None:
    if wanted:
        print(__version__)
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version."
        ),
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks of errors.")] = False,
) -> None:
    """From raw chats to a served, judged chat model.

    \b
    openchat demo
    openchat data clean pages/ out/ && openchat data filter out/ out/ --model GPT-4
    """


model.app.command("tiny", hidden=True)(tiny.tiny)
app.add_typer(data.app, name="data", help="Turn raw chats into a training set.")
app.add_typer(model.app, name="model", help="The model types, and preparing a base model.")
app.add_typer(evaluate.app, name="eval", help="Answer, judge and report.")
app.command("train")(train.train)
app.command("serve")(serve.serve)
app.command("chat")(chat.chat)
app.command("demo")(demo.demo)


class _TerminatedError(BaseException):
    """SIGTERM, raised where the work stands so that half-written files are removed."""


def _on_sigterm(number: int, frame: FrameType | None) -> NoReturn:
    raise _TerminatedError


def main(argv: list[str] | None = None) -> int:
    """Run one command line; gives its exit code and never raises."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    # Typer takes root options only before the subcommand; this one is wanted after something
    # failed, at the end of the line that did.
    debug = "--debug" in arguments or bool(os.environ.get("OPENCHAT_DEBUG"))
    # deepspeed's launcher puts --local_rank=N before everything; the environment says it too.
    arguments = [
        one for one in arguments if one != "--debug" and not one.startswith("--local_rank=")
    ]
    signal.signal(signal.SIGTERM, _on_sigterm)
    # OpenMP's threads spin while they wait for each other, which starves them on a machine with
    # other work: a small model then runs at a tenth of its speed. Read when torch is imported.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    # The CPU kernels keep what they compiled for each length of prompt, up to 1,024 of them in two
    # places: hundreds of MiB after a while, at no gain. Read when torch is imported, too.
    for name in ("LRU_CACHE_CAPACITY", "ONEDNN_PRIMITIVE_CACHE_CAPACITY"):
        os.environ.setdefault(name, "128")
    try:
        return _dispatch(arguments)
    except OpenChatError as error:
        if debug:
            raise
        error_line(error)
        return error.exit_code
    except _TerminatedError:
        print("terminated", file=sys.stderr)
        return 143
    except Exception as error:
        if debug:
            raise
        error_line(_described(error))
        return 1


def _dispatch(arguments: list[str]) -> int:
    command = typer.main.get_command(app)
    settings.name_environment(command)
    found = settings.find(Path.cwd())
    defaults = settings.defaults(found, command) if found else {}
    try:
        # Not standalone: Typer then leaves usage errors to us, which it would draw as a box.
        code = command.main(
            args=arguments,
            prog_name="openchat",
            standalone_mode=False,
            default_map=defaults,
        )
    except SystemExit as stop:  # completion scripts, and a reader that closed our stdout
        code = stop.code
    except Exception as error:
        # Typer's usage errors have no public class; these two attributes are theirs alone.
        if not (hasattr(error, "format_message") and hasattr(error, "ctx")):
            raise
        return _usage_error(error, found)
    if code == 130:
        print("interrupted", file=sys.stderr)
    return code if isinstance(code, int) else 0


def _usage_error(error: Any, settings_file: Path | None) -> int:
    """Show one of Typer's usage errors, with the settings file where its value was written."""
    context = error.ctx
    # Typer's types may be checked by pydantic, which says so first.
    message = error.format_message().replace("Value error, ", "")
    if message:  # empty where a command without arguments has already shown its help
        message = message[:1].lower() + message[1:].rstrip(".")
        param = getattr(error, "param", None)
        source = context.get_parameter_source(param.name) if param and context else None
        if source is not None and source.name == "DEFAULT_MAP":
            message = f"{settings_file}: {message}"
        path = context.command_path if context else "openchat"
        error_line(UsageError(message, f"{path} --help"))
    return UsageError.exit_code


def _described(error: Exception) -> OpenChatError:
    if isinstance(error, OSError) and error.strerror:
        place = f"{error.filename}: " if error.filename else ""
        return OpenChatError(f"{place}{error.strerror}")
    hint = "this is a bug in openchat: --debug shows where"
    return OpenChatError(f"{type(error).__name__}: {error}", hint)


def run() -> NoReturn:
    """The console script."""
    sys.stderr = cast(TextIO, Messages(sys.stderr))
    sys.exit(main())
