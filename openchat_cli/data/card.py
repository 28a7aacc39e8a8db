"""`README.md` in OUT: a dataset card with the front matter of the Hugging Face hub.

It is made anew from the manifests that are in the folder, so that it tells of every model type
converted there. It bears no date: the same data gives the same bytes.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from openchat_cli.core import jsonl
from openchat_cli.core.errors import InputError, OpenChatError
from openchat_cli.core.progress import Progress
from openchat_cli.core.together import written_together
from openchat_cli.data.manifest import digest

FILE = "README.md"
MARK = (
    "<!-- Made by `openchat data convert`, and made anew by it: without this line it is yours. -->"
)

_ROWS = ("filtered.jsonl", "conversations.jsonl")
_SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))
_SHARE = 0.01  # of the conversations that a language needs to be named in the front matter
_LISTED = 12  # rows of a table
_LONGEST = 60  # characters of a label

Manifest = dict[str, Any]


def write(folder: Path, progress: Progress) -> tuple[Path, ...]:
    """Write the card and give its path; a README of the user's own stays, and that is said."""
    path = folder / FILE
    if path.exists() and not _is_ours(path):
        progress.note(f"{path}: not ours (it lacks our comment), so no dataset card is written")
        return ()
    text = of(manifests(folder), _rows_in(folder), _manifest_digests(folder))
    with written_together([path]) as (stream,):
        stream.write(text.encode())
    return (path,)


def _is_ours(path: Path) -> bool:
    try:
        return MARK.encode() in path.read_bytes().splitlines()
    except OSError as error:
        raise OpenChatError(f"{path}: can't be read ({error.strerror})") from None


def manifests(folder: Path) -> list[Manifest]:
    """The manifests of the folder's datasets by name; those of an older openchat are left out."""
    found: list[Manifest] = []
    for path in sorted(folder.glob("*.dataset.json")):
        try:
            value = jsonl.read_json(path)
        except InputError:
            continue
        if isinstance(value, dict) and value.get("kind") == "dataset" and "files" in value:
            found.append(value)
    return found


def _manifest_digests(folder: Path) -> dict[str, dict[str, Any]]:
    return {path.name: _digest(path) for path in sorted(folder.glob("*.dataset.json"))}


def _rows_in(folder: Path) -> dict[str, dict[str, Any]]:
    return {name: _digest(folder / name) for name in _ROWS if (folder / name).is_file()}


def _digest(path: Path) -> dict[str, Any]:
    with path.open("rb") as stream:
        return dict(zip(("bytes", "sha256"), digest(stream), strict=True))


def of(
    datasets: Sequence[Manifest],
    rows: dict[str, dict[str, Any]],
    manifest_files: dict[str, dict[str, Any]],
) -> str:
    """The card's text, from the manifests and the digests of the files beside them."""
    blocks = [_front_matter(datasets, list(rows)), MARK, "# Conversations for supervised training"]
    blocks.append(
        "Made with `openchat data convert`. `T.train.json` and `T.eval.json` hold "
        "`[[token_ids, supervise_mask], …]` for model type T, `T.*.text.json` the same as text, "
        "`T.*.safetensors` the same memory-mapped."
    )
    for dataset in datasets:
        blocks += _section(dataset)
    blocks += ["## Files", _files(datasets, rows, manifest_files)]
    return "\n\n".join(blocks) + "\n"


# --- front matter ---


def _front_matter(datasets: Sequence[Manifest], rows: Sequence[str]) -> str:
    lines = ["---"]
    lines += _yaml_list("language", _named_languages(datasets))
    largest = max((dataset["counts"]["read"] for dataset in datasets), default=0)
    size = next((name for limit, name in _SIZES if largest < limit), "n>1M")
    lines += _yaml_list("size_categories", [size])
    lines += _yaml_list("task_categories", ["text-generation"])
    lines += _yaml_list("tags", ["conversational", "sft", "openchat"])
    lines.append("configs:")
    if rows:
        lines += _config("conversations", {"train": rows[0]})
    for dataset in datasets:
        name = dataset["model_type"]
        lines += _config(name, {"train": f"{name}.train.json", "validation": f"{name}.eval.json"})
    return "\n".join([*lines, "---"])


def _yaml_list(key: str, values: Iterable[str]) -> list[str]:
    # JSON strings are YAML strings: "no" and "on" stay words.
    items = [f"- {json.dumps(value)}" for value in values]
    return [f"{key}:", *items] if items else []


def _config(name: str, files: dict[str, str]) -> list[str]:
    lines = [f"- config_name: {json.dumps(name)}", "  data_files:"]
    for split, path in files.items():
        lines += [f"  - split: {split}", f"    path: {json.dumps(path)}"]
    return lines


def _named_languages(datasets: Sequence[Manifest]) -> list[str]:
    """Those that make up some share of any dataset, the most frequent first."""
    shares: Counter[str] = Counter()
    for dataset in datasets:
        for name, share in _language_shares(dataset).items():
            shares[name] = max(shares[name], share)  # type: ignore[assignment]  # shares are floats
    ordered = sorted(shares.items(), key=lambda item: (-item[1], item[0]))
    return [name for name, share in ordered if share >= _SHARE and name.isalpha()]


def _language_shares(dataset: Manifest) -> dict[str, float]:
    """The share of each language: as the rows say, and as the sample of the others shows."""
    found = dataset["languages"]
    given, detected = found["given"], found["detected"] or {}
    total = sum(given.values()) + found["unlabelled"]
    looked_at = max(1, sum(detected.values()))
    shares = {name: count / total for name, count in given.items()}
    for name, count in detected.items():
        shares[name] = shares.get(name, 0.0) + count / looked_at * found["unlabelled"] / total
    return shares


# --- sections ---


def _section(dataset: Manifest) -> list[str]:
    tokens, counts = dataset["tokens"], dataset["counts"]
    facts = [
        ("conversations read", counts["read"]),
        ("rows for training", counts["train"]),
        ("rows held out", counts["eval"]),
        ("dropped, with nothing to learn", counts["dropped"]),
        ("tokens", tokens["total"]),
        ("tokens that are learned", tokens["supervised"]),
        ("context, in tokens", dataset["context"]),
        ("truncated to it", dataset["truncated"]),
    ]
    if dataset["split"] is not None:
        cut = dataset["split"]
        facts.append(("conversations cut at turns", cut["conversations"]))
        facts.append(("pieces they became", cut["pieces"]))
    facts += [
        ("seed and share of the held-out", f"{dataset['seed']}, {dataset['eval_ratio']}"),
        ("weights other than 1", "yes, in the .safetensors" if dataset["weighted"] else "none"),
        ("tokeniser", f"`{dataset['tokenizer_hash']}`"),
        ("template", f"`{dataset['template_hash']}`"),
        ("made by", dataset["made_by"]),
    ]
    lengths = dataset["lengths"]
    return [
        f"## {dataset['model_type']}",
        f"```sh\n{dataset['command']}\n```",
        _table(("", ""), [(label, _number(value)) for label, value in facts]),
        "Tokens of a row:",
        _table(tuple(lengths), [tuple(_number(value) for value in lengths.values())]),
        "Models that answered:",
        _counts("model", dataset["models"]),
        *_languages(dataset),
    ]


def _languages(dataset: Manifest) -> list[str]:
    found = dataset["languages"]
    if not found["given"] and found["detected"] is None:
        return ["Languages: not detected (the `data` extra was not installed)."]
    blocks = []
    if found["given"]:
        blocks += ["Languages, as the conversations say:", _counts("language", found["given"])]
    if found["unlabelled"]:
        if found["detected"] is None:
            return [*blocks, f"{found['unlabelled']} conversations name no language."]
        size = sum(found["detected"].values())
        blocks += [
            f"Languages, detected in {size} of the {found['unlabelled']} conversations that name "
            "none:",
            _counts("language", found["detected"]),
        ]
    return blocks


def _counts(label: str, counts: dict[str, int]) -> str:
    rows = [(_plain(name), _number(count)) for name, count in list(counts.items())[:_LISTED]]
    rest = list(counts.values())[_LISTED:]
    if rest:
        rows.append((f"{len(rest)} others", _number(sum(rest))))
    return _table((label, "conversations"), rows)


def _files(datasets: Sequence[Manifest], *beside: dict[str, dict[str, Any]]) -> str:
    listed: dict[str, dict[str, Any]] = {}
    for dataset in datasets:
        listed |= dataset["files"]
    for more in beside:
        listed |= more
    rows = [
        (f"`{name}`", _number(found["bytes"]), f"`{found['sha256']}`")
        for name, found in sorted(listed.items())
    ]
    return _table(("file", "bytes", "SHA-256"), rows)


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def _number(value: object) -> str:
    return f"{value:,}" if isinstance(value, int | float) else str(value)


def _plain(text: str) -> str:
    """Somebody's label, as text within a table."""
    shown = " ".join(text.split())
    shown = shown if len(shown) <= _LONGEST else shown[: _LONGEST - 1] + "…"
    for mark in "\\`*_[]<>|&":
        shown = shown.replace(mark, f"\\{mark}")
    return shown
