"""The report as a page: what it shows, that text never becomes markup, a browser's view of it."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from openchat_cli.data.clean import clean
from openchat_cli.data.overview import EXAMPLES, Lengths
from openchat_cli.data.settings import CleanSettings
from tests.conftest import RunCli
from tests.data import faults, generator
from tests.web.browser import CHROMIUM, Browser

HOSTILE = (
    "</script><script>document.title='pwned'</script>",
    "<img src=x onerror=\"document.title='pwned'\">",
    "<style>*{display:none}</style><svg onload=alert(1)>",
    "\u202egnp.exe \x00 \x1b[31m <!-- & ]]>",
    "javascript:document.title='pwned'",
)


def hostile(folder: Path) -> Path:
    """Rows whose ids, models, roles and texts all try to break out, in a file that tries it too."""
    folder.mkdir()
    lines = []
    for text in HOSTILE:
        ask, say = {"from": "human", "value": text}, {"from": "gpt", "value": f"{text} it says"}
        for turns in ([ask, say], [ask], [ask, {"from": text, "value": text}], [ask, say]):
            lines.append({"id": text, "model": f"Model: {text}"[:60], "conversations": turns})
        lines.append({text: text})
        blocked = {"from": "gpt", "value": f"{text} OpenAI {text}"}
        lines.append({"id": text, "conversations": [ask, blocked]})
    path = folder / "<img src=x onerror=alert(1)>.jsonl"
    path.write_text("\n".join(map(json.dumps, lines)), "utf-8")
    return folder


def made(tmp_path: Path) -> tuple[str, dict[str, object]]:
    faults.fill(tmp_path / "in", 150, seed=3)
    settings = CleanSettings(tmp_path / "in", tmp_path / "out", report="html")
    summary = clean(settings)
    assert summary.outputs[-1] == tmp_path / "out" / "clean.report.html"
    page = summary.outputs[-1].read_text("utf-8")
    return page, json.loads((tmp_path / "out" / "clean.report.json").read_text("utf-8"))


def test_the_page_says_what_the_json_says(tmp_path: Path) -> None:
    pytest.importorskip("py3langid")
    page, report = made(tmp_path)
    assert f"Of <b>{report['read']}</b> conversations, <b>{report['kept']}</b> were kept" in page
    reasons = report["reasons"]
    assert isinstance(reasons, dict)
    for code, count in reasons.items():
        row = rf"<td>{code}</td><td>[^<]+</td><td class=\"n\">{count}</td>"
        assert re.search(row, page), code
        part = page[page.index(f"<h3>{code}</h3>") :].partition("</details>")[0]
        assert part.count('class="example"') == min(count, EXAMPLES)
    for heading in ("Languages", "Models", "Sources", "Characters in each answer by gpt"):
        assert heading in page
    # Each chart has its title, its description and its numbers as a table.
    charts = re.findall(r"<svg .+?</svg>", page, re.S)
    assert len(charts) == 9
    assert all("<title>" in chart and "<desc>" in chart for chart in charts)
    assert page.count("<caption>") >= len(charts)
    assert re.search(r"(src|href)=\"(?!#|data:,)", page) is None


def test_the_same_bytes_for_any_workers(openchat: RunCli, tmp_path: Path) -> None:
    faults.fill(tmp_path / "in", 300, seed=5)
    for workers in (1, 2):
        options = ("--report", "html", "--workers", workers, "--quiet")
        ended = openchat("data", "clean", "in", f"out{workers}", *options)
        assert ended.returncode == 0, ended.stderr
    one, two = ((tmp_path / f"out{n}" / "clean.report.html").read_bytes() for n in (1, 2))
    assert one == two


def test_text_never_becomes_markup(tmp_path: Path) -> None:
    settings = CleanSettings(hostile(tmp_path / "in"), tmp_path / "out", report="html")
    clean(settings)
    page = (tmp_path / "out" / "clean.report.html").read_text("utf-8")
    assert page.count("<script") == 1 and "<img" not in page and "<style>*" not in page
    assert "&lt;img src=x" in page and "[U+202E]" in page


def test_where_it_cannot_be_written(openchat: RunCli, tmp_path: Path) -> None:
    faults.fill(tmp_path / "in", 5, seed=3)
    ended = openchat("data", "clean", "in", "-", "--report", "html")
    assert (ended.returncode, "--report html needs a folder" in ended.stderr) == (2, True)
    assert openchat("data", "clean", "in", "out", "--report", "pdf").returncode == 2
    page = tmp_path / "out" / "clean.report.html"
    for options, code in (((), 0), (("--force",), 0), ((), 2)):
        ended = openchat("data", "clean", "in", "out", "--report", "html", *options)
        assert ended.returncode == code, ended.stderr
        assert page.read_text("utf-8").endswith("</html>\n")


def test_the_page_is_not_taken_for_a_chat(openchat: RunCli, tmp_path: Path) -> None:
    page = generator.page([("human", "hi"), ("gpt", "hello")])
    (tmp_path / "0.html").write_bytes(page)
    for options in (("--report", "html"), ("--force",)):
        ended = openchat(
            "data", "clean", "0.html" if options[0] == "--report" else ".", ".", *options
        )
        assert ended.returncode == 0, ended.stderr
    report = json.loads((tmp_path / "clean.report.json").read_text("utf-8"))
    assert (report["kept"], report["reasons"]) == (1, {})
    # The second run replaced the first, whose page would tell of other conversations.
    assert not (tmp_path / "clean.report.html").exists()


def test_without_the_extra_the_page_says_how_to_get_languages(tmp_path: Path) -> None:
    faults.fill(tmp_path / "in", 5, seed=3)
    code = (
        "import importlib.util as u, sys; find = u.find_spec;"
        "u.find_spec = lambda name, *rest: None if name == 'py3langid' else find(name, *rest);"
        "from openchat_cli.cli.main import main; sys.exit(main(sys.argv[1:]))"
    )
    command = [sys.executable, "-c", code, "data", "clean", "in", "out", "--report", "html"]
    ended = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert ended.returncode == 0, ended.stderr
    page = (tmp_path / "out" / "clean.report.html").read_text("utf-8")
    assert "pip install &#x27;openchat-cli[data]&#x27;" in page


def test_lengths() -> None:
    lengths = Lengths()
    assert (lengths.steps(), lengths.percentile(0.5), lengths.n) == ([], 0, 0)
    for value in (0, 1, 2, 3, 9, 123_456):
        lengths.add(value)
    assert [(low, high) for low, high, _ in lengths.steps()][:5] == [
        *((0, 0), (1, 1), (2, 3), (4, 7), (8, 15)),
    ]
    assert sum(count for *_, count in lengths.steps()) == lengths.n == 6
    assert (lengths.percentile(0.5), lengths.percentile(1.0)) == (2, 123_000)
    assert (lengths.largest, lengths.total) == (123_456, 123_471)
    for value in range(1_000_000, 2_000_000, 997):
        lengths.add(value)
    assert len(lengths.counts) < 200


@pytest.mark.browser
@pytest.mark.skipif(CHROMIUM is None, reason="needs chromium")
@pytest.mark.parametrize(("width", "dark"), [(1280, False), (390, True)])
def test_in_a_browser(tmp_path: Path, width: int, dark: bool) -> None:
    clean(CleanSettings(hostile(tmp_path / "in"), tmp_path / "out", report="html"))
    with Browser(width=width, height=900, dark=dark) as browser:
        browser.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=900,
            deviceScaleFactor=1,
            mobile=width < 500,
        )
        url = (tmp_path / "out" / "clean.report.html").as_uri()
        browser.open(url)
        assert browser.run("document.title") == "OpenChat data: what was kept and dropped"
        assert browser.requests() == [url]
        assert browser.complaints() == []
        # Nothing sticks out to the side: wide things scroll inside themselves.
        assert browser.run("document.documentElement.scrollWidth <= innerWidth")
        assert browser.run("document.querySelectorAll('main img, main script').length") == 0
        browser.click("details.reason summary")
        assert browser.run("document.querySelector('details.reason').open")
        text = browser.run("document.querySelector('.example .text').textContent")
        assert text.startswith(HOSTILE[0][:20])
        light = (
            browser.run("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
        )
        assert light is not dark
        browser.click("#theme")
        assert browser.run("document.documentElement.dataset.theme") == (
            "light" if dark else "dark"
        )
