"""The layout keeps its direction: parsed from the imports, so nobody has to remember it."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "openchat_cli"

# A part may import those to the right of it, never to the left, and never a sibling stage.
STAGES = {"data", "training", "evaluation", "serving"}
FLOORS = [{"cli"}, STAGES, {"engine"}, {"model"}, {"web"}, {"core"}]
HEIGHT = {part: height for height, parts in enumerate(FLOORS) for part in parts}

TERMINAL = {"typer", "rich"}
HEAVY = {
    *("torch", "transformers", "deepspeed", "openai", "httpx", "numpy", "pydantic"),
    *("sklearn", "pyarrow", "ray", "umap", "datasketch", "py3langid", "sentence_transformers"),
}
# Files that only run once their heavy packages are needed anyway.
MAY_BE_HEAVY = {"engine", "training/worker.py", "training/batches.py", "training/loss.py"}


def modules() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def part_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported(path: Path, *, top_only: bool = False) -> set[str]:
    tree = ast.parse(path.read_text("utf-8"))
    nodes = tree.body if top_only else list(ast.walk(tree))
    names: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, f"{path}: relative import"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_go_one_way(path: Path) -> None:
    here = part_of(path)
    for name in imported(path):
        parts = name.split(".")
        if parts[0] in TERMINAL:
            assert here == "cli", f"{path}: {name} belongs inside cli/"
        if parts[0] != "openchat_cli" or len(parts) < 2 or here not in HEIGHT:
            continue
        there = parts[1]
        if there in HEIGHT and there != here:
            assert HEIGHT[there] > HEIGHT[here], f"{path}: {here} must not import {there}"


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_heavy_packages_stay_inside_functions(path: Path) -> None:
    relative = path.relative_to(PACKAGE).as_posix()
    if relative.split("/")[0] in MAY_BE_HEAVY or relative in MAY_BE_HEAVY:
        return
    top = {name.split(".")[0] for name in imported(path, top_only=True)}
    assert not top & HEAVY, f"{relative} imports {top & HEAVY} at module top"


def test_help_loads_nothing_heavy() -> None:
    code = (
        "import json, sys\n"
        "from openchat_cli.cli.main import main\n"
        "code = main(['--help'])\n"
        "print(json.dumps([code, sorted(sys.modules)]), file=sys.stderr)\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    code_, loaded = json.loads(ended.stderr.strip().splitlines()[-1])
    assert code_ == 0
    assert not HEAVY & {name.split(".")[0] for name in loaded}
