"""Getting answers: from an endpoint, many calls at once, or from a model folder through the engine.

Both give an answer for every question and sample that was wanted; one that failed says why. What
was finished before is taken from the journal beside the run.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from openchat_cli.core import loop
from openchat_cli.core.client import CallError, Chat, Client, Reply
from openchat_cli.core.endpoint import Endpoint
from openchat_cli.core.errors import need
from openchat_cli.core.jsonl import Journal
from openchat_cli.core.progress import SILENT, Progress
from openchat_cli.core.records import Answer, Message, Question
from openchat_cli.evaluation.settings import LocalModel, Sampling

if TYPE_CHECKING:
    from openchat_cli.engine.engine import Engine
    from openchat_cli.engine.generation import Completion

Done = Callable[[Answer], None]


@dataclass(frozen=True, slots=True)
class Wanted:
    """One answer to be had."""

    question: Question
    sample: int

    @property
    def key(self) -> tuple[str, int]:
        """What tells it apart within a file of answers."""
        return self.question.question_id, self.sample


@dataclass(slots=True)
class _Draft:
    """An answer as it grows, turn by turn."""

    wanted: Wanted
    turns: list[str] = field(default_factory=list)
    finish_reasons: list[str] = field(default_factory=list)
    usage: dict[str, int] = field(default_factory=dict)
    error: str | None = None

    @property
    def messages(self) -> list[Message]:
        """The conversation up to the question that comes next."""
        found: list[Message] = []
        for question, answer in zip(self.wanted.question.turns, self.turns, strict=False):
            found += [Message("user", question), Message("assistant", answer)]
        return [*found, Message("user", self.wanted.question.turns[len(self.turns)])]

    @property
    def unfinished(self) -> bool:
        return self.error is None and len(self.turns) < len(self.wanted.question.turns)

    def add(self, text: str, finish_reason: str, usage: dict[str, int] | None) -> None:
        self.turns.append(text)
        self.finish_reasons.append(finish_reason)
        for name, count in (usage or {}).items():
            self.usage[name] = self.usage.get(name, 0) + count

    def answer(self, model: str, settings_hash: str) -> Answer:
        question_id, sample = self.wanted.key
        content = json.dumps([model, question_id, sample, self.turns, settings_hash])
        return Answer(
            question_id=question_id,
            answer_id=hashlib.sha256(content.encode()).hexdigest()[:22],
            model=model,
            turns=tuple(self.turns),
            sample=sample,
            finish_reasons=tuple(self.finish_reasons),
            usage=self.usage or None,
            settings_hash=settings_hash,
            error=self.error,
        )


def hash_of(**parts: Any) -> str:
    """A short name for settings: equal hashes, equal settings."""
    text = json.dumps(parts, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


# --- an endpoint ---


@dataclass(frozen=True)
class EndpointSource:
    """A model behind a URL."""

    endpoint: Endpoint
    model: str
    name: str
    sampling: Sampling

    @property
    def settings_hash(self) -> str:
        """Of everything that decides what the answers are."""
        sampling = _without_samples(self.sampling)
        return hash_of(url=self.endpoint.url, model=self.model, **sampling)

    def ask(
        self, wanted: Sequence[Wanted], journal: Journal, done: Done, *, progress: Progress = SILENT
    ) -> None:
        """Have every answer, in the order in which they come; `done` takes each."""
        loop.run(self._ask(wanted, journal, done, progress))

    async def _ask(
        self, wanted: Sequence[Wanted], journal: Journal, done: Done, progress: Progress
    ) -> None:
        async with Client(self.endpoint, self.model, journal=journal, progress=progress) as client:

            async def one(item: Wanted) -> None:
                draft = _Draft(item)
                try:
                    while draft.unfinished:
                        reply = await self._turn(client, draft)
                        draft.add(reply.text, reply.finish_reason, reply.usage)
                except CallError as error:
                    draft.error = str(error)
                done(draft.answer(self.name, self.settings_hash))

            await loop.spread(wanted, one, self.endpoint.concurrency)

    async def _turn(self, client: Client, draft: _Draft) -> Reply:
        sampling, sample = self.sampling, draft.wanted.sample
        parameters: dict[str, Any] = {
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "max_tokens": sampling.max_tokens,
        }
        if sampling.seed is not None:
            parameters["seed"] = sampling.seed + sample
        messages = [{"role": m.role, "content": m.content} for m in draft.messages]
        return await client.chat(Chat(messages, parameters, sample, may_be_empty=True))


# --- a model folder ---


@dataclass(frozen=True)
class FolderSource:
    """A model folder, answered from by the engine in this process."""

    path: Path
    name: str
    sampling: Sampling
    local: LocalModel

    def __post_init__(self) -> None:
        # Now, before anything of the run is written.
        need("answering from a model folder", "model", "torch", "transformers")

    @property
    def settings_hash(self) -> str:
        """Of everything that decides what the answers are, the weights' files included."""
        files = [
            (file.name, file.stat().st_size, file.stat().st_mtime_ns)
            for file in sorted(self.path.iterdir())
            if file.suffix in (".json", ".safetensors", ".bin", ".model")
        ]
        return hash_of(files=files, type=self.local.model_type, **_without_samples(self.sampling))

    def ask(
        self, wanted: Sequence[Wanted], journal: Journal, done: Done, *, progress: Progress = SILENT
    ) -> None:
        """Have every answer, a few slots' worth of questions at a time; `done` takes each."""
        fingerprint = self.settings_hash
        missing: list[Wanted] = []
        for item in wanted:
            row = journal.rows.get(_journal_key(fingerprint, item))
            if row is None:
                missing.append(item)
            else:
                done(Answer.from_row(row["answer"]))
        if not missing:
            return
        with self._load(progress) as engine:
            for some in _chunks(missing, 2 * self.local.max_slots):
                for draft in self._answer(engine, some):
                    answer = draft.answer(self.name, fingerprint)
                    if answer.error is None:
                        key = _journal_key(fingerprint, draft.wanted)
                        journal.append({"key": key, "answer": answer.to_row()})
                    done(answer)

    def _load(self, progress: Progress) -> Engine:
        from openchat_cli.engine.settings import EngineSettings, let_threads_sleep

        let_threads_sleep()
        from openchat_cli.engine.engine import Engine

        settings = EngineSettings(
            model_path=self.path,
            model_type=self.local.model_type,
            model_file=self.local.model_file,
            device=self.local.device,
            max_slots=self.local.max_slots,
        )
        return Engine.load(settings, progress=progress)

    def _answer(self, engine: Engine, wanted: Sequence[Wanted]) -> list[_Draft]:
        from openchat_cli.core import templates
        from openchat_cli.engine.settings import SamplingParams

        drafts = [_Draft(item) for item in wanted]
        while waiting := [draft for draft in drafts if draft.unfinished]:
            prompts = [
                templates.prompt(engine.kind, engine.tokenizer, draft.messages) for draft in waiting
            ]
            params = [
                SamplingParams(
                    temperature=self.sampling.temperature,
                    top_p=self.sampling.top_p,
                    max_tokens=self.sampling.max_tokens,
                    seed=_seed(self.sampling.seed or 0, draft),
                )
                for draft in waiting
            ]
            for draft, found in zip(waiting, engine.complete(prompts, params), strict=True):
                _take(draft, found)
        return drafts


def _take(draft: _Draft, found: Completion) -> None:
    if found.finish_reason not in ("stop", "length"):
        draft.error = found.error or f"the engine ended it with '{found.finish_reason}'"
        return
    usage = {
        "prompt_tokens": found.prompt_tokens,
        "completion_tokens": found.completion_tokens,
    }
    draft.add(found.text, found.finish_reason, usage)


def _seed(seed: int, draft: _Draft) -> int:
    """Its own for each turn, whatever else is answered beside it."""
    text = f"{seed} {draft.wanted.key} {len(draft.turns)}"
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4])


def _journal_key(fingerprint: str, wanted: Wanted) -> str:
    question = hash_of(turns=wanted.question.turns)
    return f"{fingerprint} {wanted.question.question_id} {question} {wanted.sample}"


def _chunks(items: Sequence[Wanted], size: int) -> Iterator[Sequence[Wanted]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]


def _without_samples(sampling: Sampling) -> dict[str, Any]:
    """How many samples there are changes none of them."""
    return {
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "max_tokens": sampling.max_tokens,
        "seed": sampling.seed,
    }
