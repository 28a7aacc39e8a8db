"""`data convert` against the plain way: a tokeniser, a Python loop per message, `json.dump`.

CPU seconds of one thread, each way from the rows on disk to the files on disk. The plain ways:
SentencePiece (LLaMA), and the slow GPT-2 tokeniser of transformers 4.57 (StarCoder), which runs in
an environment of its own that is made once in the user's cache folder.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
import venv
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.benchmarks.parts import corpus, table

if TYPE_CHECKING:
    from openchat_cli.data.spool import TokenRow

MADE = 4_000  # conversations where there are no real ones
PINNED = "transformers==4.57.6"
CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "openchat-benchmark"
CONTEXTS = {"openchat": 2048, "opencoder": 8192}
EOT = {"openchat": 32000, "opencoder": 49152}


def run() -> None:
    """Print the ratios; what a peer needs and is not there is said."""
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        rows = folder / "rows.jsonl"
        corpora = [("real conversations", corpus.write(rows, corpus.real()))]
        for what, count in [*corpora, ("made-up conversations", 0)]:
            if what.startswith("made"):
                count = corpus.write(rows, corpus.made(MADE))
            if count:
                _llama(folder, rows, f"{count:,} {what}")
                _starcoder(folder, rows, f"{count:,} {what}")
        _json(folder)


def _llama(folder: Path, rows: Path, title: str) -> None:
    model = corpus.SHARED / "tokenizers" / "llama"
    if not model.is_dir():
        from tests.core.small import make_sentencepiece

        model = make_sentencepiece(folder / "llama") if not (folder / "llama").exists() else model
    import sentencepiece

    peer = sentencepiece.SentencePieceProcessor(model_file=str(model / "tokenizer.model"))
    ours = _ours(folder, rows, "openchat", model)
    loop = _seconds(lambda: plain_way(rows, "openchat", peer.encode))
    whole = _seconds(lambda: _to_files(folder, rows, "openchat", peer.encode, peer.decode))
    table(
        f"convert for LLaMA, {title}",
        [
            ("openchat data convert, all its files", f"{ours:.2f} s", ""),
            _row("SentencePiece, a loop per message, json.dump", whole, ours, 1.5),
            _row("its loop alone, nothing written", loop, ours, None),
        ],
    )


def _starcoder(folder: Path, rows: Path, title: str) -> None:
    model = corpus.SHARED / "tokenizers" / "starcoder"
    if not (model / "vocab.json").is_file():
        table(f"convert for StarCoder, {title}", [("no vocab.json and merges.txt", "", "")])
        return
    found: list[tuple[str, str, str]] = []
    ours = _ours(folder, rows, "opencoder", model)
    found.append(("openchat data convert, all its files", f"{ours:.2f} s", ""))
    python = environment()
    if python is None:
        found.append((f"the slow tokeniser: {PINNED} can't be installed", "", ""))
    else:
        command = [python, __file__, str(rows), str(model), str(folder / "peer")]
        offline = {**os.environ, "PYTHONPATH": str(corpus.ROOT), "HF_HUB_OFFLINE": "1"}
        ended = subprocess.run(command, env=offline, capture_output=True, check=True, text=True)
        whole, loop = json.loads(ended.stdout.splitlines()[-1])
        found.append(_row("the slow GPT-2 tokeniser, a loop, json.dump", whole, ours, 8))
        found.append(_row("its loop alone, nothing written", loop, ours, None))
    table(f"convert for StarCoder, {title}", found)


def _row(what: str, peer: float, ours: float, bar: float | None) -> tuple[str, str, str]:
    reached = f"ours: {peer / ours:.1f} times as fast"
    return what, f"{peer:.2f} s", reached + (f" (bar: {bar})" if bar else "")


def _ours(folder: Path, rows: Path, kind: str, model: Path) -> float:
    from openchat_cli.data.convert import convert
    from openchat_cli.data.settings import ConvertSettings

    settings = ConvertSettings(rows, folder / "out", kind, model, force=True)
    convert(settings)  # imports, and pages of the disk
    return _seconds(lambda: convert(settings))


def _seconds(work: Callable[[], Any]) -> float:
    began = time.process_time()
    work()
    return time.process_time() - began


# --- the plain way; it also runs in the other environment, so it imports nothing of ours ---


def plain_way(
    rows: Path, kind: str, encode: Callable[[str], list[int]]
) -> list[tuple[list[int], list[bool]]]:
    """(ids, mask) of each row: BOS, then prefix, text and EOT of each message, truncated."""
    prefixes = {"openchat": ("Human: ", "Assistant: "), "opencoder": ("User:", "Assistant:")}[kind]
    found = []
    with rows.open(encoding="utf-8") as stream:
        for line in stream:
            ids = [1] if kind == "openchat" else []
            mask = [False] * len(ids)
            for message in json.loads(line)["messages"]:
                learned = message["role"] == "assistant"
                prefix = encode(prefixes[learned])
                text = [*encode(message["content"]), EOT[kind]]
                ids += prefix + text
                mask += [False] * len(prefix) + [learned] * len(text)
            found.append((ids[: CONTEXTS[kind]], mask[: CONTEXTS[kind]]))
    return found


def _to_files(
    folder: Path,
    rows: Path,
    kind: str,
    encode: Callable[[str], list[int]],
    decode: Callable[[list[int]], str],
) -> None:
    found = plain_way(rows, kind, encode)
    texts = [decode([token for token in ids if token < EOT[kind]]) for ids, _ in found]
    for name, value in (("tokens", found), ("texts", texts)):
        with (folder / f"peer.{name}.json").open("w") as stream:
            json.dump(value, stream)


def environment() -> str | None:
    """The Python of an environment with the peer, made at the first use; None without a network."""
    home = CACHE / PINNED
    python = home / "bin" / "python"
    if not (home / "ready").exists():
        venv.create(home, with_pip=True, clear=True)
        pip = [str(python), "-m", "pip", "install", "--quiet", PINNED]
        if subprocess.run(pip, capture_output=True).returncode:
            return None
        (home / "ready").touch()
    return str(python)


def _slow_peer(rows: Path, model: Path, folder: Path) -> None:
    """In the other environment: print the seconds with files and without."""
    from transformers import GPT2Tokenizer

    def fresh() -> Any:  # it remembers words: each measurement begins with none
        return GPT2Tokenizer(str(model / "vocab.json"), str(model / "merges.txt"))

    folder.mkdir(exist_ok=True)
    one, other = fresh(), fresh()
    whole = _seconds(lambda: _to_files(folder, rows, "opencoder", one.encode, one.decode))
    loop = _seconds(lambda: plain_way(rows, "opencoder", other.encode))
    print(json.dumps([whole, loop]))


# --- JSON ---


def _json(folder: Path) -> None:
    from openchat_cli.data.parts import SplitWriter, numbers, record

    rows = _token_rows()
    value = [[memoryview(row.packed).cast("i").tolist(), _mask(row)] for row in rows]
    total = sum(len(row.packed) for row in rows) // 4

    def ours() -> None:
        known = numbers(50_000)
        with (folder / "json.ours").open("wb") as stream:
            for row in rows:
                stream.write(record(row, known) + b",\n")

    def all_files() -> None:
        names = ("tokens", "texts", "twin")
        streams = [(folder / f"json.{name}").open("wb") for name in names]
        writer = SplitWriter(*streams, rows=len(rows), total=total, vocab_size=50_000)
        for row in rows:
            writer.add(row)
        writer.finish()
        for stream in streams:
            stream.close()

    def peer() -> None:
        with (folder / "json.peer").open("w") as stream:
            json.dump(value, stream)

    all_files()
    mine, three, theirs = _seconds(ours), _seconds(all_files), _seconds(peer)
    if json.loads((folder / "json.tokens").read_bytes()) != value:
        raise RuntimeError("the JSON differs")
    table(
        f"writing [[ids, mask], …] of {total:,} tokens to a file",
        [
            ("ours", f"{mine:.2f} s", ""),
            ("ours with its texts and its memory-mapped twin", f"{three:.2f} s", ""),
            _row("json.dump", theirs, mine, 4),
        ],
    )


def _token_rows() -> list[TokenRow]:
    import random
    from array import array

    from openchat_cli.data.spool import TokenRow

    rng = random.Random(1)
    rows = []
    for _ in range(2_000):
        turns = [rng.randrange(20, 400) for _ in range(4)]
        ids = array("i", rng.choices(range(50_000), k=sum(turns)))
        runs = [(length, float(at % 2)) for at, length in enumerate(turns)]
        rows.append(TokenRow(ids.tobytes(), runs, b'""'))
    return rows


def _mask(row: TokenRow) -> list[bool]:
    return [bool(weight) for length, weight in row.runs for _ in range(length)]


def _main(arguments: Sequence[str]) -> None:
    if arguments:
        _slow_peer(*map(Path, arguments))
    else:
        run()


if __name__ == "__main__":
    _main(sys.argv[1:])
