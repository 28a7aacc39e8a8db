"""lm-evaluation-harness against the server gives what transformers gives directly."""

from __future__ import annotations

import json
from typing import Any

import pytest

from .conftest import MODEL, Server, project

lm_eval = pytest.importorskip("lm_eval")
pytest.importorskip("tenacity")

import requests  # noqa: E402  # comes with lm_eval
from lm_eval.tasks import TaskManager  # noqa: E402

ROWS = [
    {"question": "Hello", "choices": ["world", "the", "a"], "answer": 0},
    {"question": "the world: a", "choices": [" Hello", "b <s>", "\u00e4\u00f6 7"], "answer": 2},
    {"question": "Hello <|end_of_turn|> world", "choices": ["yes", "no"], "answer": 1},
]
TASKS = {
    "choosing": """
        task: choosing
        dataset_path: json
        dataset_kwargs: {data_files: {test: DATA}}
        test_split: test
        output_type: multiple_choice
        doc_to_text: "{{question}}"
        doc_to_choice: "{{choices}}"
        doc_to_target: "{{answer}}"
        metric_list: [{metric: acc}]
        """,
    "rolling": """
        task: rolling
        dataset_path: json
        dataset_kwargs: {data_files: {test: DATA}}
        test_split: test
        output_type: loglikelihood_rolling
        doc_to_text: ""
        doc_to_target: "{{question}}"
        metric_list: [{metric: bits_per_byte}]
        """,
    "saying": """
        task: saying
        dataset_path: json
        dataset_kwargs: {data_files: {test: DATA}}
        test_split: test
        output_type: generate_until
        doc_to_text: "{{question}}"
        doc_to_target: "{{choices[0]}}"
        generation_kwargs: {until: ["~~", "##"], max_gen_toks: 6, temperature: 0.0}
        metric_list: [{metric: exact_match}]
        """,
}


@pytest.fixture(scope="module")
def tasks(tmp_path_factory: pytest.TempPathFactory) -> TaskManager:
    folder = tmp_path_factory.mktemp("tasks")
    data = folder / "data.jsonl"
    data.write_text("\n".join(map(json.dumps, ROWS)))
    for name, text in TASKS.items():
        lines = [line[8:] for line in text.strip("\n").splitlines()]
        (folder / f"{name}.yaml").write_text("\n".join(lines).replace("DATA", str(data)))
    return TaskManager(include_path=str(folder), include_defaults=False)


def evaluate(server: Server, tasks: TaskManager, task: str, chat: bool, **more: Any) -> list[Any]:
    path = "chat/completions" if chat else "completions"
    arguments = {"model": MODEL, "base_url": f"{server.url}/{path}", "num_concurrent": 2, **more}
    found = lm_eval.simple_evaluate(
        model="local-chat-completions" if chat else "local-completions",
        model_args=arguments,
        tasks=[task],
        task_manager=tasks,
        log_samples=True,
        bootstrap_iters=0,
        apply_chat_template=chat,
    )
    samples: list[Any] = found["samples"][task]
    return samples


def ids_of(server: Server, text: str) -> list[int]:
    body = {"prompt": text, "add_special_tokens": False}
    ids: list[int] = requests.post(f"{server.root}/tokenize", json=body, timeout=30).json()[
        "tokens"
    ]
    return ids


def directly(server: Server, pairs: list[Any]) -> list[Any]:
    """The same by one plain forward pass each, without the server."""
    ran = project(
        "tests.conformance.model",
        "loglikelihoods",
        server.folder,
        input=json.dumps(pairs),
        capture_output=True,
    )
    found: list[Any] = json.loads(ran.stdout)
    return found


@pytest.mark.parametrize("more", [{}, {"batch_size": 4}], ids=["one", "batched"])
def test_loglikelihoods(server: Server, tasks: TaskManager, more: dict[str, Any]) -> None:
    asked: list[Any] = []
    said: list[Any] = []
    for sample in evaluate(server, tasks, "choosing", False, **more):
        for number, answer in enumerate(sample["resps"]):
            context, continuation = sample["arguments"][number]
            # The harness moves a space at the end of the context to the continuation.
            spaces = len(context) - len(context.rstrip())
            context, continuation = (
                context[: len(context) - spaces],
                context[-spaces:] * bool(spaces) + continuation,
            )
            whole, before = ids_of(server, context + continuation), ids_of(server, context)
            asked.append([before, whole[len(before) :]])
            said.append(answer[0])
    assert len(said) == 8
    for (found, greedy), (expected, best) in zip(said, directly(server, asked), strict=True):
        assert float(found) == pytest.approx(expected, abs=2e-3)
        assert str(greedy) == str(best)


def test_rolling_loglikelihoods(server: Server, tasks: TaskManager) -> None:
    # The harness asks /tokenize what BOS is, and gets a text's ids: it has to be told.
    samples = evaluate(server, tasks, "rolling", False, custom_prefix_token_id=1)
    asked = [[[1], ids_of(server, sample["doc"]["question"])] for sample in samples]
    for sample, (expected, _) in zip(samples, directly(server, asked), strict=True):
        assert float(sample["resps"][0][0]) == pytest.approx(expected, abs=2e-3)


@pytest.mark.parametrize("chat", [False, True])
def test_generation(server: Server, tasks: TaskManager, chat: bool) -> None:
    for sample in evaluate(server, tasks, "saying", chat):
        question = sample["doc"]["question"]
        body: dict[str, Any] = {"model": MODEL, "max_tokens": 6, "temperature": 0}
        path = "chat/completions" if chat else "completions"
        body |= {"stop": ["~~", "##"]}
        if chat:
            body["messages"] = [{"role": "user", "content": question}]
        else:
            body["prompt"] = ids_of(server, question)
        choice = requests.post(f"{server.url}/{path}", json=body, timeout=30).json()["choices"][0]
        expected = choice["message"]["content"] if chat else choice["text"]
        assert sample["resps"][0][0] == expected


def test_it_finds_the_tokeniser(server: Server) -> None:
    from lm_eval.utils import RemoteTokenizer, check_remote_tokenizer_support

    url = f"{server.url}/completions"
    assert check_remote_tokenizer_support(url)
    tokenizer = RemoteTokenizer(url)
    assert (tokenizer.bos_token, tokenizer.eos_token) == ("<s>", "<|end_of_turn|>")
    assert tokenizer.decode(tokenizer.encode("Hello <s> world")) == "Hello <s> world"
    shown = tokenizer.apply_chat_template([{"role": "user", "content": "Hello"}])
    assert "Hello" in shown
    assert shown.endswith("Assistant: ")
