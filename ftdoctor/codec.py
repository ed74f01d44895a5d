"""Turn a diagnosis into plain JSON data and back, and write the JSON Schema of it."""

from __future__ import annotations

import math
import types
import typing
from collections.abc import Mapping
from dataclasses import MISSING, Field, fields, is_dataclass
from enum import Enum
from functools import cache
from typing import Any

from ftdoctor.errors import FtdoctorError
from ftdoctor.model import SCHEMA_VERSION, Diagnosis

Json = Any  # None, bool, int, float, str, and lists and string-keyed dicts of these
NON_FINITE = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}
_REMEDY = "write it anew with `ftdoctor diagnose RUN --json`"


def encode(value: Any, *, sparse: bool = False) -> Json:
    """Return plain data for `json.dumps(allow_nan=False)`: enums and non-finite floats as strings.

    With `sparse`, fields that hold their default are left out; decoding puts them back.
    """
    if is_dataclass(value) and not isinstance(value, type):
        return {
            f.name: encode(getattr(value, f.name), sparse=sparse)
            for f in fields(value)
            if not (sparse and _is_default(f, getattr(value, f.name)))
        }
    if isinstance(value, Enum):
        return encode(value.value)
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else _name_of(value)
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, Mapping):
        return {str(key): encode(value[key], sparse=sparse) for key in sorted(value, key=str)}
    if isinstance(value, list | tuple | set | frozenset):
        items = sorted(value, key=repr) if isinstance(value, set | frozenset) else value
        return [encode(item, sparse=sparse) for item in items]
    if hasattr(value, "tolist"):  # numpy scalars and arrays, without importing numpy
        return encode(value.tolist(), sparse=sparse)
    return str(value)


def decode_diagnosis(data: Mapping[str, Any]) -> Diagnosis:
    """Rebuild a diagnosis from `encode`'s data.

    FtdoctorError names the place if the data is of another schema or does not fit this one.
    Keys that are not known are passed over: a newer minor version may have added them.
    """
    if not isinstance(data, Mapping):
        raise FtdoctorError(f"a diagnosis is a JSON object, not {_kind(data)}; {_REMEDY}")
    version = data.get("schema_version")
    if not isinstance(version, str) or version.split(".")[0] != SCHEMA_VERSION.split(".")[0]:
        raise FtdoctorError(
            f"this diagnosis has schema version {version!r}, and this ftdoctor reads"
            f" {SCHEMA_VERSION}; {_REMEDY}"
        )
    decoded = _decode(Diagnosis, data, "diagnosis")
    assert isinstance(decoded, Diagnosis)
    return decoded


def json_schema() -> dict[str, Json]:
    """Return the JSON Schema (draft 2020-12) of an encoded diagnosis, from the dataclasses."""
    definitions: dict[str, Json] = {}
    _define(Diagnosis, definitions)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": f"ftdoctor diagnosis, schema {SCHEMA_VERSION}",
        "$ref": "#/$defs/Diagnosis",
        "$defs": dict(sorted(definitions.items())),
    }


def _is_default(field: Field[Any], value: Any) -> bool:
    if field.name == "schema_version":
        return False
    if field.default_factory is not MISSING:
        return bool(value == field.default_factory())
    return field.default is not MISSING and bool(value == field.default)


def _name_of(value: float) -> str:
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


@cache
def _hints(cls: type) -> dict[str, Any]:
    return typing.get_type_hints(cls)


def _decode(hint: Any, data: Any, place: str) -> Any:
    origin, parts = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any:
        return data
    if origin in (typing.Union, types.UnionType):
        if data is None:
            return None
        return _decode(next(p for p in parts if p is not types.NoneType), data, place)
    if origin is tuple:
        if not isinstance(data, list | tuple):
            raise _mismatch(place, "a list", data)
        return tuple(_decode(parts[0], item, f"{place}[{i}]") for i, item in enumerate(data))
    if origin is not None:
        if not isinstance(data, Mapping):
            raise _mismatch(place, "an object", data)
        return {str(k): _decode(parts[1], v, f"{place}.{k}") for k, v in data.items()}
    if is_dataclass(hint):
        return _decode_object(typing.cast(type, hint), data, place)
    return _decode_scalar(hint, data, place)


def _decode_object(cls: type, data: Any, place: str) -> Any:
    if not isinstance(data, Mapping):
        raise _mismatch(place, "an object", data)
    hints = _hints(cls)
    values = {}
    for field in fields(cls):
        if field.name in data:
            values[field.name] = _decode(
                hints[field.name], data[field.name], f"{place}.{field.name}"
            )
        elif field.default is MISSING and field.default_factory is MISSING:
            raise FtdoctorError(f"{place} has no `{field.name}`; {_REMEDY}")
    return cls(**values)


def _decode_scalar(hint: type, data: Any, place: str) -> Any:
    if issubclass(hint, Enum):
        try:
            return hint(data)
        except ValueError:
            names = ", ".join(str(member.value) for member in hint)
            raise _mismatch(place, f"one of {names}", data) from None
    if hint is float:
        if isinstance(data, str) and data in NON_FINITE:
            return NON_FINITE[data]
        if isinstance(data, int | float) and not isinstance(data, bool):
            return float(data)
        raise _mismatch(place, "a number", data)
    if not isinstance(data, hint) or (hint is int and isinstance(data, bool)):
        raise _mismatch(place, _KINDS.get(hint, hint.__name__), data)
    return data


_KINDS = {str: "text", int: "a whole number", bool: "true or false"}


def _kind(data: Any) -> str:
    return f"{type(data).__name__} {str(data)[:40]!r}"


def _mismatch(place: str, wanted: str, data: Any) -> FtdoctorError:
    return FtdoctorError(f"{place} must be {wanted}, not {_kind(data)}; {_REMEDY}")


def _define(cls: type, definitions: dict[str, Json]) -> None:
    if cls.__name__ in definitions:
        return
    definitions[cls.__name__] = {}  # holds the place, for classes that refer to each other
    hints = _hints(cls)
    required = [
        f.name for f in fields(cls) if f.default is MISSING and f.default_factory is MISSING
    ]
    definitions[cls.__name__] = {
        "type": "object",
        "description": (cls.__doc__ or "").partition("\n")[0],
        "properties": {f.name: _schema_of(hints[f.name], definitions) for f in fields(cls)},
        "required": required,
    }


def _schema_of(hint: Any, definitions: dict[str, Json]) -> Json:
    origin, parts = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any:
        return {}
    if origin in (typing.Union, types.UnionType):
        return {"anyOf": [_schema_of(part, definitions) for part in parts]}
    if origin is tuple:
        return {"type": "array", "items": _schema_of(parts[0], definitions)}
    if origin is not None:
        return {"type": "object", "additionalProperties": _schema_of(parts[1], definitions)}
    if is_dataclass(hint):
        cls = typing.cast(type, hint)
        _define(cls, definitions)
        return {"$ref": f"#/$defs/{cls.__name__}"}
    if issubclass(hint, Enum):
        return {"enum": [member.value for member in hint]}
    if hint is float:
        return {"anyOf": [{"type": "number"}, {"enum": list(NON_FINITE)}]}
    names = {str: "string", int: "integer", bool: "boolean", types.NoneType: "null"}
    return {"type": names[hint]}
