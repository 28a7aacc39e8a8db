"""How soon the map's page is there and how fast it draws: `python tests/benchmarks/map.py`.

Pages of 6,000 and 50,000 points with conversations of some 2,500 characters, in a headless Chromium
without a GPU. The peer is plotly's scatter3d, which the original's page used, with the same points
and texts: `--plotly plotly.min.js`, or the plotly package of the Python that runs this.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import random
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))

import numpy as np

from openchat_cli.data.mapping.conversations import Facts, Turn
from openchat_cli.data.mapping.page import MapData, map_page
from openchat_cli.web.html import script_json
from tests.web.browser import CHROMIUM, Browser

CLUSTERS = 16
OPENINGS = 5
MOVES = 60


def words(draw: random.Random, count: int) -> str:
    """Text that packs about as well as chats do."""
    letters = "etaoinshrdlu"
    pool = ["".join(draw.choices(letters, k=draw.randint(2, 9))) for _ in range(400)]
    return " ".join(draw.choices(pool, k=count))


def made(count: int) -> tuple[MapData, list[list[Turn]]]:
    draw, numbers = random.Random(count), np.random.default_rng(count)
    labels = numbers.integers(0, CLUSTERS, count)
    centres = numbers.normal(size=(CLUSTERS, 3)) * 4
    points = (centres[labels] + numbers.normal(size=(count, 3))).astype(np.float32)
    texts = [words(draw, 190) for _ in range(200)]
    talks = [
        [("user", draw.choice(texts)[:600]), ("assistant", f"{k} {draw.choice(texts)}")]
        for k in range(count)
    ]
    facts = Facts(
        ids=[f"id{k}" for k in range(count)],
        titles=[talk[0][1][:120] for talk in talks],
        models=[draw.choice(["GPT-4", "GPT-3.5", None]) for _ in range(count)],
        languages=[draw.choice(["en", "zh", "de"]) for _ in range(count)],
        lengths=[sum(len(text) for _, text in talk) for talk in talks],
    )
    clusters = [{"id": k, "name": f"topic {k}", "words": [], "size": 0} for k in range(CLUSTERS)]
    return MapData("bench", "made", points, labels, clusters, facts, 10**6), talks


def plotly_page(script: Path, data: MapData, talks: list[list[Turn]]) -> str:
    trace = {
        "x": data.points[:, 0].tolist(),
        "y": data.points[:, 1].tolist(),
        "z": data.points[:, 2].tolist(),
        "type": "scatter3d",
        "mode": "markers",
        "marker": {"size": 3, "color": data.labels.tolist(), "colorscale": "Portland"},
    }
    texts = script_json([[text for _, text in talk] for talk in talks])
    return f"""<!doctype html><meta charset="utf-8"><div id="plot"></div>
<script>{script.read_text("utf-8")}</script>
<script type="application/json" id="texts">{texts}</script>
<script>
const texts = JSON.parse(document.getElementById("texts").textContent);
Plotly.newPlot("plot", [{json.dumps(trace)}], {{width: 1100, height: 750}}).then(() =>
  requestAnimationFrame(() => {{
    document.documentElement.dataset.readyMs = Math.round(performance.now());
  }}));
async function turnPlot(times) {{
  const found = [];
  for (let k = 0; k < times; k += 1) {{
    const began = performance.now(), a = k * 0.05;
    const eye = {{x: 2 * Math.cos(a), y: 2 * Math.sin(a), z: 0.6}};
    await Plotly.relayout("plot", {{"scene.camera.eye": eye}});
    found.push(performance.now() - began);
  }}
  return found;
}}
</script>"""


def ready_ms(browser: Browser, page: Path) -> float:
    browser.open(page.as_uri())
    deadline = time.monotonic() + 120
    while not browser.run("document.documentElement.dataset.readyMs"):
        assert time.monotonic() < deadline, "never ready"
        time.sleep(0.02)
    return float(browser.run("document.documentElement.dataset.readyMs"))


def dragged(browser: Browser) -> list[float]:
    """Milliseconds of each draw while a mouse drags."""
    before = browser.run("openchatMap.drawMs().length")
    where = {"button": "left", "buttons": 1}
    browser.call("Input.dispatchMouseEvent", type="mousePressed", x=800, y=450, **where)
    for step in range(MOVES):
        browser.call(
            "Input.dispatchMouseEvent", type="mouseMoved", x=800 + 4 * step, y=450 + step, **where
        )
    browser.call("Input.dispatchMouseEvent", type="mouseReleased", x=810, y=460, button="left")
    return list(browser.run("openchatMap.drawMs()"))[before:]


def promised(browser: Browser, script: str) -> Any:
    answer = browser.call(
        "Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True
    )
    return answer["result"]["value"]


def show(label: str, page: Path, opened: list[float], draws: list[float]) -> None:
    size = page.stat().st_size / 1e6
    print(
        f"  {label:24} {size:6.1f} MB   ready {statistics.median(opened):6.0f} ms "
        f"(best {min(opened):.0f})   draw {statistics.median(draws):6.2f} ms "
        f"(worst {max(draws):.1f})"
    )


def measure(count: int, plotly: Path | None, folder: Path) -> None:
    print(f"map page, {count:,} points (median of {OPENINGS} openings)")
    data, talks = made(count)
    page = folder / f"ours-{count}.html"
    page.write_text(map_page(data, talks), "utf-8")
    opened, draws = [], []
    for _ in range(OPENINGS):
        with Browser(width=1440, height=900) as browser:
            opened.append(ready_ms(browser, page))
            draws += dragged(browser)
    show("ours", page, opened, draws)
    if plotly is None:
        print("  plotly scatter3d         not measured: --plotly plotly.min.js")
        return
    page = folder / f"plotly-{count}.html"
    page.write_text(plotly_page(plotly, data, talks), "utf-8")
    opened, draws = [], []
    for _ in range(OPENINGS):
        with Browser(width=1440, height=900) as browser:
            opened.append(ready_ms(browser, page))
            draws += promised(browser, f"turnPlot({MOVES // 3})")
    show("plotly scatter3d", page, opened, draws)


def installed_plotly() -> Path | None:
    found = importlib.util.find_spec("plotly")
    if found is None or found.origin is None:
        return None
    path = Path(found.origin).parent / "package_data" / "plotly.min.js"
    return path if path.is_file() else None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--plotly", type=Path, default=installed_plotly())
    parser.add_argument("--points", type=int, nargs="*", default=[6_000, 50_000])
    options = parser.parse_args()
    if CHROMIUM is None:
        print("map page: not measured, chromium is not installed")
        return
    with tempfile.TemporaryDirectory() as folder:
        for count in options.points:
            measure(count, options.plotly, Path(folder))


if __name__ == "__main__":
    main()
