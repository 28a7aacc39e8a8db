"""Continuous batching: one thread that answers many requests together.

Each step takes in what was submitted, reads some prompt tokens, then gains one token for every
request whose prompt is read. Requests come and go between steps. What fails for one request ends
that request; what can't be put down to one ends all of them and the engine.
"""

from __future__ import annotations

import dataclasses
import logging
import threading
import time
from collections import deque
from collections.abc import Sequence
from types import TracebackType
from typing import Protocol, Self

import torch

from openchat_cli.core import templates
from openchat_cli.core.errors import InputError, OpenChatError, UsageError
from openchat_cli.core.progress import SILENT, Progress
from openchat_cli.core.registry import ModelType
from openchat_cli.engine.cache import Span
from openchat_cli.engine.detokenise import TextStream
from openchat_cli.engine.generation import (
    Completion,
    ContextLengthError,
    Deliver,
    Delta,
    EngineError,
    FinishReason,
    Generation,
    Load,
    QueueFullError,
    TokenLogprob,
    Totals,
    deliver_to_iterators,
)
from openchat_cli.engine.logprobs import batches, logprobs_of
from openchat_cli.engine.row import Row
from openchat_cli.engine.runner import Runner
from openchat_cli.engine.scheduler import Scheduler
from openchat_cli.engine.settings import EngineSettings, SamplingParams

__all__ = ["Completion", "Delta", "Engine", "Generation", "Load"]

log = logging.getLogger("openchat.engine")


class Tokenizer(templates.Tokenizer, Protocol):
    """What the engine needs of a tokeniser."""

    @property
    def vocab_size(self) -> int: ...

    def token_bytes(self, token: int) -> bytes:
        """The bytes a token stands for, b"" for a control token."""


class Engine:
    """A model that answers requests; `load` makes one from a folder.

    Use as a context manager, or call `close`. `submit` may be called from any thread.
    """

    def __init__(
        self,
        runner: Runner,
        tokenizer: Tokenizer,
        kind: ModelType,
        *,
        queue_size: int = EngineSettings.queue_size,
        max_concurrency: int | None = None,
        prefill_tokens: int = EngineSettings.prefill_tokens,
        end_tokens: Sequence[int] = (),
        weight_bytes: int = 0,
    ) -> None:
        self.kind = kind
        self.tokenizer = tokenizer
        self.context = runner.context
        self.slots = runner.slots
        self.device = str(runner.device)
        self.dtype = runner.dtype
        self.weight_bytes = weight_bytes
        self.slot_bytes = runner.slot_bytes
        self.failure: str | None = None  # why the engine stopped by itself
        self.trouble: str | None = None  # what passes: no engine of its own has any
        self.totals = Totals()
        self._runner = runner
        self._queue_size = queue_size
        self._end_tokens = frozenset((tokenizer.eot_id, *end_tokens))
        # SentencePiece puts a space before every text, an answer too.
        self.drops_space = tokenizer.token_bytes(tokenizer.encode("a")[0]).startswith(b" ")
        self._scheduler = Scheduler(
            runner.slots, prefill_tokens, runner.contents, limit=max_concurrency
        )
        self._arrived: deque[Row] = deque()
        self._outgoing: list[tuple[Row, Delta]] = []
        self._signal = threading.Condition()
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)
        self._thread.start()

    @classmethod
    def load(cls, settings: EngineSettings, *, progress: Progress = SILENT) -> Engine:
        """Load model and tokeniser from a folder and start. Raises InputError or UsageError for a
        folder that is no model or a setting that does not fit it.
        """
        from openchat_cli.engine.loading import load_parts

        parts = load_parts(settings, progress=progress)
        engine = cls(
            parts.runner,
            parts.tokenizer,
            parts.kind,
            queue_size=settings.queue_size,
            max_concurrency=settings.max_concurrency,
            prefill_tokens=settings.prefill_tokens,
            end_tokens=parts.end_tokens,
            weight_bytes=parts.weight_bytes,
        )
        with progress.task("answering a first token", 1, "tokens") as task:
            engine.warm_up()
            task.advance()
        return engine

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    # --- the callers' side ---

    def submit(
        self,
        prompt: Sequence[int],
        params: SamplingParams,
        *,
        deliver: Deliver = deliver_to_iterators,
        continues: bool = False,
    ) -> Generation:
        """Ask for one answer; see `submit_together`."""
        return self.submit_together([prompt], [params], deliver=deliver, continues=continues)[0]

    def submit_together(
        self,
        prompts: Sequence[Sequence[int]],
        params: Sequence[SamplingParams],
        *,
        deliver: Deliver = deliver_to_iterators,
        continues: bool = False,
    ) -> list[Generation]:
        """Ask for an answer to each prompt (token ids), or for none where one of them is refused.
        Those that `continue` their text may begin with a space, where a turn of its own would lose
        the one that SentencePiece puts before.

        `deliver` is called from the engine's thread, once a step (twice where prompts were read),
        with the deltas of all requests that were submitted with the same one; it must not block.

        Raises InputError for an empty prompt or ids that the model lacks, UsageError for params
        with such ids, ContextLengthError, QueueFullError, and EngineError where the engine has
        stopped. The line is full by what is in it, not by what comes: so many answers asked for
        together can always be had once others are done.
        """
        rows = [
            self._row(prompt, wanted, deliver, continues=continues)
            for prompt, wanted in zip(prompts, params, strict=True)
        ]
        with self._signal:
            if self._closing or self.failure is not None:
                raise EngineError(self.failure or "the engine is closed")
            # All of them, since those that just arrived may yet find a free slot.
            held = len(self._arrived) + len(self._scheduler.waiting) + len(self._scheduler.rows)
            if held >= self._scheduler.limit + self._queue_size:
                raise QueueFullError(f"{self._queue_size} requests are waiting already")
            self._arrived.extend(rows)
            self._signal.notify()
        return [row.generation for row in rows]

    def _row(
        self, prompt: Sequence[int], params: SamplingParams, deliver: Deliver, *, continues: bool
    ) -> Row:
        ids = self._checked(prompt, params)
        text = TextStream(
            self.tokenizer.token_bytes,
            stop=params.stop,
            drop_space=self.drops_space and not continues,
        )
        max_tokens = min(params.max_tokens, self.context - len(ids))
        return Row(Generation(len(ids), self._wake), deliver, ids, params, text, max_tokens)

    def complete(
        self,
        prompts: Sequence[Sequence[int]],
        params: Sequence[SamplingParams],
        *,
        progress: Progress = SILENT,
    ) -> list[Completion]:
        """Answer many prompts, as many together as there are slots; results keep their order.

        A prompt that can't be answered gives a completion with `error`; raises EngineError only
        where the engine stops.
        """
        jobs = deque(enumerate(zip(prompts, params, strict=True)))
        done: dict[int, Completion] = {}
        running: deque[tuple[int, Generation]] = deque()
        window = max(1, min(self._queue_size, 2 * self.slots))
        with progress.task("answering", len(prompts), "answers") as task:
            while jobs or running:
                while jobs and len(running) < window:
                    index, (prompt, wanted) = jobs[0]
                    try:
                        running.append((index, self.submit(prompt, wanted)))
                    except QueueFullError:
                        if not running:
                            raise
                        break  # others fill the queue too: wait for one of ours
                    except InputError as error:
                        done[index] = Completion("", (), "error", len(prompt), 0, error.message)
                        task.advance()
                    jobs.popleft()
                if running:
                    index, generation = running.popleft()
                    done[index] = generation.result()
                    task.advance()
                    if self.failure is not None:
                        raise EngineError(self.failure)
        return [done[index] for index in range(len(prompts))]

    def warm_up(self) -> None:
        """Answer one token, so that a model that can't run fails now and not at the first user.

        Raises EngineError or OpenChatError with the reason.
        """
        first = self.tokenizer.eot_id if self.tokenizer.bos_id is None else self.tokenizer.bos_id
        completion = self.submit([first], SamplingParams(temperature=0, max_tokens=1)).result()
        if completion.error is not None:
            self.close()
            raise OpenChatError(f"the model can't answer: {completion.error}")

    def load_now(self) -> Load:
        """How many requests have a slot and how many wait."""
        with self._signal:
            waiting = len(self._arrived) + len(self._scheduler.waiting)
            return Load(len(self._scheduler.rows), waiting)

    def close(self) -> None:
        """Stop after the step under way; requests not finished end with "abort"."""
        with self._signal:
            self._closing = True
            self._signal.notify()
        if threading.current_thread() is not self._thread:
            self._thread.join()

    def _checked(self, prompt: Sequence[int], params: SamplingParams) -> list[int]:
        ids = list(prompt)
        size = self._runner.vocab_size
        if not ids:
            raise InputError("the prompt is empty")
        if len(ids) >= self.context:
            raise ContextLengthError(len(ids), self.context)
        for token in (min(ids), max(ids)):
            if not 0 <= token < size:
                raise InputError(f"token id {token} is not one of the model's {size}")
        for token in (*params.logit_bias, *params.stop_token_ids):
            if not 0 <= token < size:
                raise UsageError(f"token id {token} is not one of the model's {size}")
        return ids

    def _wake(self) -> None:
        with self._signal:
            self._signal.notify()

    # --- the engine's thread ---

    def _run(self) -> None:
        try:
            with torch.inference_mode():
                while self._take_in():
                    self._step()
                    self._send()
        except Exception as error:
            log.exception("the engine stopped")
            self.failure = f"the engine stopped: {type(error).__name__}: {error}"
        finally:
            self._end_all()

    def _take_in(self) -> bool:
        """Wait for work; False when it is time to stop."""
        with self._signal:
            while not (self._closing or self._arrived or self._scheduler.busy):
                self._signal.wait()
            if self._closing:
                return False
            while self._arrived:
                self._scheduler.add(self._arrived.popleft())
        return True

    def _step(self) -> None:
        for row in [*self._scheduler.rows, *self._scheduler.waiting]:
            if row.generation.cancelled:
                self._end(row, "abort")
        self.totals.steps += 1
        parts = self._scheduler.to_read()
        self.totals.preempted = self._scheduler.preempted
        if parts:
            self._prefill(parts)
            self._send()  # a first token need not wait for the others' next
        rows = self._scheduler.rows[: self._scheduler.decoding]
        if rows:
            logits = self._runner.decode([r.tokens[-1] for r in rows], [r.cached for r in rows])
            for row in rows:
                row.cached += 1
            self._sample(rows, logits)

    def _prefill(self, parts: list[tuple[Row, int, int]]) -> None:
        spans = [
            Span(self._scheduler.slot(row), start, row.source[start:end])
            for row, start, end in parts
        ]
        try:
            hidden = self._runner.prefill(spans)
        except Exception as error:
            if len(parts) > 1:  # find out whose fault it is
                for part in parts:
                    self._prefill([part])
                return
            log.warning("a prompt could not be read: %s", error)
            self._end(parts[0][0], "error", f"the prompt could not be read: {error}")
            return
        last: list[torch.Tensor] = []
        whole: list[Row] = []
        self._scheduler.have_read(parts)
        for (row, start, _), states in zip(parts, hidden, strict=True):
            if row.params.prompt_logprobs is not None:
                self._look_at_prompt(row, start, states)
            if not row.unread and not row.tokens:  # one that gave way goes on where it was
                self._count(row)
                whole.append(row)
                last.append(states[-1])
        if whole:
            self._sample(whole, self._runner.logits(torch.stack(last)))

    def _count(self, row: Row) -> None:
        totals = self.totals
        totals.prompt += len(row.prompt)
        totals.reused += row.reused
        totals.hits += row.reused > 0

    def _look_at_prompt(self, row: Row, start: int, states: torch.Tensor) -> None:
        """Take down how likely the prompt's tokens were after those just read."""
        count = row.params.prompt_logprobs or 0
        following = row.prompt[start + 1 : start + 1 + len(states)]
        for part in batches(len(following)):
            logits = self._runner.logits(states[: len(following)][part])
            row.prompt_logprobs += logprobs_of(logits, following[part], count)
        if not row.unread:
            self._outgoing.append((row, Delta("", prompt_logprobs=tuple(row.prompt_logprobs))))

    def _sample(self, rows: list[Row], logits: torch.Tensor) -> None:
        tokens = self._runner.sample(logits, [row.sampler for row in rows])
        known = _logprobs(rows, tokens, logits)
        # From the last slot down: rows that end together then need not be moved around each other.
        for row, token in reversed(list(zip(rows, tokens, strict=True))):
            if not row.max_tokens:  # only the prompt was asked about
                self._end(row, "length")
                continue
            if token is None:
                self._end(row, "error", "the model gave logits that are not numbers")
                continue
            try:
                self._advance(row, token, known.get(row))
            except Exception as error:
                log.warning("an answer failed: %s: %s", type(error).__name__, error)
                self._end(row, "error", f"{type(error).__name__}: {error}")

    def _advance(self, row: Row, token: int, logprob: TokenLogprob | None) -> None:
        """Add a sampled token to a row, and end the row where that ends it."""
        row.tokens.append(token)
        self.totals.generated += 1
        if row.generation.first_token is None:
            row.generation.first_token = time.perf_counter()
        ends = token in self._end_tokens or token in row.stop_token_ids
        if logprob is not None:
            row.note(dataclasses.replace(logprob, ends=ends))
        if ends:
            self._end(row, "stop")
            return
        text = row.text.push(token)
        if row.text.stopped:
            self._end(row, "stop", text=text)
        elif len(row.tokens) >= row.max_tokens:
            self._end(row, "length", text=text)
        elif text:
            self._outgoing.append((row, Delta(text, logprobs=row.said())))

    def _end(
        self, row: Row, reason: FinishReason, error: str | None = None, text: str = ""
    ) -> None:
        self._scheduler.drop(row, keep=reason != "error")
        self._outgoing.append((row, row.last_delta(reason, error, text)))

    def _send(self) -> None:
        """Hand over what the step made, with one call for each deliverer."""
        batches: dict[Deliver, list[tuple[Generation, Delta]]] = {}
        for row, delta in self._outgoing:
            batches.setdefault(row.deliver, []).append((row.generation, delta))
        self._outgoing.clear()
        for deliver, batch in batches.items():
            try:
                deliver(batch)
            except Exception as error:  # its side is gone; so is the use of answering
                log.warning("answers could not be handed over: %s", error)
                for generation, _ in batch:
                    generation.cancelled = True

    def _end_all(self) -> None:
        with self._signal:
            self._closing = True
            rows = [*self._scheduler.rows, *self._scheduler.waiting, *self._arrived]
            self._scheduler.rows.clear()
            self._scheduler.waiting.clear()
            self._arrived.clear()
        reason: FinishReason = "abort" if self.failure is None else "error"
        self._outgoing += [(row, row.last_delta(reason, self.failure)) for row in rows]
        self._send()


def _logprobs(
    rows: Sequence[Row], tokens: Sequence[int | None], logits: torch.Tensor
) -> dict[Row, TokenLogprob]:
    """For the rows that ask for them, the log-probabilities of their new tokens."""
    asking = [
        index
        for index, row in enumerate(rows)
        if row.params.logprobs is not None and tokens[index] is not None
    ]
    if not asking:
        return {}
    counts = [rows[index].params.logprobs or 0 for index in asking]
    chosen = [token for token in (tokens[index] for index in asking) if token is not None]
    found = logprobs_of(logits[asking], chosen, max(counts))
    return {
        rows[index]: dataclasses.replace(item, top=item.top[:count])
        for index, item, count in zip(asking, found, counts, strict=True)
    }
