"""schemathesis, on our own description and on OpenAI's cut to the paths that we have.

OpenAI's is made from the types of its client, which are generated from the published description;
the file itself can be given as OPENAI_DESCRIPTION=openapi.json.
"""

from __future__ import annotations

import copy
import json
import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from .conftest import MODEL, Server

pytest.importorskip("schemathesis")
pytest.importorskip("openai", minversion="3")
pydantic = pytest.importorskip("pydantic")

import requests  # noqa: E402  # comes with schemathesis

Serving = Callable[..., AbstractContextManager[Server]]
PATHS = ("/chat/completions", "/completions", "/models", "/models/{model}")
# What no schema can say: two fields that must agree, ids that the model has.
BEYOND_SCHEMAS = ("best_of", "max_completion_tokens", "max_generated_tokens", "logit_bias")


@pytest.fixture(scope="module")
def small(folder: Path) -> Any:
    from .conftest import serve

    with serve(folder, "--max-tokens", 4, "--max-slots", 16) as running:
        yield running


def attack(server: Server, description: Any, tmp_path: Path, checks: str, **more: Any) -> None:
    """Run schemathesis; fails with its report. Then the engine must still answer."""
    file = tmp_path / "description.json"
    file.write_text(json.dumps(description))
    options = {"max-examples": 40, "phases": "examples,coverage,fuzzing", "seed": 1, **more}
    command = [sys.executable, "-m", "schemathesis.cli", "run", str(file), "--checks", checks]
    command += [f"--{name}={value}" for name, value in options.items()]
    ran = subprocess.run(
        [*command, "--continue-on-failure", "--no-color"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=280,
    )
    report = "\n".join(line[:400] for line in (ran.stdout + ran.stderr).splitlines())
    assert ran.returncode == 0, report[-20_000:]
    assert server.process.poll() is None
    hello = {"model": MODEL, "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 2}
    assert requests.post(f"{server.url}/chat/completions", json=hello, timeout=30).ok
    assert requests.get(f"{server.root}/health", timeout=30).json()["answering"] == 0


@pytest.fixture
def own(small: Server) -> Any:
    return requests.get(f"{small.root}/openapi.json", timeout=30).json()


def test_our_own_description(small: Server, own: Any, tmp_path: Path) -> None:
    attack(
        small,
        own,
        tmp_path,
        "all",
        **{"url": small.root, "exclude-checks": "positive_data_acceptance"},
    )


def test_what_fits_our_description_is_answered(small: Server, own: Any, tmp_path: Path) -> None:
    described = copy.deepcopy(own)
    for path in ("/v1/chat/completions", "/v1/completions"):
        body = described["paths"][path]["post"]["requestBody"]["content"]["application/json"]
        for name in BEYOND_SCHEMAS:
            body["schema"]["properties"].pop(name, None)
        body["schema"]["properties"]["max_tokens"] = {
            "type": "integer",
            "minimum": 1,
            "maximum": 32,
        }
    attack(small, described, tmp_path, "all", url=small.root, mode="positive")


def test_openais_description(small: Server, tmp_path: Path) -> None:
    given = os.environ.get("OPENAI_DESCRIPTION")
    described = _cut(json.loads(Path(given).read_text())) if given else _from_the_client()
    checks = "not_a_server_error,response_schema_conformance,content_type_conformance"
    attack(small, described, tmp_path, checks, url=small.url)


def _cut(whole: Any) -> Any:
    """The published description, only the paths and methods that we have."""
    paths = {path: dict(whole["paths"][path]) for path in PATHS}
    paths["/chat/completions"].pop("get", None)
    paths["/models/{model}"].pop("delete", None)
    for methods in paths.values():
        for operation in methods.values():
            _ask_for(operation.get("requestBody"), whole)
    return {**whole, "paths": paths, "webhooks": {}, "security": []}


def _ask_for(body: Any, whole: Any) -> None:
    """Ask for our model, so that more than the 404 is reached."""
    if body is None:
        return
    content = body["content"]["application/json"]
    ours = {"properties": {"model": {"const": MODEL}}, "required": ["model"]}
    content["schema"] = {"allOf": [content["schema"], ours]}
    content.pop("examples", None)
    content.pop("example", None)


def _from_the_client() -> Any:
    from openai.types import Completion, Model
    from openai.types.chat import ChatCompletion
    from openai.types.chat.completion_create_params import CompletionCreateParamsNonStreaming
    from openai.types.completion_create_params import (
        CompletionCreateParamsNonStreaming as PlainParams,
    )

    schemas: dict[str, Any] = {}

    def schema(kind: Any, mode: str) -> Any:
        made = pydantic.TypeAdapter(kind).json_schema(
            ref_template="#/components/schemas/{model}", mode=mode
        )
        schemas.update(made.pop("$defs", {}))
        return made

    def post(asked: Any, answered: Any) -> Any:
        body = schema(asked, "validation")
        body["properties"]["model"] = {"const": MODEL}
        answer = {"application/json": {"schema": schema(answered, "serialization")}}
        responses = {"200": {"description": "", "content": {**answer, "text/event-stream": {}}}}
        content = {"application/json": {"schema": body}}
        return {"requestBody": {"required": True, "content": content}, "responses": responses}

    one = {"application/json": {"schema": schema(Model, "serialization")}}
    name = {"name": "model", "in": "path", "required": True, "schema": {"type": "string"}}
    answered = {"200": {"description": "", "content": one}, "default": {"description": ""}}
    paths = {
        "/chat/completions": {"post": post(CompletionCreateParamsNonStreaming, ChatCompletion)},
        "/completions": {"post": post(PlainParams, Completion)},
        "/models/{model}": {"get": {"parameters": [name], "responses": answered}},
        "/models": {"get": {"responses": {"200": {"description": ""}}}},
    }
    for methods in paths.values():
        for operation in methods.values():
            operation["responses"]["default"] = {"description": ""}
    head = {"openapi": "3.1.0", "info": {"title": "OpenAI", "version": "1"}}
    return {**head, "paths": paths, "components": {"schemas": schemas}}
