"""The engine against plain forward passes, under load, and when things fail."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Sequence
from typing import Any

import pytest
import torch

from openchat_cli.core.errors import InputError
from openchat_cli.engine.engine import Engine
from openchat_cli.engine.generation import (
    ContextLengthError,
    Delta,
    EngineError,
    Generation,
    QueueFullError,
)
from openchat_cli.engine.runner import Runner
from openchat_cli.engine.settings import SamplingParams
from tests.engine import tiny

GREEDY = SamplingParams(temperature=0, max_tokens=24)


def prompts(count: int, *, longest: int = 60, seed: int = 1) -> list[list[int]]:
    rng = random.Random(seed)
    return [
        [tiny.BOS, *(rng.randrange(256) for _ in range(rng.randint(1, longest)))]
        for _ in range(count)
    ]


MODELS = {
    "llama": tiny.llama,
    "mistral": tiny.mistral,
    "mistral-window": lambda: tiny.mistral(window=16),
    "bigcode": tiny.bigcode,
    "bigcode-multi-head": lambda: tiny.bigcode(multi_query=False),
}


@pytest.mark.parametrize("name", MODELS)
def test_greedy_answers_equal_plain_forward_passes_whatever_the_load(name: str) -> None:
    model = MODELS[name]()
    asked = prompts(14)
    wanted = [tiny.reference(model, prompt, 24) for prompt in asked]
    # 20 prompt tokens a step: prompts are cut into parts and packed with one another.
    with tiny.engine(model, slots=5, prefill_tokens=20) as engine:
        alone = [list(engine.submit(prompt, GREEDY).result().token_ids) for prompt in asked]
        together = engine.complete(asked, [GREEDY] * len(asked))
    assert alone == wanted
    assert [list(completion.token_ids) for completion in together] == wanted


def test_answers_of_many_lengths_leave_no_trace_in_each_other() -> None:
    model = tiny.llama(seed=3)
    rng = random.Random(5)
    asked = prompts(40, longest=120, seed=2)
    params = [SamplingParams(temperature=0, max_tokens=rng.randint(1, 40)) for _ in asked]
    with tiny.engine(model, slots=6, prefill_tokens=64) as engine:
        got = engine.complete(asked, params)
    for prompt, wanted, completion in zip(asked, params, got, strict=True):
        expected = tiny.reference(model, prompt, wanted.max_tokens)
        assert list(completion.token_ids) == expected
        assert completion.prompt_tokens == len(prompt)
        assert completion.completion_tokens == len(expected)
        assert completion.finish_reason == ("stop" if expected[-1] == tiny.EOT else "length")


def test_a_long_answer_beside_short_ones_is_attended_apart() -> None:
    model = tiny.mistral(seed=2, window=90)
    asked = [[tiny.BOS, *range(1, 200)], *prompts(5, longest=4)]
    wanted = [tiny.reference(model, prompt, 24) for prompt in asked]
    runner = Runner(model, slots=6, context=256, vocab_size=tiny.VOCAB)
    runner.apart = 1  # as if a position were large
    with Engine(runner, tiny.ByteTokenizer(), tiny.KIND) as engine:
        apart = engine.complete(asked, [GREEDY] * len(asked))
    assert [list(completion.token_ids) for completion in apart] == wanted


def test_a_seed_repeats_alone_and_in_company() -> None:
    params = SamplingParams(temperature=1.3, top_p=0.95, seed=11, max_tokens=30)
    asked = prompts(9)
    with tiny.engine(slots=8) as engine:
        alone = engine.submit(asked[0], params).result()
        crowd = engine.complete(asked, [params] + [SamplingParams(max_tokens=30)] * 8)
        other = engine.submit(asked[0], SamplingParams(temperature=1.3, seed=12)).result()
    assert crowd[0].token_ids == alone.token_ids
    assert other.token_ids[:30] != alone.token_ids


@pytest.mark.parametrize("name", ["llama", "mistral-window", "bigcode"])
def test_every_kind_of_draw_repeats_among_31_others(name: str) -> None:
    rng = random.Random(7)
    asked = prompts(32, longest=90, seed=3)
    asked[20:25] = [[*asked[2], *rng.sample(range(256), n)] for n in range(5)]
    kinds: list[dict[str, Any]] = [
        {"temperature": 1.2, "top_p": 1.0},
        {"temperature": 0.7, "top_p": 0.9},
        {"temperature": 1.0, "top_k": 40, "presence_penalty": 0.5},
        {"temperature": 1.5, "min_p": 0.05, "repetition_penalty": 1.2},
        {"temperature": 0.9, "top_k": 10**12, "logit_bias": {65: 2.0}},
    ]
    params = [
        SamplingParams(seed=rng.randrange(2**63), max_tokens=30, **kinds[index % len(kinds)])
        for index in range(len(asked))
    ]
    model = MODELS[name]()
    with tiny.engine(model, slots=32, prefill_tokens=200) as engine:
        together = engine.complete(asked, params)
        again = engine.complete(asked[::-1], params[::-1])[::-1]
        alone = [engine.submit(*one).result() for one in zip(asked, params, strict=True)]
    wanted = [completion.token_ids for completion in together]
    assert [completion.token_ids for completion in again] == wanted
    assert [completion.token_ids for completion in alone] == wanted


def test_deltas_add_up_to_the_text() -> None:
    with tiny.engine() as engine:
        generation = engine.submit(prompts(1)[0], SamplingParams(seed=1, max_tokens=60))
        deltas = list(generation)
    completion = deltas[-1].completion
    assert completion is not None
    assert "".join(delta.text for delta in deltas) == completion.text
    plain = [token for token in completion.token_ids if token != tiny.EOT]
    assert completion.text == tiny.ByteTokenizer().decode(plain)


def test_a_stop_string_ends_the_answer_before_it() -> None:
    # A bias makes the model say "a", and "b" once "a" is punished enough: aaabab….
    bias = {ord("a"): 100.0, ord("b"): 99.5}
    params = SamplingParams(
        temperature=0, logit_bias=bias, frequency_penalty=0.2, stop=("bab", "aba"), max_tokens=50
    )
    with tiny.engine(tiny.llama(spread=0.02)) as engine:
        deltas = list(engine.submit([tiny.BOS, 65], params))
        unstopped = engine.submit(
            [tiny.BOS, 65],
            SamplingParams(temperature=0, logit_bias=bias, frequency_penalty=0.2, max_tokens=50),
        ).result()
    completion = deltas[-1].completion
    assert completion is not None
    assert completion.finish_reason == "stop"
    assert "bab" in unstopped.text
    first = min(unstopped.text.find("bab"), unstopped.text.find("aba"))
    assert completion.text == unstopped.text[:first]
    assert "".join(delta.text for delta in deltas) == completion.text


def test_a_stop_token_ends_the_answer() -> None:
    params = SamplingParams(temperature=0, logit_bias={65: 100.0}, stop_token_ids=(65,))
    with tiny.engine(tiny.llama(spread=0.02)) as engine:
        completion = engine.submit([tiny.BOS], params).result()
    assert (completion.text, completion.finish_reason) == ("", "stop")


def test_the_context_ends_an_answer() -> None:
    never_stop = SamplingParams(temperature=0, logit_bias={65: 100.0}, max_tokens=10_000)
    with tiny.engine(tiny.llama(spread=0.02), context=100) as engine:
        completion = engine.submit([tiny.BOS] * 90, never_stop).result()
        assert (completion.completion_tokens, completion.finish_reason) == (10, "length")
        with pytest.raises(ContextLengthError):
            engine.submit([tiny.BOS] * 100, never_stop)


@pytest.mark.parametrize("prompt", [[], [-1], [tiny.VOCAB]])
def test_prompts_that_no_model_could_read_are_refused(prompt: list[int]) -> None:
    with tiny.engine() as engine, pytest.raises(InputError):
        engine.submit(prompt, GREEDY)


def slow(model: Any, seconds: float) -> Any:
    """The model, taking its time."""
    forward = model.base_model.forward

    def waiting(*args: Any, **kwargs: Any) -> Any:
        time.sleep(seconds)
        return forward(*args, **kwargs)

    model.base_model.forward = waiting
    return model


LONG = SamplingParams(temperature=0, max_tokens=200, logit_bias={65: 100.0})


def until(condition: Any, seconds: float = 10) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "did not happen in time"
        time.sleep(0.005)


def test_cancelling_frees_the_slot_within_a_step() -> None:
    with tiny.engine(slow(tiny.llama(spread=0.02), 0.02), slots=1) as engine:
        first = engine.submit([tiny.BOS], LONG)
        next(iter(first))
        waiting = engine.submit([tiny.BOS], LONG)
        second = engine.submit([tiny.BOS], SamplingParams(temperature=0, max_tokens=1))
        began = time.monotonic()
        waiting.cancel()
        first.cancel()
        assert second.result().completion_tokens == 1
        assert time.monotonic() - began < 1
        assert first.result().finish_reason == "abort"
        assert waiting.result().finish_reason == "abort"
        assert engine.load_now().answering == 0


def test_the_queue_is_bounded() -> None:
    with tiny.engine(slow(tiny.llama(spread=0.02), 0.02), slots=1, queue_size=2) as engine:
        running = [engine.submit([tiny.BOS], LONG)]
        until(lambda: engine.load_now().answering == 1)
        running += [engine.submit([tiny.BOS], LONG) for _ in range(2)]
        with pytest.raises(QueueFullError):
            engine.submit([tiny.BOS], LONG)
        for generation in running:
            generation.cancel()


class Fragile(tiny.ByteTokenizer):
    """Fails at one token."""

    def token_bytes(self, token: int) -> bytes:
        if token == 7:
            raise ValueError("no such piece")
        return super().token_bytes(token)


def test_a_failing_request_fails_alone() -> None:
    cursed = SamplingParams(temperature=0, max_tokens=30, logit_bias={7: 100.0})
    model = tiny.llama(spread=0.02)
    with tiny.engine(model, tokenizer=Fragile()) as engine:
        good = SamplingParams(temperature=0, max_tokens=30, logit_bias={7: -100.0})
        results = engine.complete([[tiny.BOS, 1]] * 3, [good, cursed, good])
        again = engine.submit([tiny.BOS, 1], good).result()
    assert [result.finish_reason == "error" for result in results] == [False, True, False]
    assert "no such piece" in (results[1].error or "")
    assert results[0].token_ids == results[2].token_ids == again.token_ids


def breaking(model: Any, when: Any) -> Any:
    """The model, raising where `when(input_ids)`."""
    forward = model.base_model.forward

    def raising(*args: Any, **kwargs: Any) -> Any:
        if when(kwargs["input_ids"]):
            raise RuntimeError("out of memory")
        return forward(*args, **kwargs)

    model.base_model.forward = raising
    return model


def test_a_prompt_that_breaks_the_forward_pass_fails_alone() -> None:
    model = breaking(tiny.llama(), lambda ids: bool((ids == 9).any()) and ids.shape[1] > 1)
    params = SamplingParams(temperature=0, max_tokens=5, logit_bias={9: -100.0})
    asked = [[tiny.BOS, 1, 2], [tiny.BOS, 9, 3], [tiny.BOS, 4, 5]]
    with tiny.engine(model) as engine:
        results = engine.complete(asked, [params] * 3)
        alone = engine.submit(asked[2], params).result()
    assert [result.error is None for result in results] == [True, False, True]
    assert results[2].token_ids == alone.token_ids


def test_a_crash_answers_everyone_and_says_so() -> None:
    calls: list[int] = []

    def third_decode(ids: Any) -> bool:
        calls.append(ids.shape[1])
        return calls.count(1) == 3

    with tiny.engine(breaking(tiny.llama(spread=0.02), third_decode), slots=2) as engine:
        running = [engine.submit([tiny.BOS, 65], LONG) for _ in range(4)]
        results = [generation.result() for generation in running]
        assert [result.finish_reason for result in results] == ["error"] * 4
        assert "out of memory" in (results[0].error or "")
        assert engine.failure is not None
        with pytest.raises(EngineError):
            engine.submit([tiny.BOS], LONG)


def test_weights_that_give_no_numbers_fail_the_request() -> None:
    model = tiny.llama()
    model.get_output_embeddings().weight.data.fill_(float("nan"))
    with tiny.engine(model) as engine:
        completion = engine.submit([tiny.BOS, 65], GREEDY).result()
        assert completion.finish_reason == "error"
        assert engine.failure is None


def test_closing_ends_what_runs() -> None:
    engine: Engine = tiny.engine(slow(tiny.llama(spread=0.02), 0.02))
    generation = engine.submit([tiny.BOS], LONG)
    next(iter(generation))
    engine.close()
    assert generation.result().finish_reason == "abort"


def test_deltas_are_delivered_once_a_step_for_all() -> None:
    batches: list[list[tuple[Generation, Delta]]] = []
    over = threading.Event()

    def deliver(batch: Sequence[tuple[Generation, Delta]]) -> None:
        batches.append(list(batch))
        if sum(delta.completion is not None for one in batches for _, delta in one) == 3:
            over.set()

    params = SamplingParams(temperature=0, logit_bias={65: 100.0}, max_tokens=20)
    with tiny.engine(tiny.llama(spread=0.02)) as engine:
        for _ in range(3):
            engine.submit([tiny.BOS, 66], params, deliver=deliver)
        assert over.wait(10)
    # 3 answers of 20 tokens: about 20 deliveries, never one for each token.
    assert len(batches) <= 24


def test_a_deliverer_that_is_gone_frees_its_slots() -> None:
    def gone(batch: object) -> None:
        raise RuntimeError("event loop is closed")

    with tiny.engine(slow(tiny.llama(spread=0.02), 0.01)) as engine:
        engine.submit([tiny.BOS], LONG, deliver=gone)
        until(lambda: engine.load_now().answering == 0)
        assert engine.submit([tiny.BOS], GREEDY).result().error is None


def test_the_next_turn_reads_only_what_is_new() -> None:
    model = tiny.llama(seed=4)
    first = prompts(1, longest=60, seed=8)[0]
    with tiny.engine(model, slots=3) as engine:
        turn = engine.submit(first, GREEDY).result()
        second = [*first, *turn.token_ids, *range(40, 60)]
        again = engine.submit(second, GREEDY).result()
        other = engine.submit([tiny.BOS, *range(100, 130)], GREEDY).result()
        third = engine.submit(second, GREEDY).result()
    # The last token sampled was never read.
    assert again.cached_tokens == len(first) + len(turn.token_ids) - 1
    assert (turn.cached_tokens, other.cached_tokens) == (0, 0)
    assert third.cached_tokens == len(second) - 1
    assert list(again.token_ids) == tiny.reference(model, second, 24) == list(third.token_ids)


def test_several_answers_to_one_prompt_read_it_once() -> None:
    model = tiny.llama(seed=4)
    prompt = [tiny.BOS, *range(50)]
    with tiny.engine(model, slots=4) as engine:
        results = engine.complete([prompt] * 7, [GREEDY] * 7)
    assert [result.cached_tokens for result in results] == [0] + [len(prompt) - 1] * 6
    assert {result.token_ids for result in results} == {results[0].token_ids}
    assert list(results[0].token_ids) == tiny.reference(model, prompt, 24)


@pytest.mark.parametrize("name", MODELS)
def test_shared_beginnings_never_change_an_answer(name: str) -> None:
    model = MODELS[name]()
    rng = random.Random(3)
    stems = prompts(4, longest=50, seed=9)
    asked = [[*rng.choice(stems), *rng.sample(range(256), rng.randint(0, 30))] for _ in range(40)]
    wanted = [tiny.reference(model, prompt, 8) for prompt in asked]
    params = [SamplingParams(temperature=0, max_tokens=8)] * len(asked)
    with tiny.engine(model, slots=5, prefill_tokens=30) as engine:
        for _ in range(2):
            results = engine.complete(asked, params)
            assert [list(result.token_ids) for result in results] == wanted
    assert sum(result.cached_tokens for result in results) > 200


def test_spoilt_numbers_are_not_kept() -> None:
    model = tiny.llama(seed=5)
    wanted = tiny.reference(model, [tiny.BOS, 5], 24)
    embeddings = model.get_input_embeddings().weight.data
    healthy = embeddings[9].clone()
    embeddings[9] = float("nan")
    with tiny.engine(model, slots=1) as engine:
        assert engine.submit([tiny.BOS, *[9] * 40], GREEDY).result().error is not None
        embeddings[9] = healthy
        result = engine.submit([tiny.BOS, 5], GREEDY).result()
    assert list(result.token_ids) == wanted


@pytest.mark.parametrize("tokens", [0, 6])
def test_log_probabilities_are_the_models_own(tokens: int) -> None:
    model = tiny.llama(seed=6)
    asked = prompts(5, longest=50, seed=4)
    params = SamplingParams(
        temperature=1.5, seed=1, max_tokens=tokens, logprobs=2, prompt_logprobs=3
    )
    with tiny.engine(model, slots=3, prefill_tokens=16) as engine:
        results = engine.complete(asked, [params] * len(asked))
    for prompt, result in zip(asked, results, strict=True):
        ids = [*prompt, *result.token_ids]
        with torch.inference_mode():
            logits = model(input_ids=torch.tensor([ids])).logits[0, :, : tiny.VOCAB]
        wanted = logits.log_softmax(dim=-1)
        assert result.prompt_logprobs is not None
        assert result.logprobs is not None
        assert result.prompt_logprobs[0] is None
        found = [*result.prompt_logprobs[1:], *result.logprobs]
        assert len(found) == len(ids) - 1
        for place, item in enumerate(found):
            assert item is not None
            assert item.token == ids[place + 1]
            assert item.logprob == pytest.approx(float(wanted[place, item.token]), abs=1e-3)
            best = wanted[place].topk(len(item.top)).values.tolist()
            assert [value for _, value in item.top] == pytest.approx(best, abs=1e-3)
        assert result.completion_tokens <= tokens


@pytest.mark.parametrize("name", ["llama", "mistral-window", "bigcode"])
def test_company_changes_no_token_but_a_tie(name: str) -> None:
    """A request alone and among 31 others, which begin like it or don't, come and go."""
    model = MODELS[name]()
    rng = random.Random(11)
    asked = prompts(32, longest=90, seed=12)
    asked[7:12] = [[*asked[3], *rng.sample(range(256), n)] for n in range(5)]
    params = [SamplingParams(temperature=0, max_tokens=rng.randint(8, 48)) for _ in asked]
    with tiny.engine(model, slots=32, prefill_tokens=300) as engine:
        together = engine.complete(asked, params)
    for prompt, wanted, completion in zip(asked, params, together, strict=True):
        with tiny.engine(model, slots=1) as engine:
            alone = engine.submit(prompt, wanted).result().token_ids
        if completion.token_ids != alone:
            place = next(i for i, t in enumerate(alone) if completion.token_ids[i] != t)
            with torch.inference_mode():
                ids = torch.tensor([[*prompt, *alone[:place]]])
                best = model(input_ids=ids).logits[0, -1, : tiny.VOCAB].topk(2).values
            assert best[0] - best[1] < 1e-4, "not a tie"
