"""Drawing the next token of every row at once, each row by its own rules and its own generator."""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Sequence

import torch
from torch import Tensor

from openchat_cli.engine.settings import SamplingParams

# A nucleus nearly always lies among the 256 best tokens; a row whose nucleus doesn't is looked at
# again with a window this much wider, since sorting a whole vocabulary costs a forward pass.
_WINDOW = 256
_WIDER = 16
_BLOCK = 256


class RowSampler:
    """The sampling state of one request: its random numbers and the tokens it has used."""

    def __init__(self, params: SamplingParams, prompt: Sequence[int] = ()) -> None:
        self.params = params
        # Python's generator, not torch's: cheap to make, and the same on every device.
        self._random = random.Random(_signed(params.seed))
        self._counts: Counter[int] = Counter()
        self._counting = bool(params.presence_penalty or params.frequency_penalty)
        self._repeated = set(prompt) if params.repetition_penalty != 1 else None
        self.adjusts = self._counting or self._repeated is not None or bool(params.logit_bias)

    def draw(self) -> float:
        """A number in [0, 1): exactly one for each sampled token."""
        return self._random.random()

    def used(self, token: int) -> None:
        """Take note of a token that was sampled."""
        if self._counting:
            self._counts[token] += 1
        if self._repeated is not None:
            self._repeated.add(token)

    def adjust(self, logits: Tensor) -> None:
        """Add the biases and penalties to one row of logits [vocab], in place.

        Off the logit of each token of the answer goes OpenAI's presence + frequency · count. Before
        that the repetition penalty of Keskar et al. (2019) divides the logits of the answer's and
        the prompt's tokens where they are positive, and multiplies them where negative.
        """
        if self._repeated:
            used = torch.tensor(self.repeated, device=logits.device)
            before, penalty = logits[used], self.params.repetition_penalty
            logits[used] = torch.where(before > 0, before / penalty, before * penalty)
        changes = self.changes()
        if changes:
            ids = torch.tensor(list(changes), device=logits.device)
            logits[ids] += torch.tensor(list(changes.values()), device=logits.device)

    @property
    def repeated(self) -> list[int]:
        """The tokens that the repetition penalty falls on."""
        return sorted(self._repeated or ())

    def changes(self) -> dict[int, float]:
        """What is added to the logits of which tokens, after the repetition penalty."""
        changes = dict(self.params.logit_bias)
        for token, count in self._counts.items():
            off = self.params.presence_penalty + self.params.frequency_penalty * count
            changes[token] = changes.get(token, 0.0) - off
        return changes


def _signed(seed: int | None) -> int | None:
    """The seed without the sign that Python's generator would drop: -1 is another than 1."""
    return seed if seed is None or seed >= 0 else 2**64 - seed


def sample(logits: Tensor, rows: Sequence[RowSampler]) -> list[int | None]:
    """The next token of each row of `logits` [rows, vocab]; None where they are not numbers."""
    logits = logits.float()
    if any(row.adjusts for row in rows):
        logits = logits.clone()
        for index, row in enumerate(rows):
            if row.adjusts:
                row.adjust(logits[index])
    best, tokens = best_of(logits)
    drawing = [index for index, row in enumerate(rows) if not row.params.greedy]
    if drawing:
        tokens[drawing] = _draw(logits[drawing], [rows[index] for index in drawing])
    usable = [math.isfinite(value) for value in best.tolist()]  # max carries a NaN through
    found = tokens.tolist()
    for row, token in zip(rows, found, strict=True):
        row.used(token)
    return [token if good else None for token, good in zip(found, usable, strict=True)]


def best_of(logits: Tensor) -> tuple[Tensor, Tensor]:
    """The largest of each row [rows, vocab], NaN where there is one, and the first place of it.

    A CPU finds the largest of many numbers much faster than its place: so first the block.
    """
    vocab = logits.shape[-1]
    whole = vocab - vocab % _BLOCK
    if logits.device.type != "cpu" or whole < 8 * _BLOCK:
        best, tokens = logits.max(dim=-1)
        return best, tokens
    highest = logits[:, :whole].view(len(logits), -1, _BLOCK).amax(dim=-1)
    if whole < vocab:
        rest = logits[:, whole:].amax(dim=-1, keepdim=True)
        highest = torch.cat([highest, rest], dim=-1)
    starts = highest.argmax(dim=-1, keepdim=True) * _BLOCK
    places = (starts + torch.arange(_BLOCK)).clamp_(max=vocab - 1)
    best, within = logits.gather(-1, places).max(dim=-1)
    return best, starts[:, 0] + within


def _draw(logits: Tensor, rows: Sequence[RowSampler]) -> Tensor:
    device = logits.device
    params = [row.params for row in rows]
    draws = torch.tensor([row.draw() for row in rows], dtype=torch.float64, device=device)
    logits = logits / torch.tensor([[p.temperature] for p in params], device=device)
    least = torch.tensor([[p.min_p] for p in params], device=device)
    tokens = torch.empty(len(rows), dtype=torch.long, device=device)

    whole = [i for i, p in enumerate(params) if p.top_p >= 1 and p.top_k == 0]
    if whole:
        probabilities = logits[whole].softmax(dim=-1)
        probabilities = _without_small(probabilities, least[whole])
        tokens[whole] = _invert(probabilities, draws[whole])
    cut = [i for i, p in enumerate(params) if not (p.top_p >= 1 and p.top_k == 0)]
    window = max([_WINDOW, *(params[i].top_k for i in cut)])
    while cut:
        window = min(window, logits.shape[-1])
        ids, probabilities, complete = _nucleus(logits[cut], [params[i] for i in cut], window)
        probabilities = _without_small(probabilities, least[cut])
        chosen = _invert(probabilities, draws[cut])
        tokens[cut] = ids.gather(-1, chosen[:, None])[:, 0]
        cut = [i for i, done in zip(cut, complete.tolist(), strict=True) if not done]
        window *= _WIDER
    return tokens


def _nucleus(
    logits: Tensor, params: Sequence[SamplingParams], window: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Token ids [rows, window] in rising order, their probabilities with those outside top-k and
    top-p zeroed, and for each row whether the window was wide enough to know.
    """
    top_p = torch.tensor([[p.top_p] for p in params], device=logits.device)
    # Cut to the vocabulary: a client may send a number that no tensor holds.
    vocab = logits.shape[-1]
    top_k = torch.tensor([[min(p.top_k or vocab, vocab)] for p in params], device=logits.device)
    best, ids = logits.topk(window, dim=-1)
    probabilities = (best - logits.logsumexp(dim=-1, keepdim=True)).exp()
    rank = torch.arange(window, device=logits.device)
    in_top_k = rank < top_k
    # top-p applies to what top-k leaves, renormalised.
    mass = (probabilities * in_top_k).sum(dim=-1, keepdim=True)
    total = torch.where(top_k <= window, mass, torch.ones_like(mass))
    before = probabilities.cumsum(dim=-1) - probabilities
    # The best token always stays, also at top_p 0.
    kept = in_top_k & ((before < top_p * total) | (rank == 0))
    complete = (~kept[:, -1]) | (top_k[:, 0] <= window) | (window == logits.shape[-1])
    # In the order of the vocabulary: two tokens of nearly equal probability must not change places
    # with the rounding of another batch size, or a seed would not repeat.
    ids, order = ids.sort(dim=-1)
    return ids, (probabilities * kept).gather(-1, order), complete


def _without_small(probabilities: Tensor, least: Tensor) -> Tensor:
    """Zero what is less likely than min_p times the best."""
    if not bool(least.any()):
        return probabilities
    return probabilities * (probabilities >= least * probabilities.amax(dim=-1, keepdim=True))


def _invert(probabilities: Tensor, draws: Tensor) -> Tensor:
    """For each row the first index whose cumulative share exceeds the row's draw."""
    cumulative = probabilities.double().cumsum(dim=-1)
    target = draws[:, None] * cumulative[:, -1:]
    return torch.searchsorted(cumulative, target, right=True)[:, 0].clamp_(
        max=probabilities.shape[-1] - 1
    )
