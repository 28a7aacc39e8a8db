"""Run by the server's Python: a tiny model folder, and what transformers thinks of token ids.

    python -m tests.conformance.model make FOLDER
    python -m tests.conformance.model loglikelihoods FOLDER < [[context ids, ids], …]

The second prints, for each pair, the sum of the log-probabilities of the second part and whether
each token of it is the likeliest.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM

from tests.serving.folders import model_folder


def loglikelihoods(folder: Path, pairs: list[tuple[list[int], list[int]]]) -> list[list[object]]:
    model = AutoModelForCausalLM.from_pretrained(folder).eval()
    found: list[list[object]] = []
    for context, continuation in pairs:
        ids = torch.tensor([[*context, *continuation]])
        with torch.inference_mode():
            known = model(input_ids=ids).logits[0].log_softmax(dim=-1)
        known = known[len(context) - 1 : -1]
        wanted = torch.tensor(continuation)
        values = known.gather(1, wanted[:, None])[:, 0]
        greedy = bool((known.argmax(dim=-1) == wanted).all())
        found.append([float(values.sum()), greedy])
    return found


if __name__ == "__main__":
    folder = Path(sys.argv[2])
    if sys.argv[1] == "make":
        model_folder(folder)
    else:
        json.dump(loglikelihoods(folder, json.load(sys.stdin)), sys.stdout)
