"""Other people's clients, unchanged, against our server. Each has its own environment (client_environments.py)."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from client_environments import SCRIPTS, Server, node, python, run

pytestmark = pytest.mark.timeout(600)  # the first run installs them


def test_openai_of_pypi(server: Server) -> None:
    run([python("openai"), SCRIPTS / "openai_python.py", server.url, server.key])


def test_openai_of_npm(server: Server) -> None:
    folder = node("openai-npm")
    shutil.copy(SCRIPTS / "openai_node.mjs", folder)  # imports are found beside the file
    run(["node", folder / "openai_node.mjs", server.url, server.key])


def test_vercel_ai(server: Server) -> None:
    folder = node("vercel-ai")
    shutil.copy(SCRIPTS / "vercel_ai.mjs", folder)
    run(["node", folder / "vercel_ai.mjs", server.url, server.key])


def test_llm(server: Server, tmp_path: Path) -> None:
    llm = [python("llm"), "-m", "llm"]
    shared = {"api_base": f"{server.url}/v1", "api_key_name": "chatwright", "supports_tools": True}
    rows = [{"model_id": name, "model_name": name, **shared} for name in ("scripted", "tiny", "caller")]
    (tmp_path / "extra-openai-models.yaml").write_text(json.dumps(rows), encoding="utf-8")  # JSON is YAML
    (tmp_path / "keys.json").write_text(json.dumps({"chatwright": server.key}), encoding="utf-8")
    env = {"LLM_USER_PATH": str(tmp_path)}
    assert run([*llm, "-m", "scripted", "hi"], **env).strip() == "Hello there"
    assert run([*llm, "-m", "scripted", "--no-stream", "hi"], **env).strip() == "Hello there"
    run([*llm, "-m", "tiny", "-o", "max_tokens", "5", "hi"], **env)
    logged = json.loads(run([*llm, "logs", "--json", "-n", "3"], **env))
    assert {(row["input_tokens"], row["output_tokens"]) for row in logged if row["model"] == "scripted"} == {(2, 11)}
    function = "def add(a: int, b: int) -> int:\n    return a + b\n"
    # The scripted model calls for ever: the chain's limit ends it, after the function has been called twice.
    with pytest.raises(AssertionError, match="Chain limit of 2 exceeded") as ended:
        run([*llm, "-m", "caller", "--functions", function, "--chain-limit", "2", "--td", "hi"], **env)
    assert "Tool call: add({'a': 1, 'b': 2})\n  3" in str(ended.value)


@pytest.mark.slow
@pytest.mark.clients
def test_schemathesis(server: Server) -> None:
    """Generated requests to every route of the API: no 5xx, documented statuses, bodies in the declared shapes, and
    what breaks the schema is refused. That everything within the schema is accepted is not asked: a schema cannot say
    which models exist or that stream_options needs stream."""
    command = [python("schemathesis").with_name("st"), "run", f"{server.url}/openapi.json", "--no-color"]
    routes = "^/(v1|tokenize|detokenize|tokenizer_info|health|ready)"
    options = ["--exclude-checks", "positive_data_acceptance", "--generation-deterministic", "--max-examples", "6"]
    options += ["--include-path-regex", routes]
    phases = ["--phases", "examples,coverage,fuzzing", "--header", f"Authorization: Bearer {server.key}"]
    run([*command, *options, *phases], timeout_s=500)
