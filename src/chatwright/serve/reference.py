"""The page at /docs: every operation of the OpenAPI schema, the OpenAI protocol first, without scripts."""

from __future__ import annotations

import re
from html import escape
from typing import Any

_METHODS = ("get", "post", "put", "patch", "delete")
_EXAMPLES = """<pre><code>curl {origin}/v1/chat/completions \\
  -H "Authorization: Bearer $CHATWRIGHT_API_KEY" -H "Content-Type: application/json" \\
  -d '{{"model": "{model}", "messages": [{{"role": "user", "content": "What is the moon?"}}]}}'</code></pre>
<pre><code>from openai import OpenAI

client = OpenAI(base_url="{origin}/v1", api_key="...")
answer = client.chat.completions.create(model="{model}", messages=[{{"role": "user", "content": "What is the moon?"}}])
print(answer.choices[0].message.content)</code></pre>"""


def reference_page(schema: dict[str, Any], origin: str, model: str) -> str:
    """`origin` and `model` stand in the examples."""
    title = f"{schema['info']['title']} API"
    paths = sorted(schema["paths"], key=lambda path: (not path.startswith("/v1"), path.startswith("/api"), path))
    operations = [(path, method) for path in paths for method in _METHODS if method in schema["paths"][path]]
    contents = "".join(
        f'<tr><td>{method.upper()}</td><td><a href="#{_anchor(path, method)}"><code>{_broken(path)}</code></a></td>'
        f"<td>{_prose(_first_sentence(schema['paths'][path][method]))}</td></tr>"
        for path, method in operations
    )
    details = "".join(_operation(schema, path, method) for path, method in operations)
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f'<title>{escape(title)}</title><link rel="stylesheet" href="/page.css"><main><h1>{escape(title)}</h1>'
        f"<p>Addresses under <code>/v1</code> speak the OpenAI protocol and take an API key; those under <code>/api</code> "
        f'are the web app\'s own and take its session. All of it as a schema: <a href="/openapi.json">openapi.json</a>.</p>'
        f"{_EXAMPLES.format(origin=escape(origin), model=escape(model))}<table>{contents}</table>{details}</main></html>"
    )


def _broken(path: str) -> str:
    """A path that a narrow column breaks at its slashes and underscores."""
    return re.sub(r"(?<=.)([/_])", r"<wbr>\1", escape(path))


def _prose(text: str) -> str:
    """A docstring as HTML: what stands between backticks is code."""
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(text))


def _anchor(path: str, method: str) -> str:
    return f"{method}-{re.sub(r'[^a-z0-9]+', '-', path.lower()).strip('-')}"


def _first_sentence(operation: dict[str, Any]) -> str:
    return str(operation.get("description", "")).split(". ")[0].replace("\n", " ").removesuffix(".")


def _operation(schema: dict[str, Any], path: str, method: str) -> str:
    operation = schema["paths"][path][method]
    body = operation.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema", {})
    fields = _fields(schema, body)
    fields += [(p["name"], p["schema"], p.get("required", False)) for p in operation.get("parameters", [])]
    listed = "".join(
        f"<li><code>{escape(name)}</code> {escape(_kind(kind))}{' (required)' if required else ''}</li>"
        for name, kind, required in fields
    )
    return (
        f'<h2 id="{_anchor(path, method)}"><code>{method.upper()} {escape(path)}</code></h2>'
        f"<p>{_prose(operation.get('description', ''))}</p>{f'<ul>{listed}</ul>' if listed else ''}"
        f"<p>Answers: {escape(', '.join(operation['responses']))}</p>"
    )


def _fields(schema: dict[str, Any], body: dict[str, Any]) -> list[tuple[str, dict[str, Any], bool]]:
    if "$ref" in body:
        body = schema["components"]["schemas"][body["$ref"].rpartition("/")[2]]
    required = body.get("required", [])
    return [(name, kind, name in required) for name, kind in body.get("properties", {}).items()]


def _kind(kind: dict[str, Any]) -> str:
    if "$ref" in kind:
        return str(kind["$ref"].rpartition("/")[2])
    if "anyOf" in kind:
        return " or ".join(_kind(one) for one in kind["anyOf"])
    if kind.get("type") == "array":
        return f"list of {_kind(kind.get('items', {}))}"
    return str(kind.get("type") or kind.get("const") or "any")
