"""How fast pages are cleaned and conversations converted: `python tests/benchmarks/data.py`.

CPU seconds of one process, page by page. The plain way of 2023 (the whole page through
beautifulsoup4's html.parser, then markdownify) is measured where markdownify is installed; the bare
JSON of each page is the limit that nothing can beat.
"""

from __future__ import annotations

import importlib.util
import json
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from openchat_cli.data import pages as page_data
from openchat_cli.data import sources
from openchat_cli.data.convert import convert
from openchat_cli.data.settings import ConvertSettings
from openchat_cli.data.worker import Rules, work
from tests.data import generator

COUNT = 400
TOKENIZERS = Path(__file__).parents[3] / "shared" / "data" / "tokenizers"


def ours(path: Path) -> None:
    batch = list(sources.items(path))
    work(Rules("exact", ("openai",)), batch)


def with_html2text(path: Path) -> None:
    batch = list(sources.items(path))
    work(Rules("html2text", ("openai",)), batch)


def plain_way(path: Path) -> None:
    import markdownify  # type: ignore[import-not-found]  # an environment of the benchmark's own
    from bs4 import BeautifulSoup

    soup = BeautifulSoup(path.read_bytes(), "html.parser")
    data = json.loads(soup.find("script", id="__NEXT_DATA__").get_text())
    for item in data["props"]["pageProps"]["content"]["items"]:
        markdownify.markdownify(item["value"]).strip()


def whole_page_parse(path: Path) -> None:
    from bs4 import BeautifulSoup

    BeautifulSoup(path.read_bytes(), "html.parser").find("script", id="__NEXT_DATA__")


def bare_json(path: Path) -> None:
    page_data.next_data(path.read_bytes())


def seconds(run: Callable[[Path], None], files: list[Path]) -> float:
    run(files[0])
    began = time.process_time()
    for path in files:
        run(path)
    return time.process_time() - began


def clean_pages(folder: Path, *, full: bool) -> None:
    made = [page for page in generator.pages(COUNT, full=full) if page.reason is None]
    generator.write(folder, made)
    files = sorted(folder.iterdir())
    size = sum(path.stat().st_size for path in files) / 1e6
    print(f"clean, {'full pages' if full else 'script only'}: {len(files)} pages, {size:.1f} MB")
    base = seconds(ours, files)
    print(f"  {'ours':32} {len(files) / base:8.0f} pages/s")
    ways: list[tuple[str, str, Callable[[Path], None]]] = [
        ("bare JSON (the limit)", "json", bare_json),
        ("whole page through bs4, no more", "bs4", whole_page_parse),
        ("html2text, script by bytes", "html2text", with_html2text),
        ("the plain way of 2023", "markdownify", plain_way),
    ]
    for name, package, way in ways:
        if importlib.util.find_spec(package) is None:
            print(f"  {name:32} {package} is not installed")
            continue
        taken = seconds(way, files)
        print(
            f"  {name:32} {len(files) / taken:8.0f} pages/s, ours: {taken / base:.2g} times as fast"
        )


def convert_rows(folder: Path) -> None:
    made = [page for page in generator.pages(COUNT) if page.reason is None]
    rows = folder / "rows.jsonl"
    once = list(generator.dump_rows(made))
    lines = [json.dumps({**row, "id": f"{row['id']}-{k}"}) for k in range(10) for row in once]
    rows.write_text("\n".join(lines), "utf-8")
    for name, tokenizer in (("openchat", "llama"), ("opencoder", "starcoder")):
        path = TOKENIZERS / tokenizer
        if not path.is_dir():
            print(f"convert, {name}: no tokeniser at {path}")
            continue
        settings = ConvertSettings(rows, folder / "out", name, path, force=True)
        convert(settings)
        began = time.process_time()
        summary = convert(settings)
        taken = time.process_time() - began
        print(
            f"convert, {name}: {len(lines) / taken:.0f} conversations/s, "
            f"{summary.tokens / taken:.0f} tokens/s"
        )


def main() -> None:
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as name:
        clean_pages(Path(name) / "script", full=False)
        clean_pages(Path(name) / "full", full=True)
        convert_rows(Path(name))


if __name__ == "__main__":
    main()
