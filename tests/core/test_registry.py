"""The model types: what the original was, and rows of the user's own."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from openchat_cli.core import registry
from openchat_cli.core.errors import InputError, UsageError

RECIPE = {
    "batch_size": 128,
    "learning_rate": 2e-5,
    "epochs": 5,
    "schedule": "cosine",
    "warmup_ratio": 0.03,
    "weight_decay": 0.0,
    "gradient_clipping": 1.0,
    "dtype": "bf16",
    "zero_stage": 2,
    "gradient_checkpointing": True,
}


def write(path: Path, text: str) -> Path:
    (path / "types.toml").write_text(text)
    return path / "types.toml"


def test_the_three_types_are_the_original_ones() -> None:
    kinds = {name: kind for name, kind in registry.built_in().items() if name != "openchat_3.5"}
    assert list(kinds) == ["openchat", "openchat_8192", "opencoder"]
    assert [kind.context for kind in kinds.values()] == [2048, 8192, 8192]
    assert [kind.bos for kind in kinds.values()] == ["<s>", "<s>", None]
    assert [kind.eot_init for kind in kinds.values()] == ["mean", "mean", "normal"]
    assert {kind.eot for kind in kinds.values()} == {"<|end_of_turn|>"}
    for kind in kinds.values():
        assert dataclasses.asdict(kind.recipe) == RECIPE


def test_openchat_3_5_is_a_mistral_with_a_turn_format_of_its_own() -> None:
    kind = registry.get("openchat_v3.2_mistral")
    assert (kind.name, kind.architecture, kind.context) == ("openchat_3.5", "mistral", 8192)
    assert (kind.bos, kind.eot) == ("<s>", "<|end_of_turn|>")


def test_an_alias_finds_its_type_and_a_typo_gets_a_suggestion() -> None:
    assert registry.get("opencoderplus").name == "opencoder"
    with pytest.raises(UsageError, match="no model type 'opnchat'") as caught:
        registry.get("opnchat")
    assert caught.value.hint is not None
    assert caught.value.hint.startswith("did you mean 'openchat'?")


def test_a_row_of_the_users_own(tmp_path: Path) -> None:
    file = write(
        tmp_path,
        """
        [mine]
        extends = "openchat"
        architecture = "mistral"
        context = 4096
        bos = ""
        parameters = 7
        aliases = ["m"]
        [mine.roles]
        user = "Q: "
        assistant = "A: "
        system = "S: "
        [mine.recipe]
        learning_rate = 1e-5
        """,
    )
    kind = registry.get("m", file)
    assert (kind.name, kind.title, kind.context, kind.bos) == ("mine", "mine", 4096, None)
    assert dict(kind.roles) == {"user": "Q: ", "assistant": "A: ", "system": "S: "}
    assert kind.recipe.learning_rate == 1e-5
    assert kind.recipe.batch_size == 128
    assert kind.eot == "<|end_of_turn|>"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[a]\ncontext = 1", "needs 'extends'"),
        ('[a]\nextends = "nope"', "needs 'extends'"),
        ("a = 1", "must be a table"),
        ('[a]\nextends = "openchat"\ncontxt = 1', "no setting 'contxt'"),
        ('[a]\nextends = "openchat"\ncontext = "long"', "must be of type int"),
        ('[a]\nextends = "openchat"\ncontext = true', "must be of type int"),
        ('[a]\nextends = "openchat"\ncontext = 0', "at least 1"),
        ('[a]\nextends = "openchat"\nbos = 1', "bos must be of type str"),
        ('[a]\nextends = "openchat"\neot = ""', "a token of its own"),
        ('[a]\nextends = "openchat"\ntokenizer = "words"', "tokenizer can't be 'words'"),
        ('[a]\nextends = "openchat"\n[a.recipe]\nschedule = "wavy"', "schedule can't be 'wavy'"),
        ('[a]\nextends = "openchat"\n[a.recipe]\nepoch = 1', "no setting 'epoch'"),
        ('[a]\nextends = "openchat"\n[a.roles]\nuser = "U"', "at least user and assistant"),
        ('[a]\nextends = "openchat"\n[a.roles]\nuser = 1\nassistant = "A"', "must be texts"),
        ('[openchat]\nextends = "openchat"', "is a built-in type"),
        ('[a]\nextends = ["openchat"]', "needs 'extends'"),
        ('["../a"]\nextends = "openchat"', "can't be the name of a type"),
        ('[a]\nextends = "openchat"\nname = "b"', "no setting 'name'"),
        ('[a]\nextends = "openchat"\naliases = "ab"', "aliases must be a list of names"),
        ('[a]\nextends = "openchat"\naliases = [1]', "aliases must be a list of names"),
    ],
)
def test_a_wrong_row_says_where(tmp_path: Path, text: str, reason: str) -> None:
    file = write(tmp_path, text)
    with pytest.raises(UsageError, match=reason) as caught:
        registry.load(file)
    assert str(file) in caught.value.message


def test_a_file_that_can_not_be_read(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="can't be read"):
        registry.load(tmp_path / "none.toml")
    with pytest.raises(InputError, match="not TOML"):
        registry.load(write(tmp_path, "[a"))


@pytest.mark.parametrize("kind", registry.built_in().values(), ids=lambda kind: kind.name)
def test_a_row_survives_json(kind: registry.ModelType) -> None:
    restored = registry.restore("here", json.loads(json.dumps(registry.dump(kind))))
    assert restored == kind


def test_restoring_names_what_does_not_fit() -> None:
    table = registry.dump(registry.get("openchat"))
    with pytest.raises(UsageError, match="here has no setting 'new'"):
        registry.restore("here", table | {"new": 1})
    with pytest.raises(UsageError, match="here must be a table with a name"):
        registry.restore("here", None)
