"""The description of the server's /api, from which the web app's types are made:
`python tests/web_schema.py > web/openapi.json`."""

from __future__ import annotations

import json
import sys
import tempfile
from typing import Any

from chatwright.serve.app import create_app
from chatwright.serve.engine import EngineRegistry
from chatwright.serve.settings import ServeConfig
from chatwright.workspace.database import Workspace


def api_schema() -> dict[str, Any]:
    """OpenAPI of the routes that the web app uses, without those of other clients."""
    with tempfile.TemporaryDirectory() as folder, Workspace.open(folder) as workspace:
        schema = create_app(ServeConfig(workspace=folder), EngineRegistry(), workspace).openapi()
    schema["paths"] = {path: item for path, item in schema["paths"].items() if path.startswith("/api/")}
    for item in schema["paths"].values():
        for operation in item.values():
            operation["responses"].pop("422", None)  # the server answers 400 in its own shape
    schema["info"] = {"title": "Chatwright", "version": "web"}  # a release alone makes no types stale
    used: set[str] = set()
    waiting = [json.dumps(schema["paths"])]
    models = schema["components"]["schemas"]
    while waiting:
        text = waiting.pop()
        for name in set(models) - used:
            if f'"#/components/schemas/{name}"' in text:
                used.add(name)
                waiting.append(json.dumps(models[name]))
    schema["components"] = {"schemas": {name: models[name] for name in sorted(used)}}
    return schema


def as_text() -> str:
    """As it is kept in web/openapi.json."""
    return json.dumps(api_schema(), indent=1, ensure_ascii=False, sort_keys=True) + "\n"


if __name__ == "__main__":
    sys.stdout.write(as_text())
