"""One verdict of an LLM judge: ask, read, ask once more where the scores can't be read."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from openchat_cli.core.client import CallError, Chat, Client, RefusedParameterError, Reply
from openchat_cli.core.jsonl import Journal
from openchat_cli.core.progress import SILENT, Progress
from openchat_cli.core.records import Judgment
from openchat_cli.evaluation import prompts
from openchat_cli.evaluation.cost import Purse
from openchat_cli.evaluation.judgments import Bench, Case
from openchat_cli.evaluation.settings import JudgeSettings
from openchat_cli.evaluation.verdict import read_scores

PROTOCOL = "pairwise-scores"
_LOWEST, _HIGHEST = 1.0, 10.0  # as the prompts say


class LlmJudge:
    """A judge at an endpoint. `format` becomes "text" where it takes no structured output."""

    def __init__(
        self, settings: JudgeSettings, journal: Journal | None, progress: Progress = SILENT
    ) -> None:
        self._settings = settings
        self._progress = progress
        self.name = settings.judge or ""
        self.client = Client(settings.endpoint, self.name, journal=journal, progress=progress)
        takes_json = settings.format == "json" and self.client.takes("response_format")
        self.format: prompts.Format = "json" if takes_json else "text"
        self.purse = Purse(self.name, settings.max_tokens, settings.budget, journal)
        self.calls = 0
        self.recorded = 0

    def chat(self, case: Case) -> Chat:
        """The request for one verdict."""
        answers = (case.pair.answer, case.pair.baseline)
        first, second = answers if case.order == "model_first" else reversed(answers)
        return self._chat(prompts.messages(case.pair.question, first, second, self.format), case)

    def _chat(self, messages: Sequence[dict[str, str]], case: Case) -> Chat:
        parameters: dict[str, Any] = {
            "temperature": self._settings.temperature,
            "max_tokens": self._settings.max_tokens,
        }
        if self.format == "json":
            parameters["response_format"] = dict(prompts.VERDICT_SCHEMA)
        return Chat(messages, parameters, case.sample)

    async def judge(self, case: Case) -> Judgment:
        """The judgment, whatever happens to the calls; EndpointError where none can succeed."""
        if case.pair.fault is not None:
            return self._failed(case, case.pair.fault)
        try:
            try:
                return await self._verdict(case)
            except RefusedParameterError:
                self._judge_in_text()
                return await self._verdict(case)
        except CallError as error:
            return self._failed(case, str(error))

    def _judge_in_text(self) -> None:
        if self.format == "json":
            self._progress.warn(f"{self.name} takes no structured output: judging in text")
            self.format = "text"

    async def _verdict(self, case: Case) -> Judgment:
        chat, format_ = self.chat(case), self.format
        replies = [await self._call(chat)]
        scores = _scores(replies[0])
        if scores is None:
            asked = [dict(message) for message in chat.messages]
            again = prompts.repair(asked, replies[0].text, format_)
            replies.append(await self._call(self._chat(again, case)))
            scores = _scores(replies[1])
        if scores and case.order == "baseline_first":
            scores = (scores[1], scores[0])
        return self._bench(format_).judgment(
            case,
            text="\n\n".join(reply.text for reply in replies),
            created=replies[-1].created,
            scores=scores,
            status="ok" if scores else "unreadable",
            usage=_total(replies),
        )

    async def _call(self, chat: Chat) -> Reply:
        known = self.client.recorded(chat)
        if known is not None:
            self.recorded += 1
            return known
        async with self.purse.hold(chat):
            reply = await self.client.chat(chat)
            self.purse.spend(chat, reply)
        self.calls += 1
        return reply

    def _failed(self, case: Case, reason: str) -> Judgment:
        created = datetime.now(UTC).isoformat(timespec="seconds")
        bench = self._bench(self.format)
        return bench.judgment(case, text=reason, created=created, status="failed")

    def _bench(self, format_: prompts.Format) -> Bench:
        return Bench(self.name, PROTOCOL, prompts.prompt_hash(format_))


def _scores(reply: Reply) -> tuple[float, float] | None:
    if reply.finish_reason == "length":
        return None  # cut off before its end, where the verdict would be
    found = read_scores(reply.text, _LOWEST, _HIGHEST)
    return (found.first, found.second) if found else None


def _total(replies: Sequence[Reply]) -> dict[str, int] | None:
    total: dict[str, int] = {}
    for reply in replies:
        for name, count in (reply.usage or {}).items():
            total[name] = total.get(name, 0) + count
    return total or None
