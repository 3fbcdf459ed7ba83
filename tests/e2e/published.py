"""Validation of requests and answers against a venue's published API document."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

import jsonschema
import pytest
from requests import PreparedRequest

FOLDER = Path(__file__).resolve().parent.parent.parent.parent / "shared" / "venues"
NO_TYPE = {"integer": int, "number": float}


class Document:
    """An OpenAPI document of a venue's."""

    def __init__(self, name: str) -> None:
        path = FOLDER / name
        if not path.is_file():
            pytest.skip(f"{name} is not there")
        self._content = _as_json_schema(json.loads(path.read_text()))
        self._paths = {
            re.compile(re.sub(r"\\\{[^/]+?\\\}", "[^/]+", re.escape(path)) + "$"): operations
            for path, operations in self._content["paths"].items()
        }

    def faults_of_answer(self, method: str, path: str, status: int, answer: Any) -> list[str]:
        """Return where an answer differs from the document."""
        responses = self._operation(method, path)["responses"]
        response = self._resolved(responses[str(status)])
        schema = response["content"]["application/json"]["schema"]
        return self._faults(schema, answer)

    def faults_of_request(self, request: PreparedRequest) -> list[str]:
        """Return where a request differs from the document."""
        parts = urlsplit(str(request.url))
        operation = self._operation(str(request.method), unquote(parts.path))
        parameters = map(self._resolved, operation.get("parameters", []))
        known = {each["name"]: each for each in parameters if each["in"] == "query"}
        query = dict(parse_qsl(parts.query, keep_blank_values=True))
        faults = [f"{name}: no such parameter" for name in query if name not in known]
        faults += [
            f"{name}: is required"
            for name, each in known.items()
            if each.get("required") and name not in query
        ]
        for name in set(query) & set(known):
            schema = known[name]["schema"]
            faults += self._faults(schema, _typed(query[name], self._resolved(schema)), name)
        if "requestBody" not in operation:
            return [*faults, *(["a body"] if request.body else [])]
        schema = self._resolved(operation["requestBody"]["content"]["application/json"]["schema"])
        body = json.loads(request.body or b"")
        unknown = set(body) - set(schema["properties"])
        return [
            *faults,
            *(f"{name}: no such field" for name in unknown),
            *self._faults(schema, body),
        ]

    def _operation(self, method: str, path: str) -> Mapping[str, Any]:
        for pattern, operations in self._paths.items():
            if pattern.fullmatch(path) and method.lower() in operations:
                return operations[method.lower()]
        raise AssertionError(f"the document has no {method} {path}")

    def _resolved(self, node: Mapping[str, Any]) -> Mapping[str, Any]:
        while "$ref" in node:
            place: Any = self._content
            for part in node["$ref"].removeprefix("#/").split("/"):
                place = place[part]
            node = place
        return node

    def _faults(self, schema: Mapping[str, Any], value: Any, name: str = "") -> list[str]:
        whole = {**schema, "components": self._content["components"]}
        errors = jsonschema.Draft202012Validator(whole).iter_errors(value)
        return [f"{name}{'.'.join(map(str, error.path))}: {error.message}" for error in errors]


def _as_json_schema(node: Any) -> Any:
    """Convert OpenAPI 3.0 to JSON Schema; examples and formats are dropped."""
    if isinstance(node, list):
        return [_as_json_schema(each) for each in node]
    if not isinstance(node, dict):
        return node
    dropped = ("example", "examples", "format")
    schema = {key: _as_json_schema(each) for key, each in node.items() if key not in dropped}
    if schema.pop("nullable", False) is True and isinstance(schema.get("type"), str):
        schema["type"] = [schema["type"], "null"]
    return schema


def _typed(text: str, schema: Mapping[str, Any]) -> Any:
    """Parse a query's text by its type in the document."""
    if schema.get("type") == "boolean":
        return {"true": True, "false": False}.get(text.lower(), text)
    if schema.get("type") in NO_TYPE:
        return NO_TYPE[schema["type"]](text)
    return text.split(",") if schema.get("type") == "array" else text
