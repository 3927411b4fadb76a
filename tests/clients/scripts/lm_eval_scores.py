"""lm-eval on a local task through /v1/completions, without any hub: URL, model, task folder. Prints {request: [sum of
log-probabilities, greedy]}; the key is in OPENAI_API_KEY."""

from __future__ import annotations

import json
import os
import sys

import lm_eval
from lm_eval.tasks import TaskManager

url, model, folder = sys.argv[1:]
arguments = {
    "model": model, "base_url": f"{url}/v1/completions", "tokenizer_backend": "remote", "num_concurrent": 2,
    "max_length": 1024, "batch_size": 3, "auth_token": os.environ["OPENAI_API_KEY"],
}  # fmt: skip
found = lm_eval.simple_evaluate(
    model="local-completions", model_args=arguments, tasks=["local_choice", "local_text"],
    task_manager=TaskManager(include_path=folder, include_defaults=False), log_samples=True, bootstrap_iters=0,
)  # fmt: skip
rows = []
for sample in found["samples"]["local_choice"]:
    for request, response in zip(sample["arguments"], sample["resps"], strict=True):
        rows.append([*request, *response[0]])
texts = [[sample["doc"]["text"], sample["resps"][0][0]] for sample in found["samples"]["local_text"]]
print("RESULT " + json.dumps({"choices": rows, "texts": texts, "version": lm_eval.__version__}))
