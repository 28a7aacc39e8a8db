"""Reading the JSON body of a request, and OpenAI's wording for what is wrong with a field."""

from __future__ import annotations

import json
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


def missing(name: str) -> ApiError:
    """A field that must be there and is not."""
    message = f"Missing required parameter: '{name}'."
    return invalid(message, name, "missing_required_parameter")


def unsupported(name: str) -> ApiError:
    """A field that asks for something this server does not have."""
    message = f"Unsupported parameter: '{name}' is not supported with this model."
    return invalid(message, name, "unsupported_parameter")


def empty_array(name: str) -> ApiError:
    """A list that must have something in it."""
    message = f"Invalid '{name}': empty array. Expected an array with minimum length 1."
    return invalid(message, name, "empty_array")


def check_range(name: str, value: float, low: float, high: float) -> None:
    """ApiError 400 for a number below `low` or above `high`."""
    if value < low:
        raise _out_of_range(name, "below minimum", f">= {low:g}", value)
    if not value <= high:
        raise _out_of_range(name, "above maximum", f"<= {high:g}", value)


def _out_of_range(name: str, how: str, expected: str, value: float) -> ApiError:
    kind = "integer" if isinstance(value, int) else "decimal"
    shown = str(value) if len(str(value)) < 40 else "one much larger"
    message = f"Invalid '{name}': {kind} {how} value. Expected a value {expected}, but got {shown}."
    return invalid(message, name, f"{kind}_{how.replace(' ', '_')}_value")


def mapping(value: Json, name: str) -> Body:
    """An object."""
    if not isinstance(value, dict):
        raise wrong_type(name, "an object", value)
    return value
