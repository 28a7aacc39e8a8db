"""The map as one HTML page: points and titles at hand, the texts packed in parts beside them."""

from __future__ import annotations

import base64
import gzip
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from openchat_cli.core import jsonl
from openchat_cli.core.jsonl import Json
from openchat_cli.data.mapping.conversations import Facts, Turn
from openchat_cli.web.html import Html, join, tag
from openchat_cli.web.shell import asset, page

if TYPE_CHECKING:
    from numpy import int64
    from numpy.typing import NDArray

    from openchat_cli.data.embedding.local import Vectors

_IN_PART = 64  # conversations
_LARGEST = 32_767
_SCRIPTS = ("map_scene.js", "map_chat.js", "map_data.js", "map_app.js")
_PACKAGE = "openchat_cli.data"


@dataclass(frozen=True)
class MapData:
    """What the page shows. `clusters` are objects with `name`, `words` and `size`."""

    name: str
    about: str  # one line: how the points were found
    points: Vectors
    labels: NDArray[int64]
    clusters: Sequence[dict[str, Any]]
    facts: Facts
    limit: int  # characters of a conversation that are in the page


def map_page(data: MapData, conversations: Iterable[Sequence[Turn]]) -> Html:
    """The whole document; `conversations` in the order of the points."""
    texts = join(
        tag("script", Html(part), type="text/plain", id=f"part-{number}")
        for number, part in enumerate(_packed(conversations))
    )
    own = [asset(_PACKAGE, name) for name in _SCRIPTS]
    script = "\n".join([asset("openchat_cli.web", "markdown.js"), *own])
    css = asset(_PACKAGE, "map.css")
    # The texts come last: the points are drawn before they have been read.
    title, body = f"{data.name} - map", _body(data.name)
    return page(title, body, css=css, script=script, data=_payload(data), tail=texts)


def _payload(data: MapData) -> Json:
    facts = data.facts
    model_names, model_codes = _coded(facts.models)
    language_names, language_codes = _coded(facts.languages)
    return {
        "name": data.name,
        "about": data.about,
        "count": len(facts.ids),
        "inPart": _IN_PART,
        "limit": data.limit,
        "points": _quantised(data.points),
        "cluster": _base64(data.labels, "<u2"),
        "clusters": [{"name": one["name"], "words": one["words"]} for one in data.clusters],
        "models": model_names,
        "model": _base64(model_codes, "<u2"),
        "languages": language_names,
        "language": _base64(language_codes, "<u2"),
        "length": _base64(facts.lengths, "<u4"),
        "ids": facts.ids,
        "titles": facts.titles,
    }


def _quantised(points: Vectors) -> str:
    """Coordinates around their middle as int16: steps of 1/32767 of the map's half width."""
    import numpy as np

    middle = (points.min(axis=0) + points.max(axis=0)) / 2
    centred = points - middle
    width = float(np.abs(centred).max()) or 1.0
    return _base64(np.rint(centred / width * _LARGEST), "<i2")


def _base64(numbers: Any, kind: str) -> str:
    import numpy as np

    most = np.iinfo(np.dtype(kind)).max
    return base64.b64encode(np.minimum(numbers, most).astype(kind).tobytes()).decode()


def _coded(values: Sequence[str | None]) -> tuple[list[str | None], list[int]]:
    """The different values, the most frequent first, and each value's place among them."""
    counts: dict[str | None, int] = {}
    for value in values:
        counts[value] = counts.get(value, 0) + 1
    names = sorted(counts, key=lambda value: (-counts[value], value or ""))
    place = {name: index for index, name in enumerate(names)}
    return names, [place[value] for value in values]


def _packed(conversations: Iterable[Sequence[Turn]]) -> Iterator[str]:
    """The turns in parts of 64 conversations: JSON, gzip, base64."""
    part: list[Sequence[Turn]] = []
    for turns in conversations:
        part.append(turns)
        if len(part) == _IN_PART:
            yield _pack(part)
            part = []
    if part:
        yield _pack(part)


def _pack(part: list[Sequence[Turn]]) -> str:
    # mtime 0: the same conversations give the same bytes.
    packed = gzip.compress(jsonl.dumps(part).encode(), 6, mtime=0)
    return base64.b64encode(packed).decode()


# --- the page around the points ---


def _button(name: str, text: str, title: str, **attributes: str | bool) -> Html:
    return tag("button", text, type="button", id=name, title=title, **attributes)


def _body(name: str) -> Html:
    return join([_bar(name), _side(), _stage(), _reader()])


def _bar(name: str) -> Html:
    return tag(
        "header",
        tag("h1", name, id="title"),
        tag("p", "", id="about", class_="about muted small"),
        tag("label", "Search all text", for_="search", class_="hidden"),
        tag("input", type="search", id="search", placeholder="Search all text", autocomplete="off"),
        tag("span", "", id="found", class_="muted small", aria_live="polite"),
        _button("panel", "List", "Legend and list", aria_expanded="false", aria_controls="side"),
        _button("open", "Open", "Open a visualizer.json, ours or the original OpenChat's"),
        tag("input", type="file", id="file", accept=".json,application/json", hidden=True),
        _button("theme", "Light / dark", "Change the colours", hidden=True),
        class_="bar",
    )


def _side() -> Html:
    legend = tag(
        "section",
        tag(
            "div",
            tag("label", "Colour by", for_="colour"),
            tag("select", id="colour"),
            _button("all-on", "Show all", "Switch every filter of the legend off", class_="quiet"),
            class_="row",
        ),
        tag("ul", id="legend", aria_label="Legend: click to hide and show"),
        class_="legend",
    )
    results = tag(
        "section",
        tag(
            "div",
            tag("p", "", id="status", aria_live="polite"),
            _button("clear", "Clear", "Forget the selection", class_="quiet", hidden=True),
            _button("export", "Export ids", ""),
            class_="row",
        ),
        tag("ol", id="list", aria_label="Conversations"),
        _button("more", "Show more", "", hidden=True),
        class_="results",
    )
    return tag("aside", legend, results, id="side", aria_label="Legend and conversations")


def _stage() -> Html:
    tools = [
        _button("rotate", "Rotate", "Drag to rotate, shift-drag to move", aria_pressed="true"),
        _button("box", "Box", "Drag a box to select; shift adds", aria_pressed="false"),
        _button("lasso", "Lasso", "Draw around points to select", aria_pressed="false"),
        _button("names", "Names", "Names over the points", aria_pressed="true"),
        _button("spin", "Spin", "Turn by itself", aria_pressed="false"),
        _button("farther", "−", "Zoom out", aria_label="Zoom out"),
        _button("nearer", "+", "Zoom in", aria_label="Zoom in"),
        _button("home", "Reset", "Back to the first view"),
    ]
    canvas = tag(
        "canvas",
        id="points",
        tabindex="0",
        role="application",
        aria_label="Conversations as points in space. Arrow keys rotate, plus and minus zoom, "
        "0 resets; the list of conversations holds the same points.",
    )
    keys = "drag: rotate · wheel: zoom · shift-drag: move · click: read · / search · j k next, back"
    return tag(
        "main",
        canvas,
        tag("canvas", id="over", aria_hidden="true"),
        tag("div", *tools, class_="tools", role="toolbar", aria_label="Tools"),
        tag("p", keys, class_="keys muted small"),
        tag("div", id="tip", hidden=True, role="status"),
        tag("p", "", id="alert", class_="banner", role="alert", hidden=True),
        tag("div", "Drop a visualizer.json to look at it", id="drop", hidden=True),
        id="stage",
    )


def _reader() -> Html:
    head = tag(
        "header",
        tag(
            "div",
            _button("previous", "Back", "The one before in the list (k)"),
            _button("next", "Next", "The next in the list (j)"),
            _button("close", "Close", "Close (Escape)"),
            class_="row",
        ),
        tag("h2", "", id="reader-title", dir="auto"),
        tag("ul", id="facts"),
    )
    return tag(
        "aside", head, tag("div", id="turns"), id="reader", hidden=True, aria_label="Conversation"
    )
