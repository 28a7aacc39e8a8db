"""From a base model to one that can be trained on conversations: the end-of-turn token, the
context, the chat template. Tensors are streamed, so that memory stays below a few gigabytes.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from openchat_cli.core import registry
from openchat_cli.core.errors import InputError, UsageError
from openchat_cli.core.manifest import FILE_NAME as MANIFEST
from openchat_cli.core.progress import SILENT, Progress, Task
from openchat_cli.core.registry import ModelType
from openchat_cli.core.tokens import ChatTokenizer, load_tokenizer
from openchat_cli.model import config, export, folder, verify, weights
from openchat_cli.model.settings import Dtype, PrepareSettings, PrepareSummary

if TYPE_CHECKING:
    import torch

_NORMAL_STD = 0.02


def prepare(settings: PrepareSettings, *, progress: Progress = SILENT) -> PrepareSummary:
    """Make `settings.out` from `settings.base`; nothing is written until every check has passed.

    Raises InputError for a base that is incomplete or has a tokeniser that can't be right,
    UsageError for one that does not fit the type.
    """
    kind = _kind(settings)
    _check_folders(settings)
    base = config.read(settings.base, kind)
    tokenizer = load_tokenizer(settings.base, kind)
    _check_eot(settings, kind, tokenizer)
    warning = config.check_context(kind, settings.base, base)
    if warning is not None:
        progress.warn(warning)
    resize = _plan(settings, kind, tokenizer)
    dtype = resize.dtype_name()
    with folder.whole_folder(settings.out) as work:
        with progress.task("writing weights", total=len(resize.names), unit="tensors") as task:
            weights.write(work, resize.tensors(task))
        export.write_side_files(
            work,
            base=settings.base,
            kind=kind,
            tokenizer=tokenizer,
            configuration=config.prepared(base, kind, tokenizer, rows=resize.rows, dtype=dtype),
        )
        with progress.task("verifying", total=len(resize.names), unit="tensors") as task:
            parameters = verify.check(work, kind, tokenizer, resize.tensors(task))
    return PrepareSummary(
        out=settings.out,
        model_type=kind.name,
        eot_id=tokenizer.eot_id,
        new_rows=max(0, resize.rows - resize.old_rows),
        vocab_size=resize.rows,
        context=kind.context,
        base_context=base.context,
        parameters=parameters,
        dtype=config.dtype_name(dtype),
        tokenizer_hash=tokenizer.hash,
    )


def _kind(settings: PrepareSettings) -> ModelType:
    kind = registry.get(settings.model_type, settings.model_file)
    if settings.context is None:
        return kind
    if settings.context < 16:
        raise UsageError(f"--context {settings.context}: too short for a conversation")
    return dataclasses.replace(kind, context=settings.context)


def _check_folders(settings: PrepareSettings) -> None:
    base, out = settings.base, settings.out
    if not base.is_dir():
        raise InputError(f"{base}: no such folder", "the base model's folder, or its hub name")
    if out.resolve() == base.resolve():
        raise UsageError(f"{out}: is the base itself, choose another folder for the output")
    folder.claim(out, force=settings.force)


def _check_eot(settings: PrepareSettings, kind: ModelType, tokenizer: ChatTokenizer) -> None:
    if not tokenizer.has_eot or settings.reuse_eot:
        return
    if (settings.base / MANIFEST).is_file():
        raise UsageError(
            f"{settings.base}: is prepared already",
            f"train it as it is, or add --reuse-eot to prepare it anew with its {kind.eot}",
        )
    raise UsageError(
        f"{settings.base}: already has {kind.eot} (id {tokenizer.eot_id})",
        "--reuse-eot keeps the embedding that it has there",
    )


def _plan(settings: PrepareSettings, kind: ModelType, tokenizer: ChatTokenizer) -> _Resize:
    """What becomes of every tensor; InputError where the base's are not those of its config."""
    checkpoint = weights.Checkpoint(settings.base)
    skeleton = weights.skeleton(settings.base)
    names = [
        name
        for name in checkpoint.names
        if name in skeleton.shapes or not (weights.is_computed(name) or weights.is_tied(name))
    ]
    shapes = {name: checkpoint.shape(name) for name in names}
    weights.compare(settings.base, skeleton.shapes, shapes)
    old_rows = skeleton.shapes[skeleton.embeddings[0]][0]
    if tokenizer.has_eot and old_rows <= tokenizer.eot_id:
        raise InputError(
            f"{settings.base}: the tokeniser has {kind.eot} (id {tokenizer.eot_id}), but the "
            f"embedding has {old_rows} rows"
        )
    # Added control tokens may lack a row, as EOT does; the words of a text never do.
    if any(tokenizer.token_bytes(token) for token in range(old_rows, tokenizer.vocab_size)):
        raise InputError(
            f"{settings.base}: the tokeniser has {tokenizer.vocab_size} tokens, but the embedding "
            f"has {old_rows} rows",
            "take the tokeniser that belongs to these weights",
        )
    return _Resize(
        checkpoint=checkpoint,
        names=names,
        embeddings=skeleton.embeddings,
        old_rows=old_rows,
        rows=max(old_rows, tokenizer.eot_id + 1),
        eot_id=None if tokenizer.has_eot else tokenizer.eot_id,
        start=kind.eot_init,
        seed=settings.seed,
        dtype=settings.dtype,
    )


@dataclass(frozen=True)
class _Resize:
    """Every tensor of the prepared model, read from the base one at a time.

    Rows of the embeddings from `old_rows` on are new, and that of `eot_id` (None: it has its own).
    """

    checkpoint: weights.Checkpoint
    names: list[str]
    embeddings: tuple[str, ...]
    old_rows: int
    rows: int
    eot_id: int | None
    start: Literal["mean", "normal"]
    seed: int
    dtype: Dtype

    def tensors(self, task: Task) -> Iterator[tuple[str, torch.Tensor]]:
        """(name, tensor) in the base's order; `task` advances by one each."""
        for name in self.names:
            tensor = self.checkpoint.tensor(name)
            if name in self.embeddings and self.eot_id is not None:
                tensor = self._grown(tensor, self.embeddings.index(name), self.eot_id)
            yield name, self._converted(tensor)
            task.advance()

    def dtype_name(self) -> str:
        """Torch's name of the prepared model's dtype."""
        if self.dtype != "keep":
            return config.torch_name(self.dtype)
        return str(self.checkpoint.tensor(self.embeddings[0]).dtype).removeprefix("torch.")

    def _converted(self, tensor: torch.Tensor) -> torch.Tensor:
        import torch

        if self.dtype == "keep" or not tensor.is_floating_point():
            return tensor
        found: torch.dtype = getattr(torch, config.torch_name(self.dtype))
        return tensor.to(found)

    def _grown(self, old: torch.Tensor, index: int, eot_id: int) -> torch.Tensor:
        """The embedding with its new rows; those below the new token's id stay bit for bit.

        The mean is taken in fp32 over all rows that tokens have (a base may have spare ones
        beyond), the normal draw is N(0, 0.02) from `seed`, one stream for each embedding.
        """
        import torch

        grown = old.new_zeros(self.rows, old.shape[1])
        grown[: self.old_rows] = old
        first = min(eot_id, self.old_rows)
        fresh = grown[first : eot_id + 1]
        if self.start == "mean":
            fresh[:] = old[:first].float().mean(0).to(old.dtype)
        else:
            generator = torch.Generator().manual_seed(self.seed + index)
            fresh[:] = torch.randn(fresh.shape, generator=generator).mul(_NORMAL_STD).to(old.dtype)
        return grown
