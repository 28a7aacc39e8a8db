"""What a file or an archive's member is: by its name, its neighbours, its first bytes."""

from __future__ import annotations

import re
from collections.abc import Container, Iterable
from typing import Literal

Kind = Literal["page", "dump", "parquet", "zip", "tar", "ignored"]

PAGES = (".html", ".htm", ".html.gz", ".htm.gz")
DUMPS = (".json", ".jsonl", ".ndjson", ".json.gz", ".jsonl.gz", ".ndjson.gz")
TARS = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz")

# The conversations of ChatGPT's own export; large ones come in numbered files.
_EXPORT = re.compile(r"conversations(?:-\d+)?\.json(?:\.gz)?")
# What lies beside them: the same again as a page, and other things.
_BESIDE_EXPORT = {
    "chat.html",
    "user.json",
    "user_settings.json",
    "message_feedback.json",
    "model_comparisons.json",
    "shared_conversations.json",
    "group_chats.json",
    "shopping.json",
    "sora.json",
    "tool_messages.json",
    "export_manifest.json",
}
# How a page begins, in UTF-8 or UTF-16.
_PAGE = re.compile(
    rb"(?:\xef\xbb\xbf)?\s*<(?:!|\?xml|/?[a-z][a-z0-9]+[\s/>]|p[\s>])|\xff\xfe<\0|\xfe\xff\0<", re.I
)
# What an earlier `data` command left in a folder beside its rows.
_OURS = (
    "dropped.jsonl",
    ".report.json",
    ".report.html",
    ".map.html",
    ".dataset.json",
    ".train.json",
    ".eval.json",
    ".text.json",
    ".visualizer.json",
)


def by_name(name: str, export_beside: bool = False) -> Kind:
    """The kind of a file; `export_beside`: ChatGPT's export lies in the same folder."""
    base = name.rpartition("/")[2].lower()
    if base.endswith(_OURS) or (export_beside and base in _BESIDE_EXPORT):
        return "ignored"
    kinds: tuple[tuple[tuple[str, ...], Kind], ...] = (
        (PAGES, "page"),
        (DUMPS, "dump"),
        ((".parquet",), "parquet"),
        ((".zip",), "zip"),
        (TARS, "tar"),
    )
    return next((kind for endings, kind in kinds if base.endswith(endings)), "ignored")


def is_export(name: str) -> bool:
    """Whether a file is called as the conversations of ChatGPT's export are."""
    return _EXPORT.fullmatch(name.rpartition("/")[2].lower()) is not None


def export_folders(names: Iterable[str]) -> set[str]:
    """The folders of an archive that hold ChatGPT's export, "" for its top."""
    return {name.rpartition("/")[0] for name in names if is_export(name)}


def of_member(name: str, exports: Container[str]) -> Kind:
    """The kind of an archive's member; `exports` are the folders with ChatGPT's export."""
    return by_name(name, name.rpartition("/")[0] in exports)


def is_hidden(name: str) -> bool:
    """Whether any part of a member's name begins with a dot, or is macOS's own."""
    return any(part.startswith(".") or part == "__MACOSX" for part in name.split("/"))


def by_bytes(head: bytes) -> Kind | Literal["gzip", "bzip2", "xz"]:
    """The kind of a file by its first 512 bytes; a dump where nothing else is known."""
    if head.startswith((b"PK\3\4", b"PK\5\6")):
        return "zip"
    if head[257:262] == b"ustar":
        return "tar"
    if head.startswith(b"\x1f\x8b"):
        return "gzip"
    if head.startswith(b"BZh"):
        return "bzip2"
    if head.startswith(b"\xfd7zXZ\0"):
        return "xz"
    if head.startswith(b"PAR1"):
        return "parquet"
    return "page" if _PAGE.match(head) else "dump"


def order(name: str) -> list[str]:
    """What names are sorted by, so that an archive has the order of the folder it was made of."""
    return name.split("/")
