"""lm-eval's own truthfulqa_mc1 and hellaswag on local files, through /v1/completions. Prints per task the
log-probabilities of every item's choices and the aggregated metrics; the key is in OPENAI_API_KEY. Without arguments:
prints the folder of lm-eval's tasks."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import lm_eval
from lm_eval.tasks import TaskManager

if len(sys.argv) == 1:
    print(Path(lm_eval.__file__).parent / "tasks")
    sys.exit()
url, model, folder, *tasks = sys.argv[1:]
arguments = {
    "model": model, "base_url": f"{url}/v1/completions", "tokenizer_backend": "remote", "num_concurrent": 2,
    "max_length": 1024, "batch_size": 4, "auth_token": os.environ["OPENAI_API_KEY"],
}  # fmt: skip
found = lm_eval.simple_evaluate(
    model="local-completions", model_args=arguments, tasks=tasks,
    task_manager=TaskManager(include_path=folder, include_defaults=False), log_samples=True, bootstrap_iters=0,
)  # fmt: skip
out = {}
for task in tasks:
    samples = sorted(found["samples"][task], key=lambda sample: sample["doc_id"])
    metrics = {key.partition(",")[0]: value for key, value in found["results"][task].items() if isinstance(value, float)}
    out[task] = {"logprobs": [[resp[0][0] for resp in sample["resps"]] for sample in samples], "metrics": metrics}
print("RESULT " + json.dumps(out))
