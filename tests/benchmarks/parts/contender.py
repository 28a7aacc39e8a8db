"""One way of cleaning pages, as a process: `python contender.py WAY`.

It reads paths, several a line between tabs, and answers with those pages' CPU seconds. The ways
of others run in an environment of their own (see parts/clean.py), so nothing of the project is
imported but by `ours`.
"""

from __future__ import annotations

import json
import re
import sys
import time
from collections.abc import Callable
from pathlib import Path

Way = Callable[[str], object]


def _ours(converter: str) -> Way:
    from openchat_cli.data import sources
    from openchat_cli.data.worker import Rules, work

    rules = Rules(converter, ("openai",))  # type: ignore[arg-type]  # the name is one of ours

    def clean(path: str) -> object:
        return work(rules, list(sources.items(Path(path))))

    return clean


def _bare_json() -> Way:
    from openchat_cli.data import pages

    return lambda path: pages.next_data(Path(path).read_bytes())


def _bs4(path: str) -> object:
    from bs4 import BeautifulSoup

    soup = BeautifulSoup(Path(path).read_bytes(), "html.parser")
    return soup.find("script", id="__NEXT_DATA__")


def _plain_way(path: str) -> object:
    import markdownify  # type: ignore[import-not-found]  # an environment of the benchmark's own
    from bs4 import BeautifulSoup

    soup = BeautifulSoup(Path(path).read_bytes(), "html.parser")
    found = soup.find("script", id="__NEXT_DATA__")
    return _converted(json.loads(found.get_text()), markdownify.markdownify)  # type: ignore[union-attr]  # it is there


_SCRIPT = re.compile(rb'<script id="__NEXT_DATA__"[^>]*>(.*?)</script>', re.S)


def script(page: bytes) -> bytes:
    """The data of a page of the benchmark."""
    found = _SCRIPT.search(page)
    assert found is not None
    return found[1]


def _by_bytes(convert: Callable[[str], object]) -> Way:
    """The script found by bytes, so that only the converters differ."""

    def clean(path: str) -> object:
        return _converted(json.loads(script(Path(path).read_bytes())), convert)

    return clean


def _converted(data: object, convert: Callable[[str], object]) -> list[object]:
    items = data["props"]["pageProps"]["content"]["items"]  # type: ignore[index]  # it is a page's
    return [convert(item["value"]) for item in items if item["from"] == "gpt"]


def _html2text() -> Way:
    from html2text import HTML2Text

    return _by_bytes(lambda html: HTML2Text(bodywidth=0).handle(html))


def _html_to_markdown() -> Way:
    from html_to_markdown import convert  # type: ignore[import-not-found]  # as above

    return _by_bytes(convert)


WAYS: dict[str, Callable[[], Way]] = {
    "ours": lambda: _ours("exact"),
    "json": _bare_json,
    "bs4": lambda: _bs4,
    "plain": lambda: _plain_way,
    "html2text": _html2text,
    "html-to-markdown": _html_to_markdown,
}


def main() -> None:
    way = WAYS[sys.argv[1]]()
    for line in sys.stdin:
        taken = 0.0
        for path in line.rstrip("\n").split("\t"):
            began = time.process_time()
            way(path)
            taken += time.process_time() - began
        print(taken, flush=True)


if __name__ == "__main__":
    main()
