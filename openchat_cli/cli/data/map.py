"""`openchat data map`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from openchat_cli.cli.data.options import FolderArgument
from openchat_cli.cli.options import ForceFlag, JsonFlag, QuietFlag
from openchat_cli.cli.terminal import Terminal
from openchat_cli.data.settings import MapSettings, Reduction

if TYPE_CHECKING:
    from openchat_cli.data.mapping.map import MapSummary


def map_(
    input_: Annotated[
        Path,
        typer.Argument(
            metavar="INPUT",
            allow_dash=True,
            help="The folder of data embed, or conversations; - is stdin.",
        ),
    ],
    output: FolderArgument,
    name: Annotated[str, typer.Option(help="What the files are called.")] = MapSettings.name,
    rows: Annotated[
        Path | None, typer.Option(help="The conversations, if they have moved since data embed.")
    ] = MapSettings.rows,
    reduce: Annotated[
        Reduction, typer.Option(help="auto: UMAP where it is installed, else PCA.")
    ] = MapSettings.reduce,
    neighbors: Annotated[
        int, typer.Option(help="UMAP: more show the whole, fewer the details.")
    ] = MapSettings.neighbors,
    min_dist: Annotated[
        float, typer.Option(help="UMAP: how close points may lie, from 0 to 1.")
    ] = MapSettings.min_dist,
    clusters: Annotated[
        int | None, typer.Option(help="How many; chosen by silhouette when absent.")
    ] = MapSettings.clusters,
    max_clusters: Annotated[
        int, typer.Option(help="The most that the silhouette may choose.")
    ] = MapSettings.max_clusters,
    page_chars: Annotated[
        int, typer.Option(help="Characters of all conversations together; the longest are cut.")
    ] = MapSettings.page_chars,
    seed: Annotated[int, typer.Option(help="Of UMAP and K-Means.")] = MapSettings.seed,
    force: ForceFlag = False,
    json_: JsonFlag = False,
    quiet: QuietFlag = False,
) -> None:
    """Show conversations as a 3-D map with named clusters: one HTML page that stands by itself.

    \b
    openchat data map out/ out/
    openchat data filter out/ - --model GPT-4 | openchat data map - map/ --name gpt-4
    """
    from openchat_cli.data.mapping.map import make_map

    with Terminal("data map", json_output=json_, quiet=quiet) as terminal:
        settings = MapSettings(
            input=input_,
            output=output,
            name=name,
            rows=rows,
            reduce=reduce,
            neighbors=neighbors,
            min_dist=min_dist,
            clusters=clusters,
            max_clusters=max_clusters,
            page_chars=page_chars,
            seed=seed,
            force=force,
        )
        summary = make_map(settings, progress=terminal.progress)
        _tell(terminal, summary)
        terminal.done(
            outputs=summary.outputs,
            counts={
                "points": summary.points,
                "embedding": summary.embedding,
                "reduction": summary.reduction,
                "clusters": list(summary.clusters),
                "silhouettes": {str(k): round(s, 4) for k, s in summary.scores.items()},
                "limit": summary.limit,
                "cut": summary.cut,
            },
        )
        terminal.note(f"open {summary.outputs[1]} in a browser")


def _tell(terminal: Terminal, summary: MapSummary) -> None:
    if summary.scores:
        low, high = min(summary.scores), max(summary.scores)
        found = "  ".join(f"{k}: {score:.3f}" for k, score in summary.scores.items())
        chosen = len(summary.clusters)
        terminal.note(f"silhouettes for k from {low} to {high}, {chosen} chosen:  {found}")
    rows = [(one["id"], one["size"], ", ".join(one["words"])) for one in summary.clusters]
    terminal.table("clusters", ("cluster", "size", "words"), rows)
    for note in summary.notes:
        terminal.note(note)
    if summary.cut:
        terminal.note(
            f"{summary.cut:,} conversations are cut to {summary.limit:,} characters in these files"
        )
