"""Reading typed fields from a JSON body, with OpenAI's wording where one is wrong.

A field that is absent or null gives None.
"""

from __future__ import annotations

import json
import math
from typing import Any, NoReturn

from openchat_cli.serving.errors import ApiError, invalid

Json = Any
Body = dict[str, Json]

_NAMES = {
    bool: "a boolean",
    int: "an integer",
    float: "a decimal",
    str: "a string",
    list: "an array",
    dict: "an object",
    type(None): "null",
}


def parse_object(data: bytes) -> Body:
    """The JSON object of a request's body; ApiError 400 for anything else.

    Refuses what Python's parser lets through and JSON does not have: NaN, infinities, lone
    surrogates.
    """
    try:
        text = data.decode("utf-8")
        value = json.loads(text, parse_constant=_no_constant)
        # An escaped lone surrogate (\ud800) is no text at all.
        if "\\u" in text:
            json.dumps(value, ensure_ascii=False).encode("utf-8")
    except UnicodeDecodeError as error:
        raise _unparsable(f"byte {error.start} is not UTF-8") from None
    except UnicodeEncodeError:
        raise _unparsable("a text has half of a surrogate pair") from None
    except RecursionError:
        raise _unparsable("it is nested too deep") from None
    except ValueError as error:
        raise _unparsable(str(error)) from None
    if not isinstance(value, dict):
        raise _unparsable(f"an object is expected, not {_NAMES[type(value)]}")
    return value


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _unparsable(reason: str) -> ApiError:
    message = f"We could not parse the JSON body of your request: {reason}."
    return invalid(message, None, "invalid_json")


def wrong_type(name: str, expected: str, value: Json) -> ApiError:
    """A value of another type."""
    found = _NAMES.get(type(value), "something else")
    message = f"Invalid type for '{name}': expected {expected}, but got {found} instead."
    return invalid(message, name, "invalid_type")


def invalid_value(name: str, reason: str) -> ApiError:
    """A value of the right type that can't be used."""
    return invalid(f"Invalid '{name}': {reason}.", name, "invalid_value")


def required(body: Body, name: str) -> Json:
    """A field that must be there."""
    if body.get(name) is None:
        message = f"Missing required parameter: '{name}'."
        raise invalid(message, name, "missing_required_parameter")
    return body[name]


def text(value: Json, name: str) -> str:
    """A string."""
    if not isinstance(value, str):
        raise wrong_type(name, "a string", value)
    return value


def boolean(body: Body, name: str) -> bool:
    """True or false; false when absent."""
    value = body.get(name)
    if value is not None and not isinstance(value, bool):
        raise wrong_type(name, "a boolean", value)
    return bool(value)


def number(body: Body, name: str, low: float, high: float) -> float | None:
    """A number between `low` and `high`."""
    value = body.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise wrong_type(name, "a decimal", value)
    _check_range(name, value, low, high)
    return float(value)


def integer(body: Body, name: str, low: float, high: float = math.inf) -> int | None:
    """A whole number between `low` and `high`."""
    value = body.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int):
        raise wrong_type(name, "an integer", value)
    _check_range(name, value, low, high)
    return value


def _check_range(name: str, value: float, low: float, high: float) -> None:
    if value < low:
        raise _out_of_range(name, "below minimum", f">= {low:g}", value)
    if not value <= high:
        raise _out_of_range(name, "above maximum", f"<= {high:g}", value)


def _out_of_range(name: str, how: str, expected: str, value: float) -> ApiError:
    kind = "integer" if isinstance(value, int) else "decimal"
    shown = str(value) if len(str(value)) < 40 else "one much larger"
    message = f"Invalid '{name}': {kind} {how} value. Expected a value {expected}, but got {shown}."
    return invalid(message, name, f"{kind}_{how.replace(' ', '_')}_value")


def array(value: Json, name: str) -> list[Json]:
    """A list that is not empty."""
    if not isinstance(value, list):
        raise wrong_type(name, "an array", value)
    if not value:
        message = f"Invalid '{name}': empty array. Expected an array with minimum length 1."
        raise invalid(message, name, "empty_array")
    return value


def mapping(value: Json, name: str) -> Body:
    """An object."""
    if not isinstance(value, dict):
        raise wrong_type(name, "an object", value)
    return value
