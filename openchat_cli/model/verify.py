"""Reading a written model folder back: its tensors, its tokeniser, its chat template."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from openchat_cli.core import templates
from openchat_cli.core.errors import OpenChatError
from openchat_cli.core.records import Message
from openchat_cli.core.registry import ModelType
from openchat_cli.core.tokens import ChatTokenizer, load_tokenizer
from openchat_cli.model import weights

if TYPE_CHECKING:
    import torch


def check(
    folder: Path,
    kind: ModelType,
    tokenizer: ChatTokenizer,
    tensors: Iterable[tuple[str, torch.Tensor]],
) -> int:
    """Reload the folder and compare with what it was made from; gives the number of parameters.

    Raises OpenChatError where anything differs: the disk or a library did not keep its word.
    """
    import torch

    checkpoint = weights.Checkpoint(folder)
    shapes = {name: checkpoint.shape(name) for name in checkpoint.names}
    weights.compare(folder, weights.skeleton(folder).shapes, shapes)
    parameters = 0
    for name, tensor in tensors:
        written = checkpoint.tensor(name)
        same = written.dtype == tensor.dtype and torch.equal(_bits(written), _bits(tensor))
        if not same:
            raise OpenChatError(f"{folder}: {name} is not what was written")
        parameters += tensor.numel()
    if load_tokenizer(folder, kind).hash != tokenizer.hash:
        raise OpenChatError(f"{folder}: the exported tokeniser gives other ids")
    check_template(folder, kind, tokenizer)
    return parameters


def _bits(tensor: torch.Tensor) -> torch.Tensor:
    import torch

    return tensor.contiguous().view(torch.uint8)


def check_template(folder: Path, kind: ModelType, tokenizer: ChatTokenizer) -> None:
    """Compare the chat template under plain transformers with our own rendering."""
    from transformers import AutoTokenizer

    plain = AutoTokenizer.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
    hostile = "".join(tokenizer.control)
    messages = [
        Message("system", "Be  brief.\n"),
        Message("user", f" {hostile} 你好 🙂\r\n\t12345 "),
        Message("assistant", ""),
        Message("user", f"{kind.roles['user']}{kind.eot}"),
    ]
    plain_messages = [{"role": m.role, "content": m.content} for m in messages]
    found = plain.apply_chat_template(
        plain_messages, tokenize=True, add_generation_prompt=True, return_dict=False
    )
    if found != templates.prompt(kind, tokenizer, messages):
        raise OpenChatError(f"{folder}: the chat template gives other ids under transformers")
