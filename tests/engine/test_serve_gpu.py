"""The GPU benchmark's script, whole, on a CPU and with a toy model."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / "benchmarks" / "serve_gpu.py"
# What the project needs elsewhere and a machine with torch and transformers alone does not have.
MISSING = (
    *("typer", "orjson", "openai", "tiktoken", "uvicorn", "starlette", "sacrebleu", "xxhash"),
    *("bs4", "sklearn", "markdown_it", "sentencepiece", "accelerate", "deepspeed"),
)
RUN = """
import runpy, sys
from importlib.machinery import PathFinder
class Present(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        if name.split(".")[0] in {missing!r}:
            return None
        return super().find_spec(name, path, target)
sys.meta_path[:] = [Present if finder is PathFinder else finder for finder in sys.meta_path]
sys.argv = {argv!r}
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.mark.slow
def test_the_script_runs_with_torch_and_transformers_alone(tmp_path: Path) -> None:
    out = tmp_path / "lines.jsonl"
    argv = [str(SCRIPT), "--toy", "--case", "1", "--case", "3", "--prompt", "20", "--tokens", "12"]
    argv += ["--repeat", "1", "--out", str(out)]
    code = RUN.format(missing=set(MISSING), argv=argv)
    ended = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=200, cwd=tmp_path
    )
    assert ended.returncode == 0, ended.stderr[-3000:]
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    assert [line["requests"] for line in lines] == [1, 3]
    for line in lines:
        assert (line["ours_error"], line["peer_error"]) == (None, None)
        assert line["ours_tokens_per_second"] > 0
        assert line["peer_tokens_per_second"] > 0
        assert line["limit_tokens_per_second"] > line["ours_decode_tokens_per_second"] > 0
        assert line["share_of_limit"] < 1
        assert line["device"] == "cpu"
    assert [json.loads(line) for line in ended.stdout.splitlines()] == lines


def test_without_a_gpu_it_says_so() -> None:
    torch = pytest.importorskip("torch")
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    ended = subprocess.run(
        [sys.executable, str(SCRIPT)], capture_output=True, text=True, timeout=60
    )
    assert ended.returncode == 1
    assert ended.stderr.startswith("error: no CUDA device here")
