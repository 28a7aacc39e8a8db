"""Charts: their geometry, their words, and hostile labels."""

from __future__ import annotations

from bs4 import BeautifulSoup, Tag

from openchat_cli.web import charts
from openchat_cli.web.charts import Bar, Stack
from openchat_cli.web.html import Html


def svg(figure: Html) -> Tag:
    drawing = BeautifulSoup(figure, "html.parser").svg
    assert drawing is not None
    assert drawing["role"] == "img"
    assert drawing.title is not None and drawing.desc is not None
    assert drawing.title.text in str(drawing["aria-label"])
    return drawing


def words(drawing: Tag) -> list[str]:
    return [text.text for text in drawing.find_all("text")]


def test_bars_are_in_proportion_and_say_their_numbers() -> None:
    bars = [Bar("a", 50.0, 40.0, 60.0, note="n = 8"), Bar("<b>", 100.0)]
    drawing = svg(
        charts.interval_bars(bars, title="T", description="D", unit=" %", reference=(100.0, "= 1"))
    )
    first, second = (float(str(bar["width"])) for bar in drawing.select("rect.bar"))
    assert abs(2 * first - second) < 0.02
    assert len(drawing.select("path.whisker")) == 1
    assert words(drawing) == ["a · n = 8", "50.0 %  [40.0, 60.0]", "<b>", "100.0 %", "= 1"]


def test_stacks_fill_the_width() -> None:
    drawing = svg(charts.stacked([Stack("a", (6, 3, 1))], title="T", description="D"))
    widths = [float(str(drawing.select(f"rect.{name}")[0]["width"])) for name in charts_kinds()]
    assert abs(sum(widths) - charts.WIDTH) < 0.05
    assert [round(10 * width / charts.WIDTH) for width in widths] == [6, 3, 1]
    assert {"6", "3", "1", "win", "tie", "loss"} <= set(words(drawing))


def charts_kinds() -> list[str]:
    return [kind.style for kind in charts.OUTCOMES]


def test_heat_map_says_up_and_down_without_colour() -> None:
    drawing = svg(
        charts.heat_map(
            ["m"],
            ["x", "y", "z", "w"],
            [[120.0, 80.0, None, 100.0]],
            title="T",
            description="D",
            centre=100,
            span=40,
        )
    )
    assert words(drawing)[-4:] == ["120 ▲", "80 ▼", "–", "100"]
    assert drawing.select_one("rect.up") is not None and drawing.select_one("rect.down") is not None


def test_histogram_counts_every_value_once() -> None:
    drawing = svg(
        charts.histogram([0, 1, 1, 9, 10, 11], title="T", description="D", bins=10, low=0, high=10)
    )
    counts = [int(word) for word in words(drawing)[:-3]]
    assert counts == [1, 2, 3]
    assert words(drawing)[-3:] == ["0", "5", "10"]


def test_nothing_to_draw_is_no_error() -> None:
    svg(charts.interval_bars([], title="T", description="D"))
    svg(charts.stacked([Stack("a", (0, 0, 0))], title="T", description="D"))
    svg(charts.histogram([], title="T", description="D"))
    svg(charts.heat_map([], [], [], title="T", description="D", centre=0, span=1))
