"""The map's page in a real Chromium, with real clicks, keys, wheels, touches and drops."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from openchat_cli.data.mapping.map import make_map
from openchat_cli.data.settings import MapSettings
from tests.conftest import RunCli
from tests.data.topics import conversation, mixed, write
from tests.web.browser import CHROMIUM, Browser

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed"),
]

MARKDOWN = """## Plan

Use **bold**, *soft* and `a < b` with [a link](https://example.org/x).

1. first
   ```python
   if a < b:
       print("<b>")
   ```
2. second
   - inner

> quoted

| a | b |
|---|---|
| 1 | 2 |

<img src=x onerror="window.__xss = 1">"""

HOSTILE = [
    "</script><script>window.__xss = 1</script><img src=x onerror='window.__xss = 1'>",
    "<!-- <script> ]]> &lt;b&gt; \\u003c/script",
    "\u202eevil\u202c \u2066isolated\u2069 \0 nul \ud800 lone",
    "שלום עולם مرحبا بالعالم",
    "[x](javascript:window.__xss=1) [y](data:text/html,<script>window.__xss=1</script>)",
    "`" * 30_000 + "*" * 9_000,
    "![" * 15_000,
    "> " * 10_000 + "deep",
    " " * 39_000 + "-x|",
    "word " * 200_000,
]


def made(folder: Path, rows: list[dict[str, Any]], **more: Any) -> str:
    source = write(folder / "rows.jsonl", rows)
    settings = MapSettings(source, folder, reduce="pca", **more)
    return make_map(settings).outputs[1].as_uri()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with Browser() as running:
        yield running


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> str:
    rows = mixed(15)
    rows[7]["messages"][1]["content"] += " Only here: zanzibar."
    rows[3]["messages"][1]["content"] = MARKDOWN
    return made(tmp_path_factory.mktemp("map"), rows, clusters=4)


def wait(browser: Browser, condition: str) -> None:
    deadline = time.monotonic() + 20
    while not browser.run(condition):
        assert time.monotonic() < deadline, f"never came true: {condition}"
        time.sleep(0.02)


def begin(browser: Browser, address: str) -> None:
    browser.events.clear()
    browser.open(address)
    wait(browser, "!!document.documentElement.dataset.readyMs && !!window.openchatMap")
    settle(browser)


def settle(browser: Browser) -> None:
    """Until what was asked for is drawn."""
    browser.call(
        "Runtime.evaluate",
        expression="new Promise(d => requestAnimationFrame(() => requestAnimationFrame(d)))",
        awaitPromise=True,
    )


def mouse(browser: Browser, kind: str, x: float, y: float, **more: Any) -> None:
    browser.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, **more)


def click(browser: Browser, x: float, y: float) -> None:
    mouse(browser, "mouseMoved", x, y)
    for kind in ("mousePressed", "mouseReleased"):
        mouse(browser, kind, x, y, button="left", clickCount=1)


def drag(browser: Browser, path: list[tuple[float, float]], *, shift: bool = False) -> None:
    keys = {"modifiers": 8} if shift else {}
    mouse(browser, "mousePressed", *path[0], button="left", buttons=1, clickCount=1, **keys)
    for x, y in path[1:]:
        mouse(browser, "mouseMoved", x, y, button="left", buttons=1, **keys)
    mouse(browser, "mouseReleased", *path[-1], button="left", clickCount=1, **keys)
    settle(browser)


def middle(browser: Browser) -> tuple[float, float]:
    box = browser.run(
        "(() => { const b = document.getElementById('points').getBoundingClientRect();"
        "return [b.x + b.width / 2, b.y + b.height / 2]; })()"
    )
    return box[0], box[1]


def on_top(browser: Browser) -> int:
    """A point that no other one covers."""
    count = browser.run("openchatMap.count()")
    return next(n for n in range(count) if browser.run(f"openchatMap.pick({n})") == n)


def text(browser: Browser, selector: str) -> str:
    found: str = browser.run(f"document.querySelector({json.dumps(selector)}).innerText")
    return found


def test_it_opens_without_a_network(browser: Browser, address: str) -> None:
    begin(browser, address)
    assert browser.run("openchatMap.count()") == 60
    assert text(browser, "#status") == "60 conversations"
    assert browser.run("document.querySelectorAll('#legend li').length") == 4
    assert int(browser.run("document.documentElement.dataset.readyMs")) > 0
    assert browser.run("openchatMap.draw()") >= 0
    assert {one for one in browser.requests() if not one.startswith("data:,")} == {address}
    assert browser.complaints() == []


def test_pixels_are_drawn_where_the_points_are(browser: Browser, address: str) -> None:
    begin(browser, address)
    x, y = browser.run(f"openchatMap.position({on_top(browser)})")
    color = (
        "((x, y) => { const c = document.getElementById('points'), b = c.getBoundingClientRect(),"
        "r = c.width / b.width, at = [(x - b.x) * r, (y - b.y) * r].map(Math.round);"
        "return [...c.getContext('2d').getImageData(...at, 1, 1).data]; })"
    )
    here, corner = browser.run(f"{color}({x}, {y})"), browser.run(f"{color}(400, 70)")
    differs = max(abs(a - b) for a, b in zip(here, corner, strict=True))
    assert differs > 40


def test_hover_names_and_click_opens(browser: Browser, address: str) -> None:
    begin(browser, address)
    point = on_top(browser)
    x, y = browser.run(f"openchatMap.position({point})")
    mouse(browser, "mouseMoved", x, y)
    title = mixed(15)[point]["messages"][0]["content"]
    assert title in text(browser, "#tip")
    click(browser, x, y)
    wait(browser, "!document.getElementById('reader').hidden")
    assert title in text(browser, "#turns")
    assert browser.run("document.querySelectorAll('#turns article').length") == 2
    assert browser.run("document.querySelector('#list [aria-current]').dataset.point") == str(point)
    browser.press("Escape")
    assert browser.run("document.getElementById('reader').hidden") is True
    mouse(browser, "mouseMoved", *middle(browser))
    assert browser.complaints() == []


def test_drag_wheel_and_keys_move_the_view(browser: Browser, address: str) -> None:
    begin(browser, address)
    x, y = middle(browser)
    first = browser.run("openchatMap.turn()")
    drag(browser, [(x, y), (x + 30, y), (x + 80, y + 20)])
    assert browser.run("openchatMap.turn()") != first
    assert browser.run("document.getElementById('reader').hidden") is True  # a drag is no click
    shift = browser.run("openchatMap.shift()")
    drag(browser, [(x, y), (x + 40, y + 10)], shift=True)
    moved = browser.run("openchatMap.shift()")
    assert moved[0] - shift[0] == pytest.approx(40, abs=2)
    point = on_top(browser)
    at = browser.run(f"openchatMap.position({point})")
    zoom = browser.run("openchatMap.zoom()")
    mouse(browser, "mouseWheel", *at, deltaX=0, deltaY=-200)
    wait(browser, f"openchatMap.zoom() > {zoom} * 1.2")
    settle(browser)
    assert browser.run(f"openchatMap.position({point})") == pytest.approx(at, abs=2)
    browser.run("document.getElementById('points').focus()")
    turn = browser.run("openchatMap.turn()")
    browser.press("ArrowLeft")
    assert browser.run("openchatMap.turn()") != turn
    zoom = browser.run("openchatMap.zoom()")
    browser.press("+")
    assert browser.run("openchatMap.zoom()") > zoom
    browser.press("0")
    settle(browser)
    assert browser.run("openchatMap.turn()") == pytest.approx(first, abs=1e-6)


def test_the_legend_filters(browser: Browser, address: str) -> None:
    begin(browser, address)
    size = int(text(browser, "#legend li:first-child .many"))
    browser.click("#legend li:first-child .toggle")
    assert browser.run("openchatMap.shown()") == 60 - size
    assert text(browser, "#status") == f"{60 - size} of 60 shown"
    browser.click("#legend li:first-child .toggle")
    assert browser.run("openchatMap.shown()") == 60
    browser.click("#legend li:first-child .only")
    assert browser.run("openchatMap.shown()") == size
    browser.click("#all-on")
    assert browser.run("openchatMap.shown()") == 60
    names = []
    for field in ("model", "language", "length"):
        browser.run(
            f"(() => {{ const e = document.getElementById('colour'); e.value = '{field}';"
            "e.dispatchEvent(new Event('change')); })()"
        )
        names.append(text(browser, "#legend"))
    assert "GPT-4" in names[0] and "Default (GPT-3.5)" in names[0] and "(none)" in names[0]
    assert "en" in names[1] and "zh" in names[1]
    assert "up to 500" in names[2]
    assert browser.complaints() == []


def test_search_reads_the_whole_text(browser: Browser, address: str) -> None:
    begin(browser, address)
    browser.press("/")
    for letter in "ZANZIBAR":
        browser.press(letter)
    wait(browser, "document.getElementById('found').textContent === '1 found'")
    assert browser.run("openchatMap.shown()") == 1
    browser.click("#list button")
    wait(browser, "!document.getElementById('reader').hidden")
    assert "zanzibar" in text(browser, "#turns")
    browser.run(
        "(() => { const e = document.getElementById('search'); e.value = '';"
        "e.dispatchEvent(new Event('input')); })()"
    )
    wait(browser, "openchatMap.shown() === 60")


def test_what_is_filtered_away_is_named_no_longer(browser: Browser, address: str) -> None:
    begin(browser, address)
    mouse(browser, "mouseMoved", *browser.run(f"openchatMap.position({on_top(browser)})"))
    wait(browser, "!document.getElementById('tip').hidden")
    browser.run("document.getElementById('search').focus()")
    browser.call("Input.insertText", text="zanzibar")
    wait(browser, "openchatMap.shown() === 1")
    assert browser.run("document.getElementById('tip').hidden") is True


def test_box_and_lasso_select_and_export(
    browser: Browser, address: str, tmp_path: Path, openchat: RunCli
) -> None:
    begin(browser, address)
    browser.call("Page.setDownloadBehavior", behavior="allow", downloadPath=str(tmp_path))
    ids = [row["id"] for row in mixed(15)]
    places = [browser.run(f"openchatMap.position({n})") for n in range(60)]
    x, y = places[0]
    left, right, top, bottom = x - 60, x + 60, y - 45, y + 45
    inside = [n for n, (a, b) in enumerate(places) if left < a < right and top < b < bottom]
    browser.click("#box")
    drag(browser, [(left, top), (x, y), (right, bottom)])
    assert text(browser, "#status") == f"{len(inside)} selected of 60"
    browser.click("#export")
    file = tmp_path / "conversations.ids.txt"
    deadline = time.monotonic() + 10
    while not file.is_file():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert file.read_text("utf-8").splitlines() == [ids[n] for n in inside]
    rows = Path(address.removeprefix("file://")).parent / "rows.jsonl"
    ended = openchat("data", "filter", rows, "out", "--model", "any", "--ids", file, "--json")
    assert ended.returncode == 0, ended.stderr
    assert json.loads(ended.stdout)["counts"]["kept"] == len(inside)
    browser.click("#clear")
    assert text(browser, "#status") == "60 conversations"
    browser.click("#lasso")
    drag(browser, [(x - 50, y), (x, y - 50), (x + 50, y), (x, y + 50), (x - 48, y + 2)])
    chosen = [n for n, (a, b) in enumerate(places) if abs(a - x) + abs(b - y) < 46]
    assert int(text(browser, "#status").split()[0]) >= len(chosen) > 0
    browser.press("Escape")
    assert text(browser, "#status") == "60 conversations"


def test_markdown_becomes_elements_and_html_stays_text(browser: Browser, address: str) -> None:
    begin(browser, address)
    browser.click("#list [data-point='3']")
    wait(browser, "document.querySelectorAll('#turns article').length === 2")
    said = "#turns article:last-child .said"
    count = f"[...document.querySelectorAll('{said} *')].map(e => e.localName)"
    names = browser.run(count)
    for name in ("strong", "em", "code", "a", "ol", "ul", "li", "pre", "blockquote", "table", "th"):
        assert name in names, name
    assert "img" not in names
    assert text(browser, f"{said} pre code") == 'if a < b:\n    print("<b>")'
    assert browser.run(f"document.querySelector('{said} a').rel") == "noopener noreferrer nofollow"
    assert browser.run(f"document.querySelectorAll('{said} > ol > li').length") == 2
    assert '<img src=x onerror="window.__xss = 1">' in text(browser, said)
    assert browser.run("typeof window.__xss") == "undefined"


def test_hostile_texts_do_nothing(browser: Browser, tmp_path: Path) -> None:
    rows = [
        conversation(f"{n} {one[:200]}", one, one, model=one[:70], language=one[:70])
        for n, one in enumerate(HOSTILE)
    ]
    page = made(tmp_path, [*rows, *mixed(5)])
    begin(browser, page)
    for point in range(len(HOSTILE)):
        browser.click(f"#list [data-point='{point}']")
        wait(browser, f"document.getElementById('reader').dataset.point === '{point}'")
        wait(browser, "document.querySelectorAll('#turns article').length === 2")
        links = browser.run("[...document.querySelectorAll('#turns a')].map(a => a.href)")
        assert links == []
    browser.click("#list [data-point='2']")
    wait(browser, "document.getElementById('turns').textContent.includes('[U+202E]')")
    assert browser.run("typeof window.__xss") == "undefined"
    assert browser.run("document.querySelectorAll('#turns img, #turns script').length") == 0
    assert browser.run("document.documentElement.scrollWidth <= innerWidth")
    assert {one for one in browser.requests() if not one.startswith("data:,")} == {page}
    assert browser.complaints() == []


def dropped(browser: Browser, path: Path) -> None:
    x, y = middle(browser)
    data = {"items": [], "files": [str(path)], "dragOperationsMask": 1}
    for kind in ("dragEnter", "dragOver", "drop"):
        browser.call("Input.dispatchDragEvent", type=kind, x=x, y=y, data=data)


def test_the_original_file_can_be_dropped(browser: Browser, address: str, tmp_path: Path) -> None:
    begin(browser, address)
    theirs = {
        "text": [
            "<s>Human: Hello there<|end_of_turn|>Assistant: Hi~<|end_of_turn|>",
            "Human: <img src=x onerror='window.__xss = 1'><|end_of_turn|>Assistant: No.",
            "User: From a coder<|end_of_turn|>Assistant: Yes.<|end_of_turn|>",
        ],
        "embedding": [[0, 1, 2], [3, 4, 5], [3.5, -4e3, 5]],
        "color": [0, 7, 7],
    }
    file = tmp_path / "ochat.train.visualizer.json"
    file.write_text(json.dumps(theirs), "utf-8")
    dropped(browser, file)
    wait(browser, "openchatMap.count() === 3")
    settle(browser)
    assert text(browser, "#title") == "ochat.train"
    assert "Cluster 0" in text(browser, "#legend") and "Cluster 7" in text(browser, "#legend")
    assert browser.run("document.getElementById('export').disabled") is True
    assert browser.run("[...document.getElementById('colour').options].map(o => o.value)") == [
        "cluster",
        "length",
    ]
    click(browser, *browser.run("openchatMap.position(2)"))
    wait(browser, "!document.getElementById('reader').hidden")
    assert "From a coder" in text(browser, "#turns")
    browser.click("#list [data-point='1']")
    wait(browser, "document.getElementById('turns').textContent.includes('onerror')")
    assert browser.run("typeof window.__xss") == "undefined"


def test_our_own_file_can_be_opened(browser: Browser, address: str) -> None:
    begin(browser, address)
    ours = Path(address.removeprefix("file://")).parent / "conversations.visualizer.json"
    document = browser.call("DOM.getDocument")["root"]["nodeId"]
    chosen = browser.call("DOM.querySelector", nodeId=document, selector="#file")["nodeId"]
    legend = sorted(text(browser, "#legend").split())
    browser.call("DOM.setFileInputFiles", nodeId=chosen, files=[str(ours)])
    wait(browser, "document.getElementById('about').textContent.startsWith('opened from')")
    assert browser.run("openchatMap.count()") == 60
    assert sorted(text(browser, "#legend").split()) == legend
    assert browser.run("document.getElementById('export').disabled") is False
    assert browser.complaints() == []


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{", "not JSON"),
        ("[]", "holds no points"),
        ("3", "not a visualizer.json"),
        ('{"text": [], "embedding": []}', "no list 'color'"),
        ('{"text": ["a"], "embedding": [[1, 2, 3], [1, 2, 3]], "color": [1, 2]}', "1 entries"),
        ('{"text": ["a"], "embedding": [3], "color": [1]}', "not a list of three numbers"),
    ],
)
def test_other_files_are_refused_by_name(
    browser: Browser, address: str, tmp_path: Path, content: str, said: str
) -> None:
    begin(browser, address)
    file = tmp_path / "odd.json"
    file.write_text(content)
    dropped(browser, file)
    wait(browser, "!document.getElementById('alert').hidden")
    assert "odd.json" in text(browser, "#alert")
    assert said in text(browser, "#alert")
    assert browser.run("openchatMap.count()") == 60


def test_dark_mode_follows_the_system_until_chosen(address: str) -> None:
    corner = "[...document.getElementById('points').getContext('2d').getImageData(5, 5, 1, 1).data]"
    with Browser(dark=True) as dark:
        begin(dark, address)
        night = dark.run(corner)
        dark.click("#theme")
        settle(dark)
        day = dark.run(corner)
    assert sum(night[:3]) < 150
    assert sum(day[:3]) > 500


def test_a_phone_pinches_and_reads(address: str) -> None:
    with Browser() as phone:
        phone.call(
            "Emulation.setDeviceMetricsOverride",
            width=390, height=844, deviceScaleFactor=2, mobile=True,
        )  # fmt: skip
        phone.call("Emulation.setTouchEmulationEnabled", enabled=True, maxTouchPoints=2)
        begin(phone, address)
        assert phone.run("document.documentElement.scrollWidth <= innerWidth")
        zoom = phone.run("openchatMap.zoom()")
        x, y = middle(phone)
        for gap, kind in ((20, "touchStart"), (40, "touchMove"), (80, "touchMove")):
            points = [{"x": x - gap, "y": y, "id": 0}, {"x": x + gap, "y": y, "id": 1}]
            phone.call("Input.dispatchTouchEvent", type=kind, touchPoints=points)
        phone.call("Input.dispatchTouchEvent", type="touchEnd", touchPoints=[])
        wait(phone, f"openchatMap.zoom() > 1.8 * {zoom}")
        phone.click("#panel")
        wait(phone, "getComputedStyle(document.getElementById('side')).visibility === 'visible'")
        wait(phone, "document.getElementById('side').getBoundingClientRect().bottom <= innerHeight")
        phone.click("#list button")
        wait(phone, "!document.getElementById('reader').hidden")
        wide = phone.run("document.getElementById('reader').getBoundingClientRect().width")
        assert wide == 390
        assert phone.run("document.documentElement.scrollWidth <= innerWidth")
        assert phone.complaints() == []


@pytest.mark.slow
def test_six_thousand_points_can_be_clicked(browser: Browser, tmp_path: Path) -> None:
    page = made(tmp_path, mixed(1500), clusters=12)
    begin(browser, page)
    assert browser.run("openchatMap.count()") == 6000
    point = on_top(browser)
    click(browser, *browser.run(f"openchatMap.position({point})"))
    wait(browser, "!document.getElementById('reader').hidden")
    assert browser.run("document.getElementById('reader').dataset.point") == str(point)
    assert browser.run("openchatMap.drawMs().length") > 0
    assert browser.complaints() == []


def test_marks_around_code_and_bars_in_cells(browser: Browser, tmp_path: Path) -> None:
    answer = "\n".join(
        [
            "**Use `print` here**, *or `x`*, [see `doc`](https://example.org) and `a**b` \\`c\\`.",
            "",
            "| a \\| b | `c \\| d` |",
            "|---|---|",
            "| 1 | 2 |",
        ]
    )
    begin(browser, made(tmp_path, [conversation("one", "Question", answer), *mixed(2)]))
    browser.click("#list [data-point='0']")
    wait(browser, "document.querySelectorAll('#turns article').length === 2")
    said = "#turns article:last-child .said"
    assert text(browser, f"{said} p") == "Use print here, or x, see doc and a**b `c`."
    for inside in ("strong > code", "em > code", "a > code"):
        assert browser.run(f"document.querySelectorAll('{said} {inside}').length") == 1, inside
    cells = browser.run(f"[...document.querySelectorAll('{said} th')].map(e => e.textContent)")
    assert cells == ["a | b", "c | d"]


def test_odd_ids_are_exported_so_that_filter_reads_them(
    browser: Browser, tmp_path: Path, openchat: RunCli
) -> None:
    ids = ["[1]", '{"id": "x"}', '"quoted"', " edges ", "two\nlines", "{open", "plain"]
    rows = [conversation(one, f"Question {n}", "Answer") for n, one in enumerate(ids)]
    rows.append(conversation("another", "Question", "Answer"))
    for kept in ids:
        folder = tmp_path / str(ids.index(kept))
        begin(browser, made(folder, rows))
        browser.call("Page.setDownloadBehavior", behavior="allow", downloadPath=str(folder))
        browser.run("document.getElementById('search').focus()")
        browser.call("Input.insertText", text=f"Question {ids.index(kept)}")
        wait(browser, "openchatMap.shown() === 1")
        browser.click("#export")
        file = folder / "conversations.ids.txt"
        deadline = time.monotonic() + 10
        while not file.is_file():
            assert time.monotonic() < deadline
            time.sleep(0.02)
        openchat("data", "filter", folder / "rows.jsonl", folder, "--model", "any", "--ids", file)
        found = (folder / "filtered.jsonl").read_text("utf-8").splitlines()
        assert [json.loads(row)["id"] for row in found] == [kept]


def test_names_of_clusters_are_not_cut_at_the_edges(address: str) -> None:
    column = (
        "((x) => { const c = document.getElementById('over');"
        "return c.getContext('2d').getImageData(x < 0 ? c.width + x : x, 0, 1, c.height).data"
        ".some(one => one > 0); })"
    )
    with Browser(width=700) as narrow:
        begin(narrow, address)
        for _ in range(6):
            assert [narrow.run(f"{column}({x})") for x in (0, -1)] == [False, False]
            narrow.run("document.getElementById('points').focus()")
            narrow.press("ArrowLeft")
            narrow.press("+")
            settle(narrow)
