"""Drawing the next tokens on a GPU: what sampling.py draws, but the host waits once, at the end.

Whatever the rows ask for goes to the device in one copy from pinned memory, every row takes the
same path there, and the tokens come back with what the host has to know besides.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from openchat_cli.engine.sampling import RowSampler

# A nucleus nearly always lies among so many best tokens; a row whose nucleus doesn't is drawn again
# with a window this much wider, which costs a second wait.
_WINDOW = 256
_WIDER = 16
# No row asks for fewer tokens than this, as whole numbers that float64 holds exactly.
_NO_LIMIT = 2.0**52


def sample(logits: Tensor, rows: Sequence[RowSampler]) -> list[int | None]:
    """The next token of each row of `logits` [rows, vocab]; None where they are not numbers."""
    logits = _adjusted(logits.float(), rows)
    best, greedy = logits.max(dim=-1)
    usable = best.isfinite()  # max carries a NaN through
    if all(row.params.greedy for row in rows):
        found = torch.stack([greedy, usable.long()]).tolist()
    else:
        found = _mixed(logits, rows, greedy, usable)
    for row, token in zip(rows, found[0], strict=True):
        row.used(token)
    return [token if good else None for token, good in zip(*found, strict=True)]


def _mixed(
    logits: Tensor, rows: Sequence[RowSampler], greedy: Tensor, usable: Tensor
) -> list[list[int]]:
    """[tokens, whether each row's logits are numbers] of rows some of which draw."""
    settings = _settings(rows, logits)
    fixed = settings[:, 0] == 0
    # Temperature 1 for the rows that do not draw, so that nothing there divides by zero.
    logits = logits / torch.where(fixed, 1, settings[:, 0]).float()[:, None]
    vocab = logits.shape[-1]
    window = min(vocab, max([_WINDOW, *(row.params.top_k for row in rows)]))
    least = any(row.params.min_p for row in rows)
    while True:
        tokens, complete = _draw(logits, settings, window, least=least)
        if any(_whole(row) and not row.params.greedy for row in rows):
            everything = settings[:, 1].ge(1) & settings[:, 2].ge(_NO_LIMIT)
            drawn = _invert(_likely(logits.softmax(-1), settings, least=least), settings)
            tokens = torch.where(everything, drawn, tokens)
            complete = complete | everything
        tokens = torch.where(fixed, greedy, tokens)
        done = (complete | fixed | ~usable).long()
        found: list[list[int]] = torch.stack([tokens, usable.long(), done]).tolist()
        if window == vocab or all(found[2]):
            return found[:2]
        window = min(vocab, window * _WIDER)


def _settings(rows: Sequence[RowSampler], like: Tensor) -> Tensor:
    """temperature (0: greedy), top_p, top_k, min_p, the random draw, of each row [rows, 5]."""
    values = [
        (0.0, 1.0, _NO_LIMIT, 0.0, 0.0)
        if row.params.greedy
        else (
            row.params.temperature,
            row.params.top_p,
            float(min(row.params.top_k, _NO_LIMIT) or _NO_LIMIT),
            row.params.min_p,
            row.draw(),
        )
        for row in rows
    ]
    return _moved(torch.tensor(values, dtype=torch.float64), like)


def _whole(row: RowSampler) -> bool:
    """Whether a row draws from the whole vocabulary."""
    return row.params.top_p >= 1 and row.params.top_k == 0


def _draw(logits: Tensor, settings: Tensor, window: int, *, least: bool) -> tuple[Tensor, Tensor]:
    """A token of each row's nucleus, and whether the window was wide enough to know that."""
    top_p, top_k = settings[:, 1:2], settings[:, 2:3]
    best, ids = logits.topk(window, dim=-1)
    probabilities = (best - logits.logsumexp(dim=-1, keepdim=True)).exp()
    rank = torch.arange(window, device=logits.device)
    in_top_k = rank < top_k
    # top-p applies to what top-k leaves, renormalised.
    mass = (probabilities * in_top_k).sum(dim=-1, keepdim=True)
    total = torch.where(top_k <= window, mass, torch.ones_like(mass))
    before = probabilities.cumsum(dim=-1) - probabilities
    kept = in_top_k & ((before < top_p.float() * total) | (rank == 0))
    complete = ~kept[:, -1] | (top_k[:, 0] <= window)
    # In the order of the vocabulary, as sampling.py says why.
    ids, order = ids.sort(dim=-1)
    probabilities = (probabilities * kept).gather(-1, order)
    chosen = _invert(_likely(probabilities, settings, least=least), settings)
    return ids.gather(-1, chosen[:, None])[:, 0], complete


def _likely(probabilities: Tensor, settings: Tensor, *, least: bool) -> Tensor:
    """Zero what is less likely than min_p times the best."""
    if not least:
        return probabilities
    limit = settings[:, 3:4].float() * probabilities.amax(dim=-1, keepdim=True)
    return probabilities * (probabilities >= limit)


def _invert(probabilities: Tensor, settings: Tensor) -> Tensor:
    """For each row the first index whose cumulative share exceeds the row's draw."""
    cumulative = probabilities.double().cumsum(dim=-1)
    target = settings[:, 4:5] * cumulative[:, -1:]
    found = torch.searchsorted(cumulative, target, right=True)[:, 0]
    return found.clamp_(max=probabilities.shape[-1] - 1)


def _adjusted(logits: Tensor, rows: Sequence[RowSampler]) -> Tensor:
    """The logits with the rows' biases and penalties."""
    repeated = [
        (index, token, row.params.repetition_penalty)
        for index, row in enumerate(rows)
        for token in row.repeated
    ]
    changes = [
        (index, token, change)
        for index, row in enumerate(rows)
        for token, change in row.changes().items()
    ]
    if not (repeated or changes):
        return logits
    logits = logits.clone()
    if repeated:
        at, penalty = _places(repeated, logits)
        before = logits[at]
        logits[at] = torch.where(before > 0, before / penalty, before * penalty)
    if changes:
        at, change = _places(changes, logits)
        logits[at] += change
    return logits


def _places(
    found: Sequence[tuple[int, int, float]], like: Tensor
) -> tuple[tuple[Tensor, Tensor], Tensor]:
    """((rows, tokens), values) of a list of them, each place named once."""
    places = _moved(torch.tensor([item[:2] for item in found]).T.contiguous(), like)
    values = _moved(torch.tensor([item[2] for item in found]), like)
    return (places[0], places[1]), values


def _moved(numbers: Tensor, like: Tensor) -> Tensor:
    """Numbers on the device, without waiting for it."""
    if like.device.type == "cpu":
        return numbers
    return numbers.pin_memory().to(like.device, non_blocking=True)
