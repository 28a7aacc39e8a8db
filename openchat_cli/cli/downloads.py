"""The question before a model is downloaded."""

from __future__ import annotations

from pathlib import Path

from openchat_cli.cli.terminal import confirm, is_person
from openchat_cli.core import registry
from openchat_cli.core.errors import OpenChatError


def ask_first(
    path: Path,
    model_type: str | None = None,
    model_file: Path | None = None,
    *,
    code: bool = False,
) -> None:
    """On a terminal ask whether to fetch what `path` names on the hub, with its `code` or without;
    OpenChatError if not.

    Before the work begins: whoever fetches may do so beside it, where nobody can be asked. Raises
    what can't be served, for the model type's sake, before it asks.
    """
    if not is_person():
        return
    from openchat_cli.model import hub

    if model_type is not None:
        registry.get(model_type, model_file)
    download = hub.missing(path, typed=model_type is not None, code=code)
    if download is None:
        return
    size = hub.gigabytes(download.size)
    if not confirm(f"{download.title} is not on this machine. Download it ({size})?"):
        raise OpenChatError(f"{download.title}: not downloaded")
