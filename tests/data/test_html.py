"""HTML to Markdown: exact where it must be, the same picture everywhere, and never slow."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from openchat_cli.data.html import to_markdown, visible_text
from tests.data import chatgpt, roundtrip

EXAMPLES = {
    "code block": (
        '<pre><div class="bg-black"><div class="flex"><span>python</span><button>Copy code'
        '</button></div><div><code class="!whitespace-pre hljs language-python">'
        '<span class="hljs-keyword">def</span> a_b(x):\n\n'
        "    return x &lt; 1 <span>&amp;</span>&amp; y\n</code></div></div></pre>",
        "```python\ndef a_b(x):\n\n    return x < 1 && y\n```",
    ),
    "language by label": (
        "<pre><div><span>objective-c</span><button>Copy code</button></div><code>x\n</code></pre>",
        "```objective-c\nx\n```",
    ),
    "label without a button": (
        "<pre><div><div>bashCopy code</div></div><code>ls -l\n</code></pre>",
        "```bash\nls -l\n```",
    ),
    "fence in fence": (
        "<pre><code>````\n```js\n````\n</code></pre>",
        "`````\n````\n```js\n````\n`````",
    ),
    "breaks in code": ("<pre><code>a<br>  b<BR/>c</code></pre>", "```\na\n  b\nc\n```"),
    "breaks without code": ("<pre>a<br>b</pre>", "```\na\nb\n```"),
    "class without a word before it": (
        '<pre><code class="hljs javascript">x\n</code></pre>',
        "```javascript\nx\n```",
    ),
    "head before the block": (
        "<p>a</p><div><span>python</span><button>Copy code</button></div><pre><code>x\n</code>"
        "</pre>",
        "a\n\n```python\nx\n```",
    ),
    "head before the block, no button": (
        "<div><div>rustCopy code</div></div><pre><code>x\n</code></pre>",
        "```rust\nx\n```",
    ),
    "a paragraph before the block": (
        "<p>Copy</p><pre><code>x\n</code></pre>",
        "Copy\n\n```\nx\n```",
    ),
    "words in another language": (
        "<pre><div>python</div><div><button>复制代码</button><button>编辑</button></div>"
        '<code class="whitespace-pre!"><span><span>x</span>\n</span></code></pre>',
        "```python\nx\n```",
    ),
    "code that lost its pre": (
        "<div><span>go</span><button>Copy code</button></div>"
        '<div><code class="!whitespace-pre hljs language-go">a {\n\tb\n}\n</code></div>',
        "```go\na {\n\tb\n}\n```",
    ),
    "code without code": (
        "<pre><div><div>bash</div><button>Copy code</button></div><div>ls\ncd</div></pre>",
        "```bash\nls\ncd\n```",
    ),
    "code of nothing": ("<pre><code></code></pre>", "```\n```"),
    "code of one empty line": ("<pre><code>\n</code></pre>", "```\n\n```"),
    "code of two empty lines": ("<pre><code>\n\n</code></pre>", "```\n\n\n```"),
    "code in a list": (
        "<ol><li><p>Run:</p><pre><code>a\n\n  b\n</code></pre></li><li><p>Done</p></li></ol>",
        "1. Run:\n\n   ```\n   a\n\n     b\n   ```\n\n2. Done",
    ),
    "tight and nested": (
        "<ul><li>one<ul><li>inner</li></ul></li><li>two</li></ul>",
        "- one\n  - inner\n- two",
    ),
    "loose": ("<ul><li><p>one</p></li><li><p>two</p></li></ul>", "- one\n\n- two"),
    "two lists": ("<ul><li>a</li></ul><ul><li>b</li></ul>", "- a\n\n* b"),
    "numbers": ('<ol start="9"><li>a</li><li>b</li></ol>', "9. a\n10. b"),
    "tasks": (
        '<ul><li><input type="checkbox" disabled checked=""> a</li>'
        '<li><input type="checkbox" disabled=""> b</li></ul>',
        "- [x] a\n- [ ] b",
    ),
    "empty item": ("<ul><li></li><li>b</li></ul>", "-\n- b"),
    "quote": ("<blockquote><p>a</p><ul><li>b</li></ul></blockquote>", "> a\n>\n> - b"),
    "table": (
        "<table><thead><tr><th>a</th><th style='text-align: right'>b</th></tr></thead><tbody><tr>"
        "<td>x|y</td><td><code>p|q</code><br>r</td></tr></tbody></table>",
        "| a | b |\n| --- | --: |\n| x\\|y | `p\\|q`<br>r |",
    ),
    "inline TeX": (
        '<p>So <span class="math math-inline"><span class="katex"><span class="katex-mathml">'
        '<math><semantics><mrow><mi>x</mi></mrow><annotation encoding="application/x-tex">'
        "x_1 &lt; \\frac{a}{b}</annotation></semantics></math></span>"
        '<span class="katex-html"><span>x</span></span></span></span>.</p>',
        "So $x_1 < \\frac{a}{b}$.",
    ),
    "display TeX": (
        '<p>See</p><span class="katex-display"><span class="katex"><math><semantics>'
        '<annotation encoding="application/x-tex">\\sum_i x_i \\\\ y</annotation></semantics>'
        "</math></span></span>",
        "See\n\n$$\n\\sum_i x_i \\\\ y\n$$",
    ),
    "dollars beside TeX": (
        '<p>$5 for <span class="katex"><math><annotation encoding="application/x-tex">x'
        "</annotation></math></span> or $6</p><p>$5 and $6</p>",
        "$5 for $x$ or $6\n\n$5 and $6",
    ),
    "a dollar that would take TeX's own": (
        '<p>US$/<span class="katex"><math><annotation encoding="application/x-tex">x'
        "</annotation></math></span> or $6</p>",
        "US\\$/$x$ or $6",
    ),
    "MathJax": (
        '<p>a <span class="MathJax_Preview">y</span><span class="MathJax"><span>x</span></span>'
        '<script type="math/tex">x < y</script> b</p>'
        '<script type="math/tex; mode=display">\\frac{a}{b}</script>',
        "a $x < y$ b\n\n$$\n\\frac{a}{b}\n$$",
    ),
    "hidden words": (
        '<p>a<span hidden>b</span><span style="display: none">c</span><b class="sr-only">d</b>e</p>'
        '<p class="hidden md:block">f</p>',
        "ae\n\nf",
    ),
    "footnotes": (
        '<p>x<sup><a href="#user-content-fn-1" data-footnote-ref="">1</a></sup></p>'
        '<section class="footnotes"><h2 id="footnote-label" class="sr-only">Footnotes</h2><ol>'
        '<li id="user-content-fn-1"><p>A note. <a href="#user-content-fnref-1" '
        'class="data-footnote-backref">↩</a></p></li></ol></section>',
        "x[^1]\n\n[^1]: A note.",
    ),
    "cells that cover others": (
        '<table><tr><th>a</th><th>b</th></tr><tr><td colspan="2">x</td></tr><tr>'
        '<td rowspan="2">y</td><td>1</td></tr><tr><td>2</td></tr></table>',
        "| a | b |\n| --- | --- |\n| x |  |\n| y | 1 |\n|  | 2 |",
    ),
    "list without an item around it": ("<ul><li>a</li><ul><li>b</li></ul></ul>", "- a\n  - b"),
    "text between items": ("<ul><li>a</li>b<li>c</li></ul>", "- a\n\n  b\n- c"),
    "line end before a link and in it": (
        '<p>a\n<a href="u">\nb</a></p>',
        "a\n[b](u)",
    ),
    "two breaks": ("<p>a<br><br>b</p>", "a\n\nb"),
    "empty emphasis": ("<p>a<em></em> b</p>", "a b"),
    "codes in touch": ("<p><code>a</code><code>b`</code></p>", "`` ab` ``"),
    "brackets in code in a link": ('<p><a href="u"><code>a[</code></a></p>', "[`a[`](u)"),
    "no more backslashes than needed": (
        "<p><em>a</em> 2*3 *stars*</p>",
        "*a* 2\\*3 \\*stars*",
    ),
    "inline code": ("<p><code>a`b</code> <code> `` </code></p>", "``a`b`` `  ``  `"),
    "emphasis and spaces": ("<p><strong>note: </strong>go</p>", "**note:** go"),
    "no way to write it": ("<p><strong>注意：</strong>内容</p>", "<strong>注意：</strong>内容"),
    "link": (
        '<p><a href="https://e.com/a_(b" target="_new">t_t</a></p>',
        "[t_t](<https://e.com/a_(b>)",
    ),
    "autolink": ('<p><a href="https://e.com">https://e.com</a></p>', "<https://e.com>"),
    "image": ('<p><img src="u.png" alt="a_b [b] *c*"></p>', "![a_b [b] \\*c*](u.png)"),
    "image of half a bracket": (
        '<p><img src="u" alt="[a](b) `<c \\"></p>',
        "![\\[a\\](b) \\`\\<c \\\\](u)",
    ),
    "a link's source in a link": (
        '<p><a href="u">see [x](y) [1]</a></p>',
        "[see \\[x\\](y) [1]](u)",
    ),
    "one bracket in a link": ('<p><a href="u">a] [1]</a></p>', "[a\\] [1]](u)"),
    "stars at a link's end": (
        '<p><a href="u"><strong>**b c** 1) *star* !</strong></a></p>',
        "[**\\*\\*b c\\** 1) \\*star* !**](u)",
    ),
    "no pair by their lengths": ("<p>the “*” x **b**</p>", "the “*” x \\*\\*b**"),
    "tildes struck through": ("<p><del>~~ b</del> a</p>", "~~\\~~ b~~ a"),
    "a number alone below text": ("<p>a\n1.</p>", "a\n1."),
    "break": ("<p>a<br>b\nc</p>", "a  \nb\nc"),
    "heading": ("<h2>C# and F #</h2>", "## C# and F \\#"),
    "rule": ("<p>a</p><hr><p>b</p>", "a\n\n---\n\nb"),
    "raised": ("<p>x<sup>2</sup></p>", "x<sup>2</sup>"),
    "details": ("<details><summary>S</summary><p>t</p></details>", "S\n\nt"),
    "entities": ("<p>&lt;b&gt; &amp;amp; &nbsp;&copy; &#65;</p>", "\\<b> \\&amp; \xa0© A"),
    "comment": ("<p>a<!-- <b>no</b> -->b</p>", "ab"),
    "capitals": ("<PRE><CODE>x\n</CODE ></PRE><P>y</P>", "```\nx\n```\n\ny"),
    "left open": ("<ul><li>a<li>b<p>c", "- a\n- b\n\n  c"),
    "nothing": ("", ""),
    "needless": ("<p>5*3, a_b_c, x < y, [1] (2), $5 & co.: 2 * 3 * 4</p>", None),
    "first of a line": ("<p>1. a\n2. b\n- c\n+1</p>", "1\\. a\n2. b\n\\- c\n+1"),
}


@pytest.mark.parametrize("name", EXAMPLES)
def test_examples(name: str) -> None:
    html, expected = EXAMPLES[name]
    if expected is None:
        expected = html[3:-4]
    assert to_markdown(html) == expected


def test_copy_code_is_gone_and_the_rest_is_there() -> None:
    html = chatgpt.page_html("Look:\n\n```go\nfmt.Println(1)\n```\n\nDone.")
    assert "Copy code" in html
    assert to_markdown(html) == "Look:\n\n```go\nfmt.Println(1)\n```\n\nDone."


def test_documents_look_the_same_after_the_way_back() -> None:
    changed = [k for k in range(400) if roundtrip.differs(roundtrip.document(random.Random(k)))]
    assert changed == []


def test_text_full_of_markup_characters_stays_text() -> None:
    """Not every contrived case can be written with backslashes: one in 500 may differ."""
    texts = [roundtrip.shards(random.Random(k)) for k in range(2000)]
    changed = [text for text in texts if text and roundtrip.text_differs(text)]
    assert len(changed) <= 4, changed


def test_real_html(shared_data: Path) -> None:
    text = (shared_data / "conversations" / "chatgpt_html_zippyziggy.json").read_text("utf-8")
    answers = [turn["value"] for row in json.loads(text) for turn in row["conversations"][1::2]]
    found = "\n".join(map(to_markdown, answers))
    assert '```go\npackage main\n\nimport "fmt"\n' in found
    assert "Copy code" not in found and "</" not in found


def test_visible_text_leaves_targets_out() -> None:
    assert visible_text('<p>a <b>b</b>c <a href="https://openai.com">x</a> &amp;</p>') == "a bc x &"


MB = 500_000  # enough for anything quadratic to take minutes
HOSTILE = {
    "nested lists": "<ul><li>x" * 10_000 + "</li></ul>" * 10_000,
    "nested lists left open": "<ul><li>x" * 100_000,
    "nested quotes": "<blockquote>x" * 10_000,
    "nested bold": "<strong>x" * 100_000,
    "nested tables": "<table><tr><td>" * 60_000,
    "emphases": "<p>" + "a <em>b</em> <strong>c</strong> " * (MB // 40),
    "autolinks": "<p>" + '<a href="http://a_b">http://a_b</a> ' * (MB // 40),
    "links": "<p>" + '<a href="u">[_x</a> ' * (MB // 25),
    "back-ticks": "<p>" + "`" * MB,
    "back-ticks apart": "<p>" + "` " * (MB // 2),
    "code of back-ticks": "<pre><code>" + "`" * MB + "</code></pre>",
    "stars": "<p>" + "*a" * (MB // 2),
    "brackets": "<p>" + "[" * (MB // 2) + "](" * (MB // 4),
    "angles": "<" * MB,
    "angles in text": "<p>" + "&lt;a b=c " * (MB // 10),
    "tags left open": "<a " * (MB // 3),
    "quotes left open": '<a "' * (MB // 8) + "<a '" * (MB // 8),
    "comments left open": "<!--" * (MB // 4),
    "pre left open": "<pre>" * (MB // 5),
    "code left open": "<code>" * (MB // 6),
    "formulas left open": '<span class="katex">' * (MB // 20),
    "cells": "<table><tr>" + "<td>x</td>" * 100_000 + "</tr></table>",
    "one wide row": "<table>" + "<tr><td>x</td></tr>" * 40_000 + "<tr>" + "<td>y</td>" * 9_000,
    "empty lines": "<p>a" + " \n" * (MB // 2) + "b",
    "ampersands": "<p>" + "&" * MB,
    "back-slashes": "<p>" + "\\" * MB,
    "underscores": "<p>" + "_a" * (MB // 2),
    "tildes": "<p>" + "~~a " * (MB // 4),
    "dollars": "<p>" + "$" * MB,
    "one word": "<p>" + "a" * MB,
    "breaks": "<p>" + "<br>" * (MB // 4),
    "ends alone": "</b></p></li></pre></code>" * (MB // 26),
    "links left open": '<a href="u">x' * (MB // 12),
    "links in links": '<a href="[(">x' * 10_000 + "</a>" * 10_000,
    "emphasis in turn": "<p>" + "<em><strong><del>x" * 10_000,
    "codes in touch": "<p>" + "<code>`</code>" * (MB // 14),
    "boxes": "<ul>" + '<li><input type="checkbox">x' * (MB // 28),
    "hidden left open": "<span hidden>" * (MB // 13),
    "spans": "<p>" + "<span>" * (MB // 6),
    "comments": "<!-- -->x" * (MB // 9),
    "covering cells": "<table><tr>" + '<td colspan="40">' * (MB // 17) + "</table>",
    "blocks behind heads": "<div>Copy code</div><pre></pre>" * (MB // 31),
    "starts of blocks": "</div><pre>" * (MB // 11),
    "images": '<p><img src="a" alt="[">' + '<img src="a" alt="[">' * (MB // 21),
    "items left open": "<li>x" * (MB // 5),
    "definition": "<p>[" + "a" * MB + "]: x",
    "rules": "<p>" + "- " * (MB // 2),
    "brackets in a link": '<p><a href="u">' + "[" * MB + "</a>",
    "scripts of formulas": '<script type="math/tex">' * (MB // 24) + "</script>",
    "rows in rows": "<table>" + "<tr>" * (MB // 4),
    "details": "<details><summary>x" * (MB // 19),
    "code without its pre": '<code class="whitespace-pre">' * (MB // 29),
    "footnotes left open": '<a class="footnote-backref">' * (MB // 28) + "</a>",
    "links of text": '<a href="u">*x_</a>' * (MB // 20),
    "tables of spans": "<table>" + ("<tr>" + "<td rowspan=40>" * 200) * 300,
    "pre in attributes": '<img alt="<pre>">' * (MB // 17),
    "escapes": "<p>" + "\\*" * (MB // 2),
    "capitals": "<P>x</P>" * (MB // 8),
    "emphasis beside text": "<p>" + "<em>a</em>*b " * (MB // 13),
    "stars that never pair": "<p>" + "**a *b* c***d " * (MB // 14),
    "comments never ended": "<p>" + "&lt;!-- " * (MB // 8),
    "dollars before a formula": "<p>" + "$5" * (MB // 2) + chatgpt.katex("x", display=False),
    "targets left open": "<p>" + "[" * (MB // 8) + '](a"b ' * (MB // 8),
    "emphasis beside stars": "<p>" + "<em>a</em>*b* _c_ **d " * (MB // 25),
}


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.timeout(60)  # 0.1 to 2 s; anything quadratic takes far longer
def test_hostile_input_comes_to_an_end(name: str) -> None:
    to_markdown(HOSTILE[name])
