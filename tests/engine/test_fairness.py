"""Short requests and long ones share the engine: neither waits for all of the other's work."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from openchat_cli.core.errors import InputError
from openchat_cli.engine.engine import Engine, Load
from openchat_cli.engine.generation import Generation, QueueFullError
from openchat_cli.engine.settings import SamplingParams
from tests.engine import tiny
from tests.serving.raw import until

LONG = SamplingParams(temperature=0, max_tokens=1900, logit_bias={65: 100})
SHORT = SamplingParams(temperature=0, max_tokens=1)


def engine(**more: Any) -> Engine:
    return tiny.engine(tiny.llama(spread=0.02, context=2048), context=2048, **more)


def prompt(text: str) -> list[int]:
    return [tiny.BOS, *text.encode()]


def steps_until_done(engine: Engine, generation: Generation) -> int:
    """Steps of the engine while a request is answered: time, without the machine's."""
    began = engine.totals.steps
    assert generation.result().error is None
    return engine.totals.steps - began


def test_a_short_answer_does_not_wait_for_long_ones_that_have_the_slots() -> None:
    with engine(slots=2) as running:
        long = [running.submit(prompt(name), LONG) for name in "ab"]
        until(lambda: running.load_now() == Load(answering=2, waiting=0))
        for name in "xyz":
            # One token each; a long one has most of 1,900 left.
            assert steps_until_done(running, running.submit(prompt(name), SHORT)) < 900
        answers = [generation.result() for generation in long]
    assert running.totals.preempted >= 1
    # What gave way goes on where it was, and says what it would have said.
    assert [answer.text for answer in answers] == ["A" * 1900] * 2
    assert [answer.completion_tokens for answer in answers] == [1900] * 2


def test_what_gave_way_says_the_same_as_alone() -> None:
    for params in (
        SamplingParams(temperature=0, max_tokens=300),
        SamplingParams(temperature=1, seed=3, max_tokens=300, logprobs=2),
    ):
        wild = tiny.llama(context=2048)
        with tiny.engine(wild, slots=1, context=2048) as running:
            never = SamplingParams(**{**vars(params), "logit_bias": {tiny.EOT: -100}})
            alone = running.submit(prompt("hello"), never).result()
            again = running.submit(prompt("hello"), never)
            until(lambda again=again: again.first_token is not None)  # type: ignore[misc]
            running.submit(prompt("x"), SHORT).result()
            shared = again.result()
            assert running.totals.preempted >= 1
        assert shared.token_ids == alone.token_ids
        assert shared.text == alone.text
        if params.logprobs:
            assert shared.logprobs is not None
            assert len(shared.logprobs) == len(alone.logprobs or ())


def test_long_answers_do_not_give_way_to_each_other() -> None:
    with engine(slots=1) as running:
        first = running.submit(prompt("a"), SamplingParams(**{**vars(LONG), "max_tokens": 400}))
        second = running.submit(prompt("b"), SamplingParams(**{**vars(LONG), "max_tokens": 400}))
        for generation in (first, second):
            generation.result()
    assert running.totals.preempted == 0


def test_a_flood_of_short_requests_does_not_starve_a_long_one() -> None:
    with engine(slots=1, queue_size=64) as running:
        long = running.submit(prompt("a"), SamplingParams(**{**vars(LONG), "max_tokens": 300}))
        over = threading.Event()
        answered = [0, 0]

        def flood(who: int) -> None:
            while not over.is_set():
                running.submit(prompt(f"{who}{answered[who]}"), SHORT).result()
                answered[who] += 1

        threads = [threading.Thread(target=flood, args=[who]) for who in range(2)]
        for thread in threads:
            thread.start()
        assert long.result().completion_tokens == 300
        over.set()
        for thread in threads:
            thread.join()
        assert min(answered) >= 2


def test_a_short_prompt_does_not_wait_for_long_prompts() -> None:
    with engine(slots=8, prefill_tokens=64) as running:
        long = [running.submit(prompt(f"{n}" * 1500), SHORT) for n in range(6)]
        until(lambda: running.load_now().answering == 6)
        assert steps_until_done(running, running.submit(prompt("short"), SHORT)) < 10
        assert not any(generation.first_token for generation in long[1:])
        for generation in long:
            assert generation.result().completion_tokens == 1


def test_fewer_at_once_than_slots() -> None:
    with engine(slots=4, max_concurrency=2, queue_size=1) as running:
        for name in "ab":
            running.submit(prompt(name), LONG)
        until(lambda: running.load_now() == Load(answering=2, waiting=0))
        running.submit(prompt("c"), LONG)
        with pytest.raises(QueueFullError):
            running.submit(prompt("d"), LONG)
        assert running.load_now() == Load(answering=2, waiting=1)


def test_answers_asked_for_together_are_taken_together() -> None:
    with engine(slots=2, queue_size=2) as running:
        many = [prompt(f"{n}") for n in range(10)]
        assert len(running.submit_together(many, [SHORT] * 10)) == 10  # more than slots and queue
        until(lambda: running.load_now() == Load(answering=0, waiting=0))
        with pytest.raises(InputError):
            running.submit_together([prompt("a"), [99999]], [LONG] * 2)
        assert running.load_now() == Load(answering=0, waiting=0)


def test_no_queue_at_all() -> None:
    with engine(slots=1, queue_size=0) as running:
        long = running.submit(prompt("a"), LONG)
        with pytest.raises(QueueFullError):
            running.submit(prompt("b"), SHORT)
        long.cancel()
        long.result()
        assert running.submit(prompt("b"), SHORT).result().completion_tokens == 1
