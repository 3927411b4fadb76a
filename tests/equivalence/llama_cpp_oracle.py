"""Runs in an interpreter that has `xllamacpp` (llama.cpp): one GGUF file, tasks as JSON on stdin, answers on stdout.

{"tokenize": [text], "complete": [{"ids": [int], "max_tokens": int, "top": int}]} ->
{"tokens": [[int]], "completions": [{"ids": [int], "top": [[token id, log-probability of the first step]]}]}
"""

from __future__ import annotations

import json
import sys
import urllib.request
from typing import Any

import xllamacpp


def main() -> None:
    """Answer the tasks on stdin with the model named by the first argument."""
    params = xllamacpp.CommonParams()
    params.model.path = sys.argv[1]
    params.n_ctx = 512
    params.n_parallel = 1
    params.cpuparams.n_threads = 1
    params.warmup = False
    params.flash_attn_type = xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
    params.cache_type_k = xllamacpp.ggml_type.GGML_TYPE_F32
    params.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_F32
    params.endpoint_props = True
    server = xllamacpp.Server(params)
    base = server.listening_address

    def post(route: str, body: dict[str, Any]) -> Any:
        request = urllib.request.Request(f"{base}{route}", json.dumps(body).encode(), {"Content-Type": "application/json"})
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(request, timeout=120) as answer:
            return json.load(answer)

    tasks = json.load(sys.stdin)
    tokens = [post("/tokenize", {"content": t, "add_special": False})["tokens"] for t in tasks["tokenize"]]
    completions = []
    for task in tasks["complete"]:
        body = {
            "prompt": task["ids"],
            "n_predict": task["max_tokens"],
            "temperature": 0,
            "n_probs": task["top"],
        }
        body |= {"post_sampling_probs": False, "cache_prompt": False, "return_tokens": True, "top_k": 1}
        answer = post("/completion", body)
        steps = answer.get("completion_probabilities", [])  # without those that end inside a character
        first = [[entry["id"], entry["logprob"]] for entry in steps[0]["top_logprobs"]] if steps else []
        complete = bool(steps) and bool(answer["tokens"]) and steps[0]["id"] == answer["tokens"][0]
        completions.append({"ids": answer["tokens"], "top": first if complete else []})
    print("ANSWER" + json.dumps({"tokens": tokens, "completions": completions}))


if __name__ == "__main__":
    main()
