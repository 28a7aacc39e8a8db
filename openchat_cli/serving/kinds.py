"""What a field of a request may hold: each kind reads a JSON value and describes itself.

The same tables of fields check requests and make up /openapi.json, so the description can't say
anything else than what is checked.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from openchat_cli.serving import fields
from openchat_cli.serving.fields import Body, Json

Schema = dict[str, Any]


class Kind(Protocol):
    """A type of value."""

    def read(self, value: Json, name: str) -> Any:
        """The value, checked; ApiError 400 that names the field. `value` is never None."""

    def schema(self) -> Schema:
        """Its JSON schema."""


@dataclass(frozen=True)
class Field:
    """A field that requests may have; null counts as absent."""

    name: str
    kind: Kind
    help: str = ""
    required: bool = False

    def schema(self) -> Schema:
        """Its JSON schema: the kind's, or null."""
        found = self.kind.schema()
        if not self.required:
            found = {"anyOf": [found, {"type": "null"}]}
        return {**found, "description": self.help} if self.help else found


Table = Sequence[Field]


def read(body: Body, table: Table, inside: str = "") -> dict[str, Any]:
    """The fields of the table that a body has, checked; what the table lacks is ignored.

    `inside` names the object that the body is in errors. Raises ApiError 400.
    """
    found: dict[str, Any] = {}
    for field in table:
        value = body.get(field.name)
        name = f"{inside}.{field.name}" if inside else field.name
        if value is not None:
            found[field.name] = field.kind.read(value, name)
        elif field.required:
            raise fields.missing(name)
    return found


def object_schema(table: Table) -> Schema:
    """The JSON schema of an object with these fields."""
    return {
        "type": "object",
        "properties": {field.name: field.schema() for field in table},
        "required": [field.name for field in table if field.required],
    }


# --- single values ---


@dataclass(frozen=True)
class Boolean:
    """True or false."""

    def read(self, value: Json, name: str) -> bool:
        if not isinstance(value, bool):
            raise fields.wrong_type(name, "a boolean", value)
        return value

    def schema(self) -> Schema:
        return {"type": "boolean"}


@dataclass(frozen=True)
class Integer:
    """A whole number between two limits; 3.0 is one too, as JSON knows only numbers."""

    low: float = -math.inf
    high: float = math.inf

    def read(self, value: Json, name: str) -> int:
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, int):
            raise fields.wrong_type(name, "an integer", value)
        fields.check_range(name, value, self.low, self.high)
        return value

    def schema(self) -> Schema:
        return {"type": "integer", **_limits(self.low, self.high)}


@dataclass(frozen=True)
class Number:
    """A number between two limits."""

    low: float
    high: float

    def read(self, value: Json, name: str) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise fields.wrong_type(name, "a decimal", value)
        fields.check_range(name, value, self.low, self.high)
        return float(value)

    def schema(self) -> Schema:
        return {"type": "number", **_limits(self.low, self.high)}


def _limits(low: float, high: float) -> Schema:
    found = {"minimum": low, "maximum": high}
    return {name: value for name, value in found.items() if math.isfinite(value)}


@dataclass(frozen=True)
class Text:
    """A string of at least so many characters."""

    least: int = 0

    def read(self, value: Json, name: str) -> str:
        if not isinstance(value, str):
            raise fields.wrong_type(name, "a string", value)
        if len(value) < self.least:
            raise fields.invalid_value(name, "it must not be empty")
        return value

    def schema(self) -> Schema:
        return {"type": "string", **({"minLength": self.least} if self.least else {})}


@dataclass(frozen=True)
class Only:
    """What can be asked for elsewhere and not here: just the values that ask for nothing."""

    values: tuple[Json, ...] = ()

    def read(self, value: Json, name: str) -> Json:
        if not any(_same(value, known) for known in self.values):
            raise fields.unsupported(name)
        return value

    def schema(self) -> Schema:
        return {"enum": list(self.values)} if self.values else {"type": "null"}


def _same(one: Json, other: Json) -> bool:
    """Whether JSON holds the two for equal; Python also takes 0 and False for one."""
    return bool(one == other) and isinstance(one, bool) is isinstance(other, bool)


# --- several values ---


@dataclass(frozen=True)
class Array:
    """A list of values of one kind; `many` says of what, in the plural."""

    item: Kind
    many: str
    least: int = 0
    most: int | None = None

    def read(self, value: Json, name: str) -> list[Any]:
        if not isinstance(value, list):
            raise fields.wrong_type(name, f"an array of {self.many}", value)
        if len(value) < self.least:
            raise fields.empty_array(name)
        if self.most is not None and len(value) > self.most:
            raise fields.invalid_value(name, f"at most {self.most} {self.many} in one request")
        return [self.item.read(item, f"{name}[{index}]") for index, item in enumerate(value)]

    def schema(self) -> Schema:
        found: Schema = {"type": "array", "items": self.item.schema()}
        if self.least:
            found["minItems"] = self.least
        if self.most is not None:
            found["maxItems"] = self.most
        return found


@dataclass(frozen=True)
class Object:
    """An object with fields of its own."""

    table: Table = ()

    def read(self, value: Json, name: str) -> dict[str, Any]:
        return read(fields.mapping(value, name), self.table, name)

    def schema(self) -> Schema:
        return object_schema(self.table)


@dataclass(frozen=True)
class OneOrMore:
    """A single string in place of a list of them."""

    array: Array

    def read(self, value: Json, name: str) -> list[Any]:
        if isinstance(value, str):
            return [self.array.item.read(value, name)]
        if not isinstance(value, list):
            raise fields.wrong_type(name, f"a string or an array of {self.array.many}", value)
        return self.array.read(value, name)

    def schema(self) -> Schema:
        return {"anyOf": [self.array.item.schema(), self.array.schema()]}


@dataclass(frozen=True)
class LogitBias:
    """Token ids, which JSON has as strings, and what is added to their logits."""

    bias: Number
    vocab_size: int

    def read(self, value: Json, name: str) -> Mapping[int, float]:
        found: dict[int, float] = {}
        for key, bias in fields.mapping(value, name).items():
            if not (key.isascii() and key.isdecimal() and len(key) < 12):
                raise fields.invalid_value(name, "its keys must be token ids")
            if int(key) >= self.vocab_size:
                reason = f"{int(key)} is not one of the model's {self.vocab_size} token ids"
                raise fields.invalid_value(name, reason)
            if bias is None:
                raise fields.wrong_type(name, "a decimal", bias)
            found[int(key)] = self.bias.read(bias, name)
        return found

    def schema(self) -> Schema:
        keys = {"pattern": "^[0-9]{1,11}$"}
        return {
            "type": "object",
            "propertyNames": keys,
            "additionalProperties": self.bias.schema(),
        }
