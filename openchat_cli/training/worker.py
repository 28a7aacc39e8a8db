"""One rank: DeepSpeed around the model, the loop of steps, evaluation, checkpoints, the export.

Called by entry.py in a process that launch.py started, or in-process where torchrun, deepspeed or
srun started us.
"""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, distributed

from openchat_cli.core import jsonl
from openchat_cli.core.errors import OpenChatError
from openchat_cli.model.export import write_folder
from openchat_cli.model.load import load_model
from openchat_cli.training import batches, checkpoint, dataset, deepspeed_engine, schedule
from openchat_cli.training.dataset import TokenDataset
from openchat_cli.training.events import Emit
from openchat_cli.training.log import TrainLog, evaluations
from openchat_cli.training.loss import TrainedModel
from openchat_cli.training.plan import Bin, Plan, StepPlan, in_order
from openchat_cli.training.resolve import plan_of
from openchat_cli.training.settings import Ranks, Run

SETTINGS_FILE = "train.settings.json"


def run_rank(run: Run, ranks: Ranks, emit: Emit, *, rendezvous: Path | None = None) -> None:
    """Train as one of the ranks; returns when the model is exported.

    `rendezvous` is a file that the ranks of one machine meet by; None means the environment's
    MASTER_ADDR and MASTER_PORT.
    """
    began = time.monotonic()
    device = deepspeed_engine.device_of(run, ranks)
    train = dataset.load(Path(run.train_file), run.vocab_size).data
    evaluation = None
    if run.eval_file is not None:
        evaluation = dataset.load(Path(run.eval_file), run.vocab_size).data
    deepspeed_engine.join(ranks, device, rendezvous)
    _Trainer(run, ranks, device, train, evaluation, emit).fit(began)
    # Only after success: where another rank has failed, this could wait for it.
    distributed.destroy_process_group()


class _Trainer:
    def __init__(
        self,
        run: Run,
        ranks: Ranks,
        device: torch.device,
        train: TokenDataset,
        evaluation: TokenDataset | None,
        emit: Emit,
    ) -> None:
        self._run, self._ranks, self._device, self._emit = run, ranks, device, emit
        self._train, self._supervised, self._shares = train, train.supervised, train.shares
        self._evaluation = evaluation
        self._plan = plan_of(run, train)
        self._warmup = schedule.warmup_steps(self._plan.steps, run.warmup_ratio)
        self._packed = run.batching == "packed"
        self._chief = ranks.rank == 0
        torch.manual_seed(run.seed)
        self._engine = self._start_engine()

    # --- the run ---

    def fit(self, began: float) -> None:
        """All steps from the newest checkpoint on, then the export."""
        run, plan = self._run, self._plan
        done = self._resume()
        log = TrainLog(run.folder, done or None) if self._chief else None
        if self._chief:
            jsonl.write_json(run.folder / SETTINGS_FILE, run.to_row())
        self._tell({"event": "plan", "steps": plan.steps, "done": done})
        startup = time.monotonic() - began
        if done == 0:
            self._evaluate(0, log)
        tokens, seconds, loss = 0, 0.0, None
        for step in range(done, plan.steps):
            row = self._step(step)
            tokens, seconds, loss = tokens + row["tokens"], seconds + row["seconds"], row["loss"]
            self._check_finite(step, row)
            if log is not None:
                log.add("step", row)
            self._tell({"event": "step", **row})
            self._after_step(step + 1, log)
        if log is not None:
            log.close()
        self._export()
        if self._chief:
            losses = [row["loss"] for row in evaluations(run.folder)]
            self._emit(
                {
                    "event": "done",
                    "steps": plan.steps,
                    "resumed_from": done,
                    "loss": loss,
                    "eval_loss_first": losses[0] if losses else None,
                    "eval_loss_last": losses[-1] if losses else None,
                    "tokens": tokens,
                    "tokens_per_second": tokens / seconds if seconds else 0.0,
                    "useful_share": plan.of_one_epoch()[1],
                    "startup_seconds": startup,
                }
            )

    def _after_step(self, done: int, log: TrainLog | None) -> None:
        run = self._run
        at_end = done == self._plan.steps or self._plan.ends_epoch(done - 1)
        if at_end or (run.eval_every and done % run.eval_every == 0):
            self._evaluate(done, log)
        if at_end or (run.save_every and done % run.save_every == 0):
            self._save(done)

    def _check_finite(self, step: int, row: dict[str, Any]) -> None:
        if math.isfinite(row["loss"]) and math.isfinite(row["grad_norm"]):
            return
        records = ", ".join(str(index + 1) for index in self._plan.conversations(step)[:8])
        message = f"step {row['step']} has loss {row['loss']}, gradient norm {row['grad_norm']}"
        raise OpenChatError(message, f"lower --learning-rate? its records are {records}, …")

    def _tell(self, event: dict[str, Any]) -> None:
        if self._chief:
            self._emit(event)

    def _start_engine(self) -> Any:
        run = self._run
        self._tell({"event": "phase", "text": f"loading {run.model_path}"})
        self._model = load_model(Path(run.model_path), dtype=run.dtype, device="cpu")
        batches.use_segments(self._model)
        if run.gradient_checkpointing:
            batches.checkpoint_layers(self._model)
        return deepspeed_engine.start(run, TrainedModel(self._model).train(), self._device)

    # --- one step ---

    def _step(self, step: int) -> dict[str, Any]:
        """One optimiser step; gives its row of the log."""
        began = time.monotonic()
        engine, plan = self._engine, self._plan.step(step)
        # Dropout, where a model has it, repeats after a resume: nothing of it is remembered.
        ranks = self._ranks
        torch.manual_seed(self._run.seed * 1_000_003 + step * ranks.world_size + ranks.rank)
        engine.train()
        scale = ranks.world_size / self._denominator(plan)
        total = torch.zeros((), device=self._device)
        for index, bins in enumerate(plan):
            last = index == len(plan) - 1
            engine.set_gradient_accumulation_boundary(last)
            loss = engine(self._batch(self._train, bins[ranks.rank]))
            engine.backward(loss * scale)
            total += loss.detach() * scale
            if last:
                lr = self._set_learning_rate(step)
                norm = deepspeed_engine.norm_before_step(self._run, engine)
            engine.step()
        distributed.all_reduce(total)
        chosen = self._plan.conversations(step)
        norm = norm if norm is not None else float(engine.get_global_grad_norm() or 0.0)
        return {
            "step": step + 1,
            "epoch": round(self._plan.epochs_done(step + 1), 6),
            "loss": total.item() / ranks.world_size,
            "lr": lr,
            "grad_norm": norm,
            "tokens": int(self._train.lengths[chosen].sum()),
            "supervised_tokens": int(self._supervised[chosen].sum()),
            "conversations": len(chosen),
            "micro_steps": len(plan),
            "seconds": round(time.monotonic() - began, 6),
        }

    def _batch(self, data: TokenDataset, bin_: Bin, *, by_mean: bool | None = None) -> Any:
        by_mean = self._run.loss_scale == "reference" if by_mean is None else by_mean
        return batches.build(data, bin_, packed=self._packed, by_mean=by_mean, device=self._device)

    def _denominator(self, plan: StepPlan) -> float:
        """What a step's sum of weighted losses is divided by.

        token: the weights of the step's supervised tokens, so that each counts by its own (1 where
        nobody set one). reference: the step's micro-batches, whose own means the weights have made.
        """
        busy = [bin_ for bins in plan for bin_ in bins if bin_.conversations]
        if self._run.loss_scale == "reference":
            return float(len(busy))
        sums = [self._shares[list(bin_.conversations)].sum() for bin_ in busy]
        return float(sum(sums)) or 1.0

    def _set_learning_rate(self, step: int) -> float:
        if self._run.schedule == "deepspeed":
            return float(self._engine.get_lr()[0])
        times = schedule.factor(
            self._run.schedule, step, total=self._plan.steps, warmup=self._warmup
        )
        lr = self._run.learning_rate * times
        for group in self._engine.optimizer.param_groups:
            group["lr"] = lr
        return lr

    # --- evaluation ---

    def _evaluate(self, done: int, log: TrainLog | None) -> None:
        """Mean loss of a supervised token over the whole eval set and all ranks."""
        if self._evaluation is None:
            return
        began = time.monotonic()
        sums = self._eval_sums(self._evaluation)
        distributed.all_reduce(sums)
        loss = sums[0].item() / (sums[1].item() or 1.0)
        row = {
            "step": done,
            "epoch": round(self._plan.epochs_done(done), 6),
            "loss": loss,
            "perplexity": math.exp(min(loss, 700.0)),
            "tokens": len(self._evaluation.ids),
            "supervised_tokens": int(self._evaluation.supervised.sum()),
            "seconds": round(time.monotonic() - began, 6),
        }
        if log is not None:
            log.add("eval", row)
        self._tell({"event": "eval", **row})

    def _eval_sums(self, data: TokenDataset) -> Tensor:
        """[Σ weighted losses, Σ weights] of this rank's share, float64."""
        sums = torch.zeros(2, dtype=torch.float64, device=self._device)
        shares = data.shares
        plan = self._eval_plan(data)
        self._engine.eval()
        with torch.no_grad():
            for bins in plan:
                mine = bins[self._ranks.rank]
                sums[0] += self._engine(self._batch(data, mine, by_mean=False))
                sums[1] += float(shares[list(mine.conversations)].sum())
        return sums

    def _eval_plan(self, data: TokenDataset) -> StepPlan:
        if self._packed:
            return in_order(
                data.lengths, world_size=self._ranks.world_size, max_tokens=self._run.max_tokens
            )
        whole = Plan(
            data.lengths,
            batch_size=len(data),
            epochs=1,
            seed=0,
            world_size=self._ranks.world_size,
            max_tokens=self._run.max_tokens,
            micro_batch=self._run.micro_batch,
        )
        return whole.step(0)

    # --- files ---

    def _resume(self) -> int:
        """Load the newest checkpoint where asked; gives the steps done."""
        run = self._run
        found = checkpoint.newest(run.folder) if run.resume else None
        if found is None:
            return 0
        path, _ = self._engine.load_checkpoint(str(checkpoint.folder(run)), tag=found.tag)
        if path is None:
            raise OpenChatError(f"{found.path}: DeepSpeed could not load it")
        self._tell({"event": "phase", "text": f"resumed after {found.step} steps"})
        return found.step

    def _save(self, done: int) -> None:
        tag = checkpoint.part_tag(done)
        self._engine.save_checkpoint(str(checkpoint.folder(self._run)), tag=tag, save_latest=False)
        distributed.barrier()
        if self._chief:
            checkpoint.finish(self._run, done)
        distributed.barrier()

    def _export(self) -> None:
        run = self._run
        weights = deepspeed_engine.gather_weights(self._engine, self._model, keep=self._chief)
        if self._chief:
            self._tell({"event": "phase", "text": f"writing the model to {run.save_path}"})
            write_folder(run.folder, like=Path(run.model_path), state_dict=weights)
        distributed.barrier()
