"""The client against a real server that fails in every way."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from openchat_cli.core.client import (
    CallError,
    Chat,
    Client,
    EndpointError,
    RefusedParameterError,
    Reply,
)
from openchat_cli.core.endpoint import OPENAI_URL, Endpoint
from openchat_cli.core.errors import UsageError
from openchat_cli.core.jsonl import Journal
from openchat_cli.core.loop import spread
from tests.evaluation.fake_judge import FakeJudge, free_port

QUICK: dict[str, Any] = {"timeout": 1.0, "concurrency": 8}


def chats(count: int, **parameters: Any) -> list[Chat]:
    return [Chat([{"role": "user", "content": f"say {n}"}], parameters) for n in range(count)]


def ask(
    url: str,
    wanted: Sequence[Chat],
    *,
    journal: Journal | None = None,
    model: str = "m",
    **endpoint: Any,
) -> list[Reply | CallError]:
    """All replies or errors, in the order of the requests."""
    found: dict[int, Reply | CallError] = {}

    async def run() -> None:
        settings = Endpoint(url, **{**QUICK, **endpoint})
        async with Client(settings, model, journal=journal) as client:

            async def one(item: tuple[int, Chat]) -> None:
                try:
                    found[item[0]] = await client.chat(item[1])
                except CallError as error:
                    found[item[0]] = error

            await spread(enumerate(wanted), one, settings.concurrency)

    asyncio.run(run())
    return [found[index] for index in range(len(wanted))]


def texts(found: Sequence[Reply | CallError]) -> list[str]:
    return [reply.text for reply in found if isinstance(reply, Reply)]


def test_every_call_is_answered_whatever_fails() -> None:
    faults = {"too_many": 0.1, "broken": 0.08, "cut": 0.06, "hang": 0.03, "empty": 0.03}
    with FakeJudge(**faults, retry_after=0.05) as server:
        found = ask(server.url, chats(60), timeout=0.5)
    assert texts(found) == [f"You said: say {n}" for n in range(60)]
    assert {"429", "500", "cut", "hang"} <= server.statuses.keys()


def test_no_more_calls_at_once_than_allowed() -> None:
    with FakeJudge(latency=0.02) as server:
        ask(server.url, chats(40), concurrency=5)
    assert 1 < server.most_under_way <= 5


def test_calls_run_side_by_side() -> None:
    with FakeJudge(latency=0.1) as server:
        ask(server.url, chats(1))  # imports paid for
        began = time.monotonic()
        ask(server.url, chats(80), concurrency=8)
        taken = time.monotonic() - began
    assert taken < 2 * 80 * 0.1 / 8  # one at a time it would be 8 s


def test_retry_after_holds_for_all_workers() -> None:
    """After one 429 nobody calls before the pause is over."""
    with FakeJudge(too_many=0.2, retry_after=0.4, latency=0.01) as server:
        found = ask(server.url, chats(30), concurrency=4)
    assert len(texts(found)) == 30
    times = [seen.at for seen in server.seen]
    pauses = [later - earlier for earlier, later in itertools.pairwise(times)]
    # Calls under way when the 429 came still arrive; then there is silence until it is over.
    assert sum(pause > 0.3 for pause in pauses) >= 1


@pytest.mark.parametrize("refuse", [("temperature",), ("temperature", "max_tokens", "seed")])
def test_parameters_not_taken_are_found_out_once(refuse: tuple[str, ...], tmp_path: Path) -> None:
    with FakeJudge(refuse=refuse, latency=0.02) as server:
        with Journal(tmp_path / "journal.jsonl") as journal:
            wanted = chats(20, temperature=0.2, max_tokens=9, seed=1)
            assert len(texts(ask(server.url, wanted, journal=journal))) == 20
        assert server.statuses["400"] == len(refuse)
        last = server.bodies()[-1]
        assert last.get("max_completion_tokens", last.get("max_tokens")) == 9
        server.forget()
        with Journal(tmp_path / "journal.jsonl") as journal:  # the next run knows already
            more = [Chat([{"role": "user", "content": "new"}], wanted[0].parameters)]
            assert len(texts(ask(server.url, more, journal=journal))) == 1
        assert server.statuses["400"] == 0


@pytest.mark.parametrize("silent", [False, True])
def test_a_format_not_taken_is_the_callers_business(silent: bool) -> None:
    with FakeJudge(refuse=("response_format",), silent_refusal=silent) as server:
        found = ask(server.url, chats(6, response_format={"type": "json_schema"}))
    assert all(isinstance(error, RefusedParameterError) for error in found)
    assert server.statuses["400"] == 1


@pytest.mark.parametrize(
    ("status", "code", "said"),
    [
        (401, None, "key"),
        (404, None, "404"),
        (403, None, "403"),
        (429, "insufficient_quota", "quota"),
    ],
)
def test_what_can_never_succeed_stops_at_once(status: int, code: str | None, said: str) -> None:
    with (
        FakeJudge(always=status, error_code=code) as server,
        pytest.raises(EndpointError) as failed,
    ):
        ask(server.url, chats(20), concurrency=2)
    assert said in failed.value.message
    assert len(server.seen) <= 2


def test_a_bad_request_fails_alone_and_is_not_repeated() -> None:
    with FakeJudge(always=400) as server:
        found = ask(server.url, chats(5))
    assert [str(error) for error in found] == ["HTTP 400: always so"] * 5
    assert len(server.seen) == 5


def test_a_server_that_only_breaks_gives_up_after_the_tries() -> None:
    with FakeJudge(always=500) as server:
        found = ask(server.url, chats(1), attempts=3)
    assert str(found[0]) == "HTTP 500: always so (3 tries)"
    assert len(server.seen) == 3


def test_a_pause_longer_than_patience_is_not_waited_for() -> None:
    with FakeJudge(too_many=1.0, retry_after=3600) as server:
        began = time.monotonic()
        found = ask(server.url, chats(1), patience=5)
    assert isinstance(found[0], CallError)
    assert time.monotonic() - began < 5


def test_nobody_there() -> None:
    with pytest.raises(EndpointError, match="can't connect"):
        ask(f"http://127.0.0.1:{free_port()}/v1", chats(3), concurrency=1)


def test_the_key_is_in_no_message() -> None:
    key = "sk-very-secret-1234567890"
    with FakeJudge(key="another") as server, pytest.raises(EndpointError) as failed:
        ask(server.url, chats(1), key=key)
    assert "secret" not in f"{failed.value.message} {failed.value.hint}"
    assert "secret" not in repr(Endpoint(server.url, key=key))


def test_an_empty_answer_is_an_answer_where_it_may_be() -> None:
    with FakeJudge(empty=1.0) as server:
        wanted = [Chat([{"role": "user", "content": "x"}], may_be_empty=True)]
        assert texts(ask(server.url, wanted)) == [""]
        assert "empty" in str(ask(server.url, chats(1), attempts=2)[0])


def test_the_journal_answers_a_second_time(tmp_path: Path) -> None:
    with FakeJudge() as server:
        with Journal(tmp_path / "j.jsonl") as journal:
            first = ask(server.url, chats(10), journal=journal)
        server.forget()
        with Journal(tmp_path / "j.jsonl") as journal:
            again = ask(server.url, chats(10), journal=journal)
            assert server.seen == []
            assert texts(again) == texts(first)
            other = [Chat(chat.messages, chat.parameters, sample=1) for chat in chats(10)]
            ask(server.url, other, journal=journal)
    assert len(server.seen) == 10


def test_failures_are_not_recorded(tmp_path: Path) -> None:
    with FakeJudge(always=400) as server, Journal(tmp_path / "j.jsonl") as journal:
        ask(server.url, chats(3), journal=journal)
        assert not journal.rows


def test_an_endpoint_must_make_sense() -> None:
    with pytest.raises(UsageError, match="no URL"):
        Endpoint("localhost:18888/v1")
    with pytest.raises(UsageError, match="key"):
        Endpoint(OPENAI_URL).require_key("…")
