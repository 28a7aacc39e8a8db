"""The criteria of `data filter` one by one: what each keeps, refuses and tells."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from openchat_cli.core.errors import InputError, OpenChatError, UsageError
from openchat_cli.data.filter import FilterSummary, filter_rows
from openchat_cli.data.settings import FilterSettings
from tests.conftest import RunCli
from tests.data import test_convert

Row = dict[str, Any]

tokenizer_folder = test_convert.model  # the fixture


def row(name: str, *texts: str, **fields: Any) -> Row:
    """A conversation row; the texts are by user and assistant in turn."""
    roles = ("user", "assistant")
    texts = texts or ("hi", "hello")
    messages = [{"role": roles[k % 2], "content": text} for k, text in enumerate(texts)]
    head = {"kind": "conversation", "version": 1, "id": name, "source": "s"}
    return {**head, "model": "Model: GPT-4", "messages": messages, **fields}


def write(path: Path, *rows: Row) -> Path:
    path.write_text("".join(json.dumps(one) + "\n" for one in rows), "utf-8")
    return path


def kept(source: Path, **options: Any) -> list[str]:
    """The ids that are kept, in their order."""
    summary, lines = filtered(source, **options)
    assert summary.kept + sum(summary.dropped.values()) == summary.read
    return [json.loads(line)["id"] for line in lines]


def filtered(source: Path, **options: Any) -> tuple[FilterSummary, list[bytes]]:
    out = source.parent / "out"
    summary = filter_rows(FilterSettings(source, out, force=True, **options))
    return summary, (out / "filtered.jsonl").read_bytes().splitlines(keepends=True)


@pytest.mark.parametrize(
    ("models", "ids"),
    [
        (("GPT-4", "o1"), "ad"),
        (("gpt-4*",), "abe"),
        (("Model: gpt-4*",), "abe"),
        (("*turbo",), "e"),
        (("re:^gpt-4(o|-turbo)$",), "be"),
        (("/4O|O1/",), "bd"),
        (("none", "o1"), "cd"),
        (("re:^(?!gpt-4)",), "d"),
        (("any", "nothing like it"), "abcde"),
    ],
)
def test_models(tmp_path: Path, models: tuple[str, ...], ids: str) -> None:
    labels = ("Model: GPT-4", "GPT-4o", None, "o1", "gpt-4-Turbo")
    rows = [row(name, model=label) for name, label in zip("abcde", labels, strict=True)]
    assert "".join(kept(write(tmp_path / "rows.jsonl", *rows), model=models)) == ids


def test_a_misspelt_model_is_met_with_the_right_one(tmp_path: Path) -> None:
    source = write(tmp_path / "rows.jsonl", row("a"), row("b", model="Claude"))
    with pytest.raises(InputError) as caught:
        filtered(source, model=("GTP-4",))
    assert "did you mean --model 'GPT-4'?" in str(caught.value.hint)
    summary, _ = filtered(source, model=("GTP-4", "Claude"))
    assert summary.warnings == ["--model GTP-4: no conversation has such a label"]


@pytest.mark.parametrize(
    ("options", "ids"),
    [
        ({"min_turns": 2}, "bcd"),
        ({"min_turns": 3, "max_turns": 3}, "c"),
        ({"max_turns": 2}, "abd"),
        ({"min_chars": 5, "max_chars": 9}, "cd"),
        ({"max_chars": 0}, "a"),
    ],
)
def test_lengths(tmp_path: Path, options: Row, ids: str) -> None:
    system = [{"role": "system", "content": "héé"}, {"role": "tool", "content": "x"}]
    d = row("d", "a", "b")
    d["messages"] = system + d["messages"]
    rows = [row("a", messages=[]), row("b", "q", "a"), row("c", "abc", "def", "ghi"), d]
    assert "".join(kept(write(tmp_path / "rows.jsonl", *rows), **options)) == ids


IDS = "\n".join(["b", " d ", "gone", "b"])


@pytest.mark.parametrize(
    "text",
    [
        IDS,
        "\ufeff" + IDS.replace("\n", "\r\n") + "\r\n\r\n",
        IDS.replace("\n", "\r"),
        '["b", "d", "gone"]',
        '[{"id": "b"}, {"id": "d", "more": 1}, {"id": "gone"}]',
        '{"ids": ["b", "d", "gone"]}',
        '{"id": "b"}\n\n{"id": "d"}\n{"id": "gone"}\n',
        '"b"\n"d"\n"gone"\n',
    ],
)
def test_ids_in_every_form(tmp_path: Path, text: str) -> None:
    # Rows of other models too, and every row of an id that comes twice.
    rows = [row(name, model=None) for name in "abcdb"]
    source = write(tmp_path / "rows.jsonl", *rows)
    for name, data in (("ids", text.encode()), ("ids.gz", gzip.compress(text.encode()))):
        (tmp_path / name).write_bytes(data)
        summary, lines = filtered(source, ids=tmp_path / name)
        assert [json.loads(line)["id"] for line in lines] == ["b", "d", "b"]
        missing = f"--ids {tmp_path / name}: 1 of 3 ids are not there: gone"
        assert summary.warnings == [missing]


def test_numbers_as_ids(tmp_path: Path) -> None:
    (tmp_path / "ids").write_text("[1, 3]", "utf-8")
    rows = [row("1"), row("x", id=2), row("y", id=3)]
    source = write(tmp_path / "rows.jsonl", *rows)
    _, lines = filtered(source, ids=tmp_path / "ids")
    assert [json.loads(line)["id"] for line in lines] == ["1", 3]


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "holds no ids"),
        (b"\xef\xbb\xbf \r\n", "holds no ids"),
        (b"[]", "holds no ids"),
        (b"\xff\xfe", "not UTF-8 (byte 0)"),
        (b'["a", null]', "item 2: no id there"),
        (b'[{"name": "a"}]', "item 1: no id there"),
        (b'{"id": "a"}\n{"id": ', ":2: neither an id nor a JSON row"),
    ],
)
def test_a_file_without_ids(tmp_path: Path, data: bytes, says: str) -> None:
    (tmp_path / "ids").write_bytes(data)
    with pytest.raises(InputError, match="ids") as caught:
        filtered(write(tmp_path / "rows.jsonl", row("a")), ids=tmp_path / "ids")
    assert says in caught.value.message
    assert not (tmp_path / "out").exists()


def test_the_first_criterion_that_fails_is_counted(tmp_path: Path) -> None:
    (tmp_path / "ids").write_text("a\nb\nc\nd\ne\n", "utf-8")
    rows = [
        row("a"),
        row("b", model="o1"),
        row("c", "only"),
        row("d", weight=0.5),
        row("e", "long question", "long answer"),
        row("f", "only", model="o1", weight=0.5),
    ]
    source = write(tmp_path / "rows.jsonl", *rows)
    summary, _ = filtered(
        source,
        ids=tmp_path / "ids",
        model=("GPT-4",),
        min_turns=2,
        max_chars=10,
        where=("weight=1",),
        sample="1",
    )
    assert summary.dropped == {
        "ids": 1,
        "model": 1,
        "min-turns": 1,
        "max-chars": 1,
        "where weight=1": 1,
        "sample": 0,
    }
    report = json.loads((tmp_path / "out" / "filter.report.json").read_text("utf-8"))
    assert report["dropped"] == summary.dropped
    assert (report["read"], report["kept"], report["models"]) == (6, 1, {"GPT-4": 4, "o1": 2})
    assert report["settings"]["where"] == ["weight=1"]


def test_rows_pass_as_they_came(tmp_path: Path) -> None:
    # Blanks, the order of fields, other fields, escapes and the spelling of numbers are kept.
    line = (
        '{"id":"a",  "extra": {"n": 1.50, "big": 123456789012345678901}, "kind":"conversation",'
        '"messages":[{"role":"user","content":"\\u00e9\\ud83d\\ude00 \\u2028"},'
        '{"content":"y","role":"assistant"}], "model":"Model: GPT-4"}'
    )
    source = tmp_path / "rows.jsonl"
    source.write_bytes(b"\xef\xbb\xbf" + line.encode() + b"\r\n\r\n" + line.encode())
    _, lines = filtered(source)
    assert lines == [line.encode() + b"\n"] * 2
    again = tmp_path / "again.jsonl"
    again.write_bytes(b"".join(lines))
    assert filtered(again)[1] == lines


def test_rows_of_another_shape_become_ours_and_keep_their_fields(tmp_path: Path) -> None:
    items = [{"from": "human", "value": "hi"}, {"from": "gpt", "value": "hello"}]
    rows = [{"id": "a", "conversations": items, "model": "GPT-4", "votes": [1, None]}]
    rows += [{"id": "b", "items": items, "model": "GPT-4", "weight": None}]
    source = write(tmp_path / "rows.jsonl", *rows)
    where = ("messages.0.role=user", "weight=1")
    _, lines = filtered(source, where=where)
    first, second = (json.loads(line) for line in lines)
    assert first == {
        **row("a", model="GPT-4", source="", weight=1.0, votes=[1, None]),
        "language": None,
        "condition": None,
    }
    assert "items" not in second
    again = write(tmp_path / "again.jsonl", first, second)
    assert filtered(again, where=where)[1] == [
        json.dumps(one).encode() + b"\n" for one in (first, second)
    ]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"min_turns": 5, "max_turns": 2}, "--min-turns 5 is more than --max-turns 2"),
        ({"max_chars": -1}, "--max-chars -1: can't be negative"),
        ({"model": ("re:a(b",)}, "--model re:a(b: not a regular expression at character 5"),
        ({"model": (" ",)}, "--model: a label is needed"),
        ({"sample": "0"}, "--sample 0: at least one"),
        ({"sample": "0%"}, "--sample 0%: a share is more than 0"),
        ({"sample": "150%"}, "--sample 150%: a share is more than 0 and at most 100%"),
        ({"sample": "-5"}, "--sample -5: not a number of conversations"),
        ({"sample": "nan"}, "--sample nan: not a number of conversations"),
        ({"ids": Path("-"), "input": Path("-")}, "stdin can't be both"),
    ],
)
def test_options_that_cannot_work(tmp_path: Path, options: Row, says: str) -> None:
    settings = {"input": tmp_path / "rows.jsonl", "output": tmp_path / "out", **options}
    with pytest.raises(UsageError) as caught:
        filter_rows(FilterSettings(**settings))
    assert says in caught.value.message


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("rows.jsonl", "", "holds no conversations"),
        ("rows.jsonl", "\n \n", "holds no conversations"),
        ("rows.jsonl", '{"kind": "conversation", "id": null, "messages": []}', ":1: 'id' must be"),
        ("rows.jsonl", '{"kind": "conversation", "id": "a", "messages": null}', "must be a list"),
        ("dropped.jsonl", '{"kind": "dropped", "version": 1}', "holds dropped pages"),
        ("page.jsonl", "<html>", "holds a web page"),
    ],
)
def test_files_that_hold_no_conversations(tmp_path: Path, name: str, text: str, says: str) -> None:
    (tmp_path / name).write_text(text, "utf-8")
    with pytest.raises(OpenChatError) as caught:
        filtered(tmp_path / name)
    assert says in caught.value.message
    assert not (tmp_path / "out" / "filtered.jsonl").exists()


def test_sampling_is_stable(tmp_path: Path) -> None:
    names = [f"n{k}" for k in range(400)]
    source = write(tmp_path / "rows.jsonl", *map(row, names))
    many = kept(source, sample="25%")
    few = kept(source, sample="40")
    assert (len(many), len(few)) == (100, 40)
    assert set(few) < set(many)
    assert few == [name for name in names if name in set(few)]  # the order of the input
    assert kept(source, sample="0.1") == few == kept(source, sample=" 10 % ")
    assert kept(source, sample="40", seed=7) != few
    part = tmp_path / "part.jsonl"
    part.write_bytes((tmp_path / "out" / "filtered.jsonl").read_bytes())
    write(part, *map(row, many))
    assert kept(part, sample="40") == few
    backwards = write(tmp_path / "back.jsonl", *map(row, reversed(names)))
    assert kept(backwards, sample="40") == few[::-1]
    assert kept(source, sample="1000") == names
    assert len(kept(source, sample="0.01%")) == 1
    # What the whole set would hold out for evaluation is not what a sample is made of.
    from openchat_cli.data import split

    ranks = [split.rank(42, name) for name in names]
    assert {names[k] for k in split.held_out(ranks, 40)} != set(few)


def test_a_pipe_is_sampled_in_one_reading(openchat: RunCli, tmp_path: Path) -> None:
    source = write(tmp_path / "rows.jsonl", *(row(f"n{k}") for k in range(50)))
    expected = kept(source, sample="5")
    piped = openchat(
        "data", "filter", "-", "-", "--sample", "5", "--json", stdin=source.read_text("utf-8")
    )
    assert [json.loads(line)["id"] for line in piped.stdout.splitlines()] == expected
    counts = json.loads(piped.stderr.splitlines()[-1])["counts"]
    assert counts["dropped"] == {"model": 0, "sample": 45}


def test_settings_from_the_environment_and_the_file(openchat: RunCli, tmp_path: Path) -> None:
    labels = ("Default (GPT-3.5)", "o1", "GPT-4")
    rows = [row(name, model=label) for name, label in zip("abc", labels, strict=True)]
    write(tmp_path / "rows.jsonl", *rows)
    command = ("data", "filter", "rows.jsonl", "-", "--quiet")

    def ids(**env: str) -> str:
        ended = openchat(*command, env=env)
        return "".join(json.loads(line)["id"] for line in ended.stdout.splitlines())

    # One value a line: labels hold blanks.
    assert ids(OPENCHAT_DATA_FILTER_MODEL="Default (GPT-3.5)") == "a"
    assert ids(OPENCHAT_DATA_FILTER_MODEL="Default (GPT-3.5)\no1") == "ab"
    (tmp_path / "openchat.toml").write_text('[data.filter]\nmodel = "o1"\n', "utf-8")
    assert ids() == "b"
    (tmp_path / "openchat.toml").write_text('[data.filter]\nmodel = ["o1", "gpt-4"]\n', "utf-8")
    assert ids() == "bc"


def test_the_table_tells_what_the_report_tells(openchat: RunCli, tmp_path: Path) -> None:
    write(tmp_path / "rows.jsonl", row("a"), row("b", model=None), row("c", weight=0.2))
    ended = openchat("data", "filter", "rows.jsonl", "out", "--where", "weight > 0.5")
    assert ended.returncode == 0
    for line in ("model │ 1 │ GPT-4", "where weight > 0.5 │ 1", "read │ 3"):
        assert line in " ".join(ended.stderr.split()), ended.stderr
    assert "models looked at: GPT-4 2, (none) 1" in ended.stderr
    refused = openchat("data", "filter", "rows.jsonl", "out")
    assert (refused.returncode, "--force" in refused.stderr) == (2, True)
    in_place = openchat("data", "filter", "out/filtered.jsonl", "out", "--force")
    assert in_place.returncode == 0
    published = openchat("data", "filter", "out", "again", "--json")
    assert json.loads(published.stdout)["counts"]["kept"] == 1


def test_odd_rows_pass(openchat: RunCli, tmp_path: Path) -> None:
    nulls = {"source": None, "language": None, "condition": None, "weight": None}
    rows = [row("a", model=None, **nulls), row("b\ud800", model="G\udfff", x=float("nan"))]
    source = write(tmp_path / "rows.jsonl", *rows)
    ended = openchat("data", "filter", source, "out", "--model", "any", "--json")
    assert ended.returncode == 0, ended.stderr
    assert json.loads(ended.stdout)["counts"]["models"] == {"(none)": 1, "G\udfff": 1}
    assert (tmp_path / "out" / "filtered.jsonl").read_bytes() == source.read_bytes()
    report = json.loads((tmp_path / "out" / "filter.report.json").read_text("utf-8"))
    assert report["models"]["G\udfff"] == 1
    assert kept(source, model=("any",), sample="2") == ["a", "b\ud800"]


def test_data_run_takes_the_same_criteria(
    openchat: RunCli, tmp_path: Path, tokenizer_folder: Path
) -> None:
    rows = []
    for k in range(12):
        turns = [{"from": "human", "value": f"hi {k}"}, {"from": "gpt", "value": "hello"}]
        label = "o1" if k % 2 else "gpt-4-turbo"
        rows.append({"id": str(k), "model": label, "conversations": turns * (1 + k % 3)})
    write(tmp_path / "dump.jsonl", *rows)
    command = ["data", "run", "dump.jsonl", "out", "--model-path", tokenizer_folder]
    command += ["--model-type", "opencoder"]
    wrong = openchat(*command, "--where", "weight>=x")
    assert (wrong.returncode, "weight is a number" in wrong.stderr) == (2, True)
    assert not (tmp_path / "out").exists()
    ended = openchat(
        *command, "--model", "gpt-4*", "--max-turns", "4", "--where", "id!=0", "--json"
    )
    assert ended.returncode == 0, ended.stderr
    assert json.loads(ended.stdout)["counts"]["filtered"] == 3
    assert "max-turns │ 2 │ 4" in " ".join(ended.stderr.split())
    lines = (tmp_path / "out" / "filtered.jsonl").read_text("utf-8").splitlines()
    assert [json.loads(line)["id"] for line in lines] == ["4", "6", "10"]
