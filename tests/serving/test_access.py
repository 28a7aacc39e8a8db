"""Who may ask: keys, web pages of other origins."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from openchat_cli.core.errors import UsageError
from openchat_cli.engine.settings import EngineSettings
from openchat_cli.serving.server import Ready, background
from openchat_cli.serving.settings import ServeSettings
from tests.engine import tiny
from tests.serving.raw import HELLO, answer, metrics, request

Serve = Callable[..., Ready]


@pytest.fixture
def serve() -> Iterator[Serve]:
    running: list[Any] = []

    def begin(**settings: Any) -> Ready:
        made = ServeSettings(EngineSettings(Path("tiny")), port=0, max_tokens=2, **settings)
        context = background(made, load=lambda: tiny.engine(slots=2))
        running.append(context)
        return context.__enter__()

    yield begin
    for context in running:
        context.__exit__(None, None, None)


@pytest.mark.parametrize(
    ("header", "allowed"),
    [
        ("Bearer sk-one", True),
        ("bearer sk-one", True),
        ("BEARER   sk-one ", True),
        ("Bearer clé".encode().decode("latin-1"), True),
        ("Bearer sk-one,sk-two", False),
        ("Bearer sk-on", False),
        ("Bearer sk-onee", False),
        ("Bearer ", False),
        ("Basic sk-one", False),
        ("sk-one", False),
    ],
)
def test_keys(serve: Serve, header: str, allowed: bool, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    url = serve(api_keys=("sk-one", "clé")).url
    status, body = answer(url, request(HELLO, headers={"Authorization": header}))
    assert status == (200 if allowed else 401)
    if not allowed:
        assert body["error"]["type"] == "authentication_error"
    assert "sk-" not in caplog.text


def test_metrics_and_models_need_a_key_too(serve: Serve) -> None:
    root = serve(api_keys=("sk-one",)).url.removesuffix("/v1")
    for path in ("/metrics", "/v1/models", "/v1/models/openchat", "/nothing"):
        assert httpx2.get(root + path).status_code == 401
    assert httpx2.get(root + "/v1/models?api_key=sk-one").status_code == 401
    assert httpx2.get(root + "/health").status_code == 200
    assert metrics(root, key="sk-one")["openchat_ready"] == 1


PREFLIGHT = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "a"}


def test_other_origins_are_refused_by_default(serve: Serve) -> None:
    url = serve().url
    port = url.removesuffix("/v1").rpartition(":")[2]
    for origin in ("https://evil.example", "null", f"http://evil.example:{port}", "http://["):
        # As after DNS rebinding: the browser takes the server for that site's own.
        host = origin.partition("//")[2] or "x"
        headers = {"Origin": origin, "Host": host}
        status, body = answer(url, request(HELLO, headers=headers))
        assert (status, body["error"]["code"]) == (403, "origin_not_allowed")
        asked = answer(url, request(method="OPTIONS", headers=headers | PREFLIGHT))
        assert asked[0] == 403
    for host in (f"127.0.0.1:{port}", f"localhost:{port}", f"[::1]:{port}"):
        headers = {"Origin": f"http://{host}", "Host": host}
        assert answer(url, request(HELLO, headers=headers))[0] == 200
    got = httpx2.post(url + "/chat/completions", json=HELLO)
    assert got.status_code == 200
    assert not [name for name in got.headers if name.startswith("access-control")]


def test_an_allowed_origin(serve: Serve) -> None:
    url = serve(cors_origins=("https://chat.example",), api_keys=("sk-one",)).url
    headers = {"Origin": "https://chat.example"}
    asked = httpx2.options(url + "/chat/completions", headers=headers | PREFLIGHT)
    assert asked.status_code == 200
    assert asked.headers["access-control-allow-origin"] == "https://chat.example"
    refused = httpx2.post(url + "/chat/completions", json=HELLO, headers=headers)
    assert refused.status_code == 401  # and the page can read why
    assert refused.headers["access-control-allow-origin"] == "https://chat.example"
    other = httpx2.options(url, headers=PREFLIGHT | {"Origin": "https://chat.example.evil"})
    assert "access-control-allow-origin" not in other.headers


def test_all_origins(serve: Serve) -> None:
    url = serve(cors_origins=("*",)).url
    got = httpx2.post(
        url + "/chat/completions", json=HELLO, headers={"Origin": "https://a.example"}
    )
    assert (got.status_code, got.headers["access-control-allow-origin"]) == (200, "*")


@pytest.mark.parametrize("origin", ["example.org", "https://a.example/", "HTTPS://A.example", ""])
def test_an_origin_that_no_browser_sends(origin: str) -> None:
    with pytest.raises(UsageError, match="origin"):
        ServeSettings(EngineSettings(Path("tiny")), cors_origins=(origin,))


@pytest.mark.parametrize(
    "wrong",
    [
        {"request_timeout": 0.0},
        {"request_timeout": float("nan")},
        {"shutdown_seconds": -1.0},
        {"max_body_bytes": 0},
    ],
)
def test_settings_out_of_range(wrong: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=next(iter(wrong))):
        ServeSettings(EngineSettings(Path("tiny")), **wrong)
