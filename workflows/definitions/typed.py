"""Payloads as Python types: pydantic models, dataclasses, TypedDicts, and what else pydantic knows.

Their JSON Schema is what definitions and event names keep, so that one form holds for code, REST and pages.
"""

from __future__ import annotations

from typing import Any, Literal, TypeVar

from pydantic import BaseModel, PydanticUserError, TypeAdapter, ValidationError
from pydantic.errors import PydanticInvalidForJsonSchema

from workflows.definitions.json_schema import SchemaProblem, SchemaRefused, compile_schema
from workflows.errors import InvalidInput, InvalidOutput
from workflows.payload import Json

T = TypeVar("T")
MAX_PROBLEMS = 20


def json_schema_of(type_: Any, *, of: Literal["input", "output"] = "input") -> dict[str, Any]:
    """The JSON Schema of a type: of what is read into it (`input`), or of what is written of it (`output`).

    Raises SchemaRefused where it has none, or where ours can't apply it (`definitions.json_schema` says what).
    """
    try:
        schema = _adapter(type_).json_schema(mode="validation" if of == "input" else "serialization")
    except (PydanticUserError, PydanticInvalidForJsonSchema) as error:
        raise SchemaRefused([SchemaProblem((), f"{_name(type_)}: {_first_line(error)}")]) from None
    compile_schema(schema)
    return schema


def typed(type_: type[T], value: Json, *, what: str = "input") -> T:
    """The value as an instance of the type. Raises InvalidInput with each path that is wrong."""
    try:
        instance: T = _adapter(type_).validate_python(value, strict=False)
    except ValidationError as error:
        found = error.errors(include_url=False, include_input=False)
        said = [f"{'.'.join(map(str, (what, *each['loc'])))}: {each['msg']}" for each in found[:MAX_PROBLEMS]]
        more = f"; and {len(found) - MAX_PROBLEMS} more" if len(found) > MAX_PROBLEMS else ""
        raise InvalidInput("; ".join(said) + more) from None
    return instance


def plain(value: Any, *, what: str = "The value") -> Json:
    """An instance as JSON, by its aliases; anything else that pydantic can write, too. Raises InvalidOutput."""
    try:
        if isinstance(value, BaseModel):
            return value.model_dump(mode="json", by_alias=True)
        return TypeAdapter(type(value)).dump_python(value, mode="json", by_alias=True)
    except (ValueError, PydanticUserError) as error:  # pydantic says that it can not write it
        raise InvalidOutput(f"{what} is no JSON: {_first_line(error)}") from None


def _adapter(type_: Any) -> TypeAdapter[Any]:
    return TypeAdapter(type_)


def _name(type_: Any) -> str:
    return getattr(type_, "__name__", str(type_))


def _first_line(error: BaseException) -> str:
    return [*str(error).splitlines(), type(error).__name__][0]
