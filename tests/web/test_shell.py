"""The shell: one policy, its own code only."""

from __future__ import annotations

import base64
import hashlib
import json
import re

import pytest
from bs4 import BeautifulSoup

from openchat_cli.web.html import tag
from openchat_cli.web.shell import page


def test_the_policy_allows_this_style_and_this_script_only() -> None:
    text = page("a <b>", tag("p", "x"), css="p{}", script="1;", data={"a": "</script>"})
    parsed = BeautifulSoup(text, "html.parser")
    meta = parsed.select_one("meta[http-equiv]")
    assert meta is not None
    policy = dict(part.strip().split(" ", 1) for part in str(meta["content"]).split(";"))
    assert policy["default-src"] == "'none'"
    assert policy["connect-src"] == "'none'"
    assert "unsafe" not in str(policy)
    data, script = parsed.find_all("script")
    for directive, body in (("script-src", script.text), ("style-src", parsed.style)):
        source = body if isinstance(body, str) else body.text if body else ""
        digest = base64.b64encode(hashlib.sha256(source.encode()).digest()).decode()
        assert policy[directive] == f"'sha256-{digest}'"
    assert json.loads(data.text) == {"a": "</script>"}
    assert parsed.title is not None and parsed.title.text == "a <b>"


def test_a_page_may_be_let_through_to_its_own_server() -> None:
    assert re.search(r"connect-src &#x27;self&#x27;", page("t", tag("p"), connect="'self'"))


def test_code_that_would_end_its_own_element_is_refused() -> None:
    with pytest.raises(ValueError, match="</"):
        page("t", tag("p"), script="'</script>'")
