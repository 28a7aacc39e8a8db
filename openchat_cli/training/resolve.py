"""From what the user asked for to a run with every value decided, all checks included.

Nothing heavy happens here: the model's configuration and the dataset are read, no torch.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from openchat_cli.core import jsonl
from openchat_cli.core.errors import InputError, UsageError
from openchat_cli.core.manifest import Manifest, resolve_type
from openchat_cli.core.registry import ModelType
from openchat_cli.core.templates import template_hash
from openchat_cli.model.load import require_manifest
from openchat_cli.training import dataset, deepspeed_config, schedule
from openchat_cli.training.dataset import Files, TokenDataset
from openchat_cli.training.plan import Plan, check_fits
from openchat_cli.training.settings import PlanSummary, Run, TrainSettings

_MIN_BIN = 8192  # tokens: enough to keep a device busy where the context is short
_CONTEXTS = 2  # a bin of one context would leave 5 % of the ranks' time idle, of two 0.3 %

# A setting's place on the command line and in the recipe have one name.
_FROM_RECIPE = (
    "dtype",
    "epochs",
    "batch_size",
    "learning_rate",
    "schedule",
    "warmup_ratio",
    "weight_decay",
    "gradient_clipping",
    "zero_stage",
    "gradient_checkpointing",
)


@dataclass(frozen=True)
class Resolved:
    """A run, its training data, and what the user should know of it beforehand."""

    run: Run
    train: TokenDataset
    eval: TokenDataset | None
    warnings: tuple[str, ...]
    notes: tuple[str, ...] = ()  # of less weight than warnings

    def plan(self) -> Plan:
        """The run's plan."""
        return plan_of(self.run, self.train)

    def summary(self) -> PlanSummary:
        """The plan in numbers."""
        plan = self.plan()
        micro_steps, share = plan.of_one_epoch()
        return PlanSummary(
            conversations=len(self.train),
            eval_conversations=0 if self.eval is None else len(self.eval),
            tokens=len(self.train.ids),
            supervised_tokens=int(self.train.supervised.sum()),
            steps=plan.steps,
            warmup_steps=schedule.warmup_steps(plan.steps, self.run.warmup_ratio),
            micro_steps=micro_steps,
            useful_share=share,
        )


def plan_of(run: Run, data: TokenDataset) -> Plan:
    """The plan of a run over its data."""
    return Plan(
        data.lengths,
        batch_size=run.batch_size,
        epochs=run.epochs,
        seed=run.seed,
        world_size=run.world_size,
        max_tokens=run.max_tokens,
        micro_batch=run.micro_batch if run.batching == "length-grouped" else None,
    )


def resolve(settings: TrainSettings, world_size: int, *, build: bool = False) -> Resolved:
    """Decide every value; refuse what can't work with one clear line.

    `build` makes the dataset's memory-mapped twin anew where it does not fit its JSON.
    """
    _check_numbers(settings)
    prepared = require_manifest(settings.model_path)
    config = _model_config(settings.model_path)
    kind = resolve_type(
        settings.model_type, model_path=settings.model_path, model_file=settings.model_file
    )
    files = dataset.find(settings.data_path, kind.name)
    warnings = _check_belongs(settings, kind, prepared, files)
    values, user_config = _values(settings, kind)
    if user_config:
        warnings += [
            f"{settings.deepspeed_config}: {key} has no effect: bins are filled to --max-tokens"
            for key in deepspeed_config.ignored(user_config)
        ]
    vocab_size = int(config.get("vocab_size", 0))
    notes: list[str] = []
    train = _load(files.train, vocab_size, build, notes)
    evaluation = _load_eval(files, vocab_size, build, notes, warnings)
    context = _check_lengths(files, config, train, evaluation, kind)
    if not train.supervised.sum():
        raise InputError(f"{files.train}: no token is supervised, so there is nothing to learn")
    run = Run(
        model_path=str(settings.model_path),
        train_file=str(files.train),
        eval_file=str(files.eval) if evaluation is not None else None,
        save_path=str(settings.save_path),
        model_type=kind.name,
        world_size=world_size,
        device=settings.device,
        max_tokens=settings.max_tokens or max(_MIN_BIN, _CONTEXTS * context),
        batching=settings.batching,
        micro_batch=settings.micro_batch,
        loss_scale=settings.loss_scale,
        save_every=settings.save_every,
        eval_every=settings.eval_every,
        keep=settings.keep,
        resume=settings.resume,
        seed=settings.seed,
        vocab_size=vocab_size,
        data_hash=dataset.digest(files.train, train),
        deepspeed=user_config,
        **values,
    )
    resolved = Resolved(run, train, evaluation, tuple(warnings), tuple(notes))
    if run.batching == "packed":
        for data in (train, evaluation):
            if data is not None:
                check_fits(data.lengths, run.max_tokens)
    return resolved


def _check_numbers(settings: TrainSettings) -> None:
    positive = ("num_gpus", "epochs", "batch_size", "max_tokens", "micro_batch")
    for name in (*positive, "save_every", "eval_every", "keep"):
        value = getattr(settings, name)
        if value is not None and value < 1:
            raise UsageError(f"--{name.replace('_', '-')} must be at least 1, not {value}")
    for name in ("learning_rate", "warmup_ratio", "weight_decay", "gradient_clipping", "seed"):
        value = getattr(settings, name)
        if value is not None and not 0 <= value < math.inf:  # NaN neither
            problem = f"must be a number that is not negative, not {value}"
            raise UsageError(f"--{name.replace('_', '-')} {problem}")
    if settings.zero_stage not in (None, 0, 1, 2, 3):
        raise UsageError(f"--zero-stage must be 0, 1, 2 or 3, not {settings.zero_stage}")
    if settings.loss_scale == "reference" and settings.batching != "length-grouped":
        hint = "--batching length-grouped --micro-batch 2 --loss-scale reference, or none of them"
        raise UsageError("--loss-scale reference averages over padded micro-batches", hint)


def _model_config(folder: Path) -> dict[str, Any]:
    config = jsonl.read_json(folder / "config.json")
    if not isinstance(config, dict) or not isinstance(config.get("vocab_size"), int):
        raise InputError(f"{folder / 'config.json'}: not a model's configuration (no vocab_size)")
    return config


def _check_belongs(
    settings: TrainSettings, kind: ModelType, prepared: Manifest, files: Files
) -> list[str]:
    """Dataset and model must mean one type, one template and one tokeniser."""
    if files.manifest is None:
        reason = "type and tokeniser of the dataset are not checked"
        return [f"{files.manifest_file}: no such file, so {reason}"]
    for key, label, ours in (
        ("model_type", "model type", kind.name),
        ("template_hash", "template", template_hash(kind)),
        ("tokenizer_hash", "tokeniser", prepared.tokenizer_hash),
    ):
        theirs = files.manifest.get(key)
        if theirs is not None and theirs != ours:
            message = (
                f"{files.manifest_file}: made for {label} {theirs}, "
                f"but {settings.model_path} has {label} {ours}"
            )
            hint = f"openchat data convert INPUT OUT --model-path {settings.model_path}"
            raise UsageError(message, hint)
    return []


def _values(
    settings: TrainSettings, kind: ModelType
) -> tuple[dict[str, Any], deepspeed_config.Config]:
    """The recipe's values under the DeepSpeed file's under the flags', and that file."""
    recipe = dataclasses.asdict(kind.recipe)
    asked = {name: getattr(settings, name) for name in _FROM_RECIPE}
    from_file: dict[str, Any] = {}
    config: deepspeed_config.Config = {}
    if settings.deepspeed_config is not None:
        config = deepspeed_config.read(settings.deepspeed_config)
        from_file = deepspeed_config.values(settings.deepspeed_config, config, asked)
    chosen = {name: value for name, value in asked.items() if value is not None}
    values = {name: recipe[name] for name in _FROM_RECIPE} | from_file | chosen
    return values, config


def _load(path: Path, vocab_size: int, build: bool, notes: list[str]) -> TokenDataset:
    loaded = dataset.load(path, vocab_size, build=build)
    if loaded.note is not None:
        notes.append(loaded.note)
    return loaded.data


def _load_eval(
    files: Files, vocab_size: int, build: bool, notes: list[str], warnings: list[str]
) -> TokenDataset | None:
    if files.eval is None:
        warnings.append(f"{files.train.parent}: no eval split, so no eval loss will be shown")
        return None
    if dataset.is_empty(files.eval):
        warnings.append(f"{files.eval}: empty, so no eval loss will be shown")
        return None
    return _load(files.eval, vocab_size, build, notes)


def _check_lengths(
    files: Files,
    config: dict[str, Any],
    train: TokenDataset,
    evaluation: TokenDataset | None,
    kind: ModelType,
) -> int:
    """The longest conversation must fit the model; gives the dataset's context."""
    limit = config.get("max_position_embeddings", config.get("n_positions"))
    parts = [(files.train, train)]
    if evaluation is not None and files.eval is not None:
        parts.append((files.eval, evaluation))
    for path, data in parts:
        longest = int(data.lengths.argmax())
        tokens = int(data.lengths[longest])
        if isinstance(limit, int) and tokens > limit:
            message = f"{path}: record {longest + 1} has {tokens} tokens, the model takes {limit}"
            raise UsageError(message, "convert with a context that the model has")
    context = (files.manifest or {}).get("context", kind.context)
    if type(context) is not int or context < 1:
        raise InputError(f"{files.manifest_file}: 'context' must be a whole number of tokens")
    return max(context, *(int(data.lengths.max()) for _, data in parts))
