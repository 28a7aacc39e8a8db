"""clean.report.html: what was kept and dropped and why, on one page that needs no network.

Text of the conversations only goes through web/html.py, which lets none of it become markup.
"""

from __future__ import annotations

from collections.abc import Sequence

from openchat_cli.core.errors import MissingExtraError
from openchat_cli.data.candidates import REASONS
from openchat_cli.data.ledger import CleanSummary, by_reason
from openchat_cli.data.overview import SAMPLED, Example, Lengths, Overview
from openchat_cli.data.settings import CleanSettings
from openchat_cli.web import charts
from openchat_cli.web.html import Html, join, tag
from openchat_cli.web.shell import asset, page
from openchat_cli.web.tables import number, table

_SHOWN = 30  # rows of a table of models, languages, sources or pairs
_KEPT_OR_NOT = (charts.Kind("kept", "win"), charts.Kind("dropped", "loss", hatched=True))
_PARTS = {
    "totals": "Totals",
    "reasons": "Why conversations were dropped",
    "lengths": "Lengths of what was kept",
    "languages": "Languages",
    "models": "Models",
    "sources": "Sources",
}


def clean_page(settings: CleanSettings, summary: CleanSummary) -> Html:
    """The whole document."""
    title = "OpenChat data: what was kept and dropped"
    links = [tag("li", tag("a", words, href=f"#{name}")) for name, words in _PARTS.items()]
    body = join(
        [
            tag("a", "Skip to the totals", href="#totals", class_="skip"),
            tag("header", _head(title, settings, summary)),
            tag("nav", tag("ul", *links), aria_label="Parts of this page", class_="noprint"),
            tag(
                "main",
                _part("totals", _totals(summary)),
                _part("reasons", *_reasons(settings, summary)),
                _part("lengths", *_lengths(summary.overview)),
                _part("languages", *_languages(summary.overview)),
                _part("models", *_models(summary)),
                _part("sources", *_sources(summary.overview)),
            ),
        ]
    )
    return page(title, body, css=asset("openchat_cli.data", "clean.css"))


def _part(name: str, *children: Html) -> Html:
    return tag("section", tag("h2", _PARTS[name], id=name), *children)


def _head(title: str, settings: CleanSettings, summary: CleanSummary) -> Html:
    theme = tag("button", "Light / dark", type="button", id="theme", hidden=True, class_="noprint")
    lead = tag(
        "p",
        "Of ",
        tag("b", f"{summary.read:,}"),
        " conversations, ",
        tag("b", f"{summary.kept:,}"),
        " were kept and ",
        tag("b", f"{summary.dropped:,}"),
        " dropped.",
        class_="lead",
    )
    near = "off" if settings.near_dup is None else f"from a similarity of {settings.near_dup:g}"
    words = ", ".join(settings.blocked_words) or "none"
    how = (
        f"Converter: {settings.converter}. Near duplicates: {near}. Blocked words: {words}"
        f"{' (counted, not dropped)' if settings.keep_blocked else ''}."
    )
    top = tag("div", tag("h1", title), theme, class_="title")
    return join([top, lead, tag("p", how, class_="muted small")])


# --- totals and reasons ---


def _totals(summary: CleanSummary) -> Html:
    split = charts.stacked(
        [charts.Stack("All that was read", (summary.kept, summary.dropped))],
        kinds=_KEPT_OR_NOT,
        title="Kept and dropped",
        description=f"{summary.kept} kept and {summary.dropped} dropped of {summary.read}.",
    )
    notes = summary.notes
    rows = [
        ("Read", summary.read),
        ("Kept", summary.kept),
        ("Dropped", summary.dropped),
        ("Kept without their first turn, by gpt", notes["leading_gpt"]),
        ("Kept without their last turn, by human", notes["trailing_human"]),
        ("Kept without a blank system message", notes["empty_system"]),
        ("Kept with broken characters mended", notes["surrogates"]),
        ("Kept with an empty question", notes["empty_question"]),
        ("Kept under a new id, since an earlier one has theirs", notes["new_id"]),
        ("Kept though they say a blocked word", summary.blocked_kept.total()),
        ("Kept without a model", notes["no_model"]),
        ("Kept without the model that they named, which can't be one", notes["odd_model"]),
        ("Files that hold no chats, passed by", summary.ignored),
    ]
    shown = [
        [text, number(f"{count:,}")] for at, (text, count) in enumerate(rows) if count or at < 3
    ]
    return join([split, table("Counts", ["What", "Conversations"], shown)])


def _reasons(settings: CleanSettings, summary: CleanSummary) -> list[Html]:
    counts = by_reason(summary)
    if not counts:
        return [tag("p", "Nothing was dropped.")]
    most_first = sorted(counts.items(), key=lambda pair: -pair[1])
    bars = charts.count_bars(
        most_first, title="Dropped, by reason", description="One bar a reason, the most first."
    )
    rows = [[code, REASONS[code], number(f"{count:,}")] for code, count in counts.items()]
    caption = "Reasons, in the order in which the rules are looked at"
    every = table(caption, ["Reason", "Meaning", "Conversations"], rows)
    parts = [bars, every, *_near(summary), *_words(settings, summary)]
    examples = [_examples(code, counts[code], summary.overview.examples[code]) for code in counts]
    return [*parts, tag("h3", "Examples"), *examples]


def _near(summary: CleanSummary) -> list[Html]:
    if not summary.near:
        return []
    rows = [
        [pair.kept_id, pair.dropped_id, f"{pair.source}, {pair.where}", f"{pair.similarity:.3f}"]
        for pair in summary.near[:_SHOWN]
    ]
    caption = f"Near duplicates ({_of(len(rows), len(summary.near))}; all are in the JSON)"
    return [_folded("Pairs", table(caption, ["Kept", "Dropped", "Where", "Similarity"], rows))]


def _words(settings: CleanSettings, summary: CleanSummary) -> list[Html]:
    found = summary.blocked_kept + summary.blocked_dropped
    if not found:
        return []
    rows = [[word, number(f"{count:,}")] for word, count in found.most_common(_SHOWN)]
    done = "kept" if settings.keep_blocked else "dropped"
    caption = f"Blocked words that were met first ({_of(len(rows), len(found))}; all were {done})"
    return [_folded("Blocked words", table(caption, ["Word", "Conversations"], rows))]


def _examples(code: str, count: int, examples: Sequence[Example]) -> Html:
    head = tag("summary", tag("h3", code), f" · {REASONS[code]} · {_of(len(examples), count)}")
    return tag("details", head, *(_example(one) for one in examples), class_="reason")


def _example(example: Example) -> Html:
    row = example.row
    place = ", ".join(filter(None, (row.source, row.where)))
    facts = [f"id {row.id}" if row.id else "", row.detail]
    if row.kept_id is not None:
        facts.insert(1, f"repeats {row.kept_id}")
    text = tag("div", example.text, class_="text plain", dir="auto") if example.text else Html("")
    return tag(
        "div",
        tag("div", place, class_="place"),
        tag("div", " · ".join(filter(None, facts)), class_="muted small"),
        text,
        class_="example",
    )


# --- what was kept ---


def _lengths(overview: Overview) -> list[Html]:
    return [
        *_histogram("Messages in each conversation", overview.turns),
        *_histogram("Characters in each conversation", overview.characters),
        *_histogram("Characters in each human message", overview.questions),
        *_histogram("Characters in each answer by gpt", overview.answers),
    ]


def _histogram(title: str, lengths: Lengths) -> list[Html]:
    if not lengths.n:
        return []
    bins = [(_span(low, high), count) for low, high, count in lengths.steps()]
    figures = (
        f"mean {lengths.total / lengths.n:,.1f}, median {lengths.percentile(0.5):,}, 90 % up to "
        f"{lengths.percentile(0.9):,}, 99 % up to {lengths.percentile(0.99):,}, "
        f"longest {lengths.largest:,}"
    )
    chart = charts.columns(bins, title=title, description=f"Counts by length: {figures}.")
    rows = [[number(span), number(f"{count:,}")] for span, count in bins]
    whole = table(title, ["Length", "Count"], rows)
    head = tag("h3", title)
    return [head, tag("p", figures, class_="muted small"), chart, _folded("As a table", whole)]


def _span(low: int, high: int) -> str:
    return str(low) if low == high else f"{_short(low)}–{_short(high + 1 if high > 999 else high)}"


def _short(value: int) -> str:
    for size, unit in ((1 << 20, "Mi"), (1 << 10, "Ki")):
        if value >= size:
            return f"{value / size:g} {unit}"
    return str(value)


def _languages(overview: Overview) -> list[Html]:
    try:
        found = overview.languages()
    except MissingExtraError as error:
        return [tag("p", f"{error.message}. {error.hint}")]
    sampled = found.total()
    if sampled == overview.turns.n:
        lead = f"Of all {sampled:,} kept conversations."
    else:
        lead = (
            f"Of {sampled:,} of the {overview.turns.n:,} kept conversations, at most {SAMPLED:,}."
        )
    return [
        tag("p", lead + " What mixes languages counts as the one it begins with.", class_="muted"),
        *_counted("Languages, by ISO 639-1 code", "Language", found.most_common()),
    ]


def _models(summary: CleanSummary) -> list[Html]:
    counts = summary.models.most_common()
    missing, odd = summary.notes["no_model"], summary.notes["odd_model"]
    if missing:
        counts.append(("(no model named)", missing))
    if odd:
        counts.append(("(not credible, taken out)", odd))
    return _counted("Models, as the sources name them", "Model", counts)


def _counted(title: str, head: str, counts: Sequence[tuple[str, int]]) -> list[Html]:
    if not counts:
        return [tag("p", "Nothing was kept.")]
    shown = counts[:_SHOWN]
    description = f"The most frequent first: {_of(len(shown), len(counts))}."
    chart = charts.count_bars(shown, title=title, description=description)
    rows = [[name, number(f"{count:,}")] for name, count in shown]
    return [chart, _folded("As a table", table(title, [head, "Conversations"], rows))]


def _sources(overview: Overview) -> list[Html]:
    names = overview.kept_from + overview.dropped_from
    shown = names.most_common(_SHOWN)
    rows = [
        [
            name,
            number(f"{count:,}"),
            number(f"{overview.kept_from[name]:,}"),
            number(f"{overview.dropped_from[name]:,}"),
        ]
        for name, count in shown
    ]
    caption = f"Dumps by file, pages by folder ({_of(len(shown), len(names))})"
    stacks = [
        charts.Stack(name, (overview.kept_from[name], overview.dropped_from[name]))
        for name, _ in shown
    ]
    chart = charts.stacked(
        stacks, kinds=_KEPT_OR_NOT, title="Sources", description="Kept and dropped of each source."
    )
    return [chart, table(caption, ["Source", "Read", "Kept", "Dropped"], rows)]


def _folded(title: str, content: Html) -> Html:
    return tag("details", tag("summary", title), content)


def _of(shown: int, there: int) -> str:
    return f"all {there:,}" if shown == there else f"{shown:,} of {there:,}"
