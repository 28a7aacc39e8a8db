"""`openchat data filter`."""

from __future__ import annotations

from openchat_cli.cli.data.options import ModelOption, RowsArgument, RowsOutArgument
from openchat_cli.cli.options import ForceFlag, JsonFlag, QuietFlag
from openchat_cli.cli.terminal import Terminal
from openchat_cli.core.jsonl import STDIO
from openchat_cli.data.settings import FilterSettings


def filter_(
    input_: RowsArgument,
    output: RowsOutArgument,
    model: ModelOption = FilterSettings.model,
    force: ForceFlag = False,
    json_: JsonFlag = False,
    quiet: QuietFlag = False,
) -> None:
    """Keep the conversations of one model.

    \b
    openchat data filter out/ out/ --model GPT-4
    openchat data clean pages/ - | openchat data filter - out/ --model any
    """
    settings = FilterSettings(input_, output, model, force)
    to_stdout = output == STDIO
    with Terminal(
        "data filter", json_output=json_, quiet=quiet, data_on_stdout=to_stdout
    ) as terminal:
        from openchat_cli.data.filter import filter_rows

        summary = filter_rows(settings, progress=terminal.progress)
        terminal.note(f"{summary.kept} of {summary.read} conversations kept (--model {model})")
        command = ["openchat", "data", "convert", str(output), str(output), "--model-path", "MODEL"]
        terminal.done(
            outputs=() if to_stdout else summary.outputs,
            counts={"read": summary.read, "kept": summary.kept, "models": dict(summary.models)},
            next_command=None if to_stdout else command,
        )
