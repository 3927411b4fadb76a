"""The server under load (reliability.md L1-L5), over real HTTP on this machine; its start, and a job beside it.

    python benchmarks/load.py                                                   # with a soak of 3 minutes, about 15 minutes
    python benchmarks/load.py --parts L5 --minutes 60                           # the whole soak
    python benchmarks/load.py --parts L5 --minutes 5 --prefix-mb 32 --out FILE  # a short one whose prefix cache fills soon

L1: 64 streams at once, none dropped. L2: four times as many requests as rows and queue hold: those beyond get 429 with
Retry-After at once. L3: 200 clients go away in the middle, and their rows are free again. L4: 500 connections at once that
stop in the middle of a request (nothing sent, half of the headers, half of the body) are closed, while a whole request
beside them is answered. L5: hours of mixed streams, a third of which leave early; resident memory is sampled every second,
and its slope is that of the second half. Memory of the prefix cache, which grows to its limit on purpose, is told beside it.

start: seconds from the start of the process until /ready says 200, the model on disk: in a new workspace and in one that is
there. job: what one client sees of its answers while a job fine-tunes the same model, run as the server runs its jobs (one
worker, its limits), beside what it sees while that job is stopped; the two alternate.

Times are seen from the client, on the machine that also runs the model: an upper bound. For L3 /metrics is read until no
answer runs, so they hold a request of their own.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import random
import re
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path
from typing import Any

from http_streams import (
    KEY,
    Stream,
    body_of,
    chatwright_server,
    events,
    percentile,
    process,
    prompt_of,
    read,
    wait_until_ready,
)

from chatwright.feedback import jobs
from chatwright.feedback.worker import Worker, flags, job_folder, tail
from chatwright.workspace.database import Workspace
from chatwright.workspace.migrations import prepare

RESULTS = Path(__file__).parent / "results" / "load.json"
QUEUE = 256  # what a local engine lets wait (`Scheduler.max_waiting`)


async def get(port: int, path: str) -> str:
    """A GET without a client library."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n".encode())
    text = (await reader.read()).decode()
    writer.close()
    return text


async def figure(port: int, *names: str) -> float:
    """The sum of some of the engine's figures, of one moment."""
    text = await get(port, "/metrics")
    found = [re.search(rf"^chatwright_engine_{name}{{.*}} (\S+)$", text, re.MULTILINE) for name in names]
    assert all(found), f"/metrics lacks one of {names}"
    return sum(float(one[1]) for one in found if one)


async def idle(port: int) -> None:
    """Until nothing runs or waits."""
    while await figure(port, "running", "waiting"):
        await asyncio.sleep(0.005)


async def many_streams(port: int, model: str, count: int) -> dict[str, Any]:
    """L1."""
    got = await asyncio.gather(*(read(port, body_of(model, prompt_of(n), 32), 600) for n in range(count)))
    dropped = sum(stream.status != 200 or not stream.done for stream in got)
    first = [stream.first_s for stream in got if stream.first_s]
    return {"streams": count, "dropped": dropped, "first_token_s_median": round(statistics.median(first), 2)}


async def overload(port: int, model: str, rows: int) -> dict[str, Any]:
    """L2: the room is filled, then three times as much again comes, 50 a second; at last the first ones leave."""
    room = rows + QUEUE
    filling = [asyncio.create_task(read(port, body_of(model, prompt_of(n), 2000), 3600)) for n in range(room)]
    while await figure(port, "running", "waiting") < room:
        await asyncio.sleep(0.2)
    extra = []
    for n in range(3 * room):
        extra.append(asyncio.create_task(read(port, body_of(model, prompt_of(room + n), 4), 60)))
        await asyncio.sleep(0.02)
    got = await asyncio.gather(*extra)
    refused = [stream for stream in got if stream.status == 429 and stream.headers.get("retry-after", "").isdigit()]
    times = [stream.total_s for stream in refused]
    for task in filling:
        task.cancel()
    await asyncio.gather(*filling, return_exceptions=True)
    await idle(port)
    return {
        "room": room, "asked": 4 * room, "refused_with_retry_after": len(refused),
        "neither_refused_nor_answered": sum(stream.status not in (200, 429) for stream in got),
        "refused_ms_median": round(1000 * statistics.median(times), 1) if times else None,
        "refused_ms_p99": round(1000 * percentile(times, 0.99), 1) if times else None,
    }  # fmt: skip


async def disconnects(port: int, model: str, count: int) -> dict[str, Any]:
    """L3: one after another, each in the middle of its text."""
    times = []
    for n in range(count):
        stream = events(port, body_of(model, prompt_of(n), 2000), Stream())
        async with contextlib.aclosing(stream):  # type: ignore[type-var]
            async for _ in stream:
                break
            began = time.perf_counter()
        await idle(port)
        times.append(time.perf_counter() - began)
    ms = [1000 * seconds for seconds in times]
    return {
        "disconnects": count,
        "freed_ms_median": round(statistics.median(ms), 1),
        "freed_ms_p99": round(percentile(ms, 0.99), 1),
    }


HALVES = {
    "nothing": b"",
    "half_of_the_headers": b"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Ty",
    "half_of_the_body": b"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer " + KEY.encode()
    + b"\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n{\"model\": ",
}  # fmt: skip


async def half_requests(port: int, model: str, count: int) -> dict[str, Any]:
    """L4: all at once; seconds until the server has closed each, and a whole request asked meanwhile."""
    seconds: dict[str, list[float]] = {name: [] for name in HALVES}

    async def half(name: str) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(HALVES[name])
        began = time.perf_counter()
        with contextlib.suppress(ConnectionError):
            await asyncio.wait_for(reader.read(), 60)
        seconds[name].append(time.perf_counter() - began)
        writer.close()

    halves = [asyncio.create_task(half(list(HALVES)[n % len(HALVES)])) for n in range(count)]
    await asyncio.sleep(1)
    whole = await read(port, body_of(model, prompt_of(0), 8))
    waiting = sum(not one.done() for one in halves)
    await asyncio.gather(*halves)
    return {
        "half_requests": count, "waiting_when_a_whole_one_was_answered": waiting, "whole_one_status": whole.status,
        "closed_s_most": {name: round(max(times), 2) for name, times in seconds.items()},
    }  # fmt: skip


def resident_mb(pid: int) -> float:
    """Resident memory of a process, MB."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


async def soak(port: int, pid: int, model: str, minutes: float) -> dict[str, Any]:
    """L5: 8 clients, answers of 8 to 96 tokens, a third left early."""
    ends_at, drawn = time.monotonic() + 60 * minutes, random.Random(0)
    served = left = failed = 0

    async def client() -> None:
        nonlocal served, left, failed
        while time.monotonic() < ends_at:
            out = Stream()
            prompt = prompt_of(drawn.randrange(10**9), drawn.randrange(5, 120))
            stream = events(port, body_of(model, prompt, drawn.randrange(8, 97)), out)
            leaves_at, seen = drawn.choice((5, 10**9, 10**9)), 0
            async with contextlib.aclosing(stream):  # type: ignore[type-var]
                async for _ in stream:
                    seen += 1
                    if seen >= leaves_at:
                        break
            served, left, failed = served + out.done, left + (seen >= leaves_at), failed + (out.status != 200)

    clients = [asyncio.create_task(client()) for _ in range(8)]
    samples: list[tuple[float, float]] = []
    while time.monotonic() < ends_at:
        samples.append((time.monotonic() / 60, resident_mb(pid)))
        await asyncio.sleep(1)
    prefix_mb = await figure(port, "prefix_bytes") / 2**20
    await asyncio.gather(*clients)
    later = samples[len(samples) // 2 :]
    slope = statistics.linear_regression([x for x, _ in later], [y for _, y in later]).slope
    return {
        "minutes": minutes, "served": served, "left": left, "failed": failed, "resident_mb": round(samples[-1][1]),
        "mb_per_minute_second_half": round(slope, 2), "prefix_cache_mb": round(prefix_mb),
    }  # fmt: skip


# ---- start -------------------------------------------------------------------------------------------------


def starts(model: str, count: int) -> dict[str, Any]:
    """Seconds until the server takes requests, and those it computed."""
    found: list[tuple[float, float]] = []
    with tempfile.TemporaryDirectory() as workspace:
        command = [sys.executable, "-m", "chatwright", "serve", "--model", model, "--port", "0", "--workspace", workspace]
        for _ in range(count + 1):
            began = time.monotonic()
            with process(command, r"http://127\.0\.0\.1:(\d+)", CHATWRIGHT_API_KEY=KEY) as (running, port):
                wait_until_ready(port, pause_s=0.02)
                found.append((time.monotonic() - began, computed_s(running.pid)))
    seconds = [one for one, _ in found[1:]]
    return {
        "new_workspace_s": round(found[0][0], 2), "starts": count, "ready_s_median": round(statistics.median(seconds), 2),
        "ready_s_most": round(max(seconds), 2), "computed_s_median": round(statistics.median(c for _, c in found[1:]), 2),
    }  # fmt: skip


def computed_s(pid: int) -> float:
    """Processor seconds of a process."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


# ---- beside a job ------------------------------------------------------------------------------------------


@contextlib.contextmanager
def training(model: str, folder: Path) -> Iterator[int]:
    """A worker that fine-tunes `model`; gives the process once its first step is done."""
    data = folder / "demonstrations.jsonl"
    rows = [{"prompt": prompt_of(n, 40), "completion": prompt_of(-n - 1, 120)} for n in range(256)]
    data.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    settings = {"model": model, "data": [str(data)], "out": str(folder / "run"), "train": {"epochs": 100}}
    with Workspace.open(folder / "workspace") as workspace:
        prepare(workspace)
        line = [sys.executable, "-m", "chatwright", "sft", *flags(settings)]
        worker = Worker(workspace, commands={"sft": lambda *_: line}, grace_s=60)
        with workspace.session() as session:
            log = job_folder(workspace, jobs.enqueue(session, "sft", {}, "benchmark").id) / "log.txt"
        worker.start()
        try:
            ends_at, metrics = time.monotonic() + 300, folder / "run" / "metrics.jsonl"
            while not metrics.is_file() or not metrics.stat().st_size:
                if time.monotonic() > ends_at:
                    raise RuntimeError(f"the job did not begin:\n{tail(log, 2000)}")
                time.sleep(0.5)
            (pid,) = (int(one) for one in _children() if "sft" in Path(f"/proc/{one}/cmdline").read_text().split("\0"))
            yield pid
        finally:
            worker.stop()


def _children() -> list[str]:
    return [one for path in Path("/proc/self/task").glob("*/children") for one in path.read_text().split()]


async def talk(port: int, model: str, seconds: float, first_prompt: int) -> tuple[list[float], list[float]]:
    """One client, one answer after another: milliseconds until each first text, and between texts."""
    firsts, gaps, ends_at = [], [], time.monotonic() + seconds
    while time.monotonic() < ends_at:
        first_prompt += 1
        out, at = Stream(), [time.perf_counter()]
        async for _ in events(port, body_of(model, prompt_of(first_prompt), 48), out):
            at.append(time.perf_counter())
        assert out.status == 200 and out.done, out
        firsts.append(1000 * out.first_s)
        gaps += [1000 * (after - before) for before, after in zip(at[1:-2], at[2:-1], strict=True)]
    return firsts, gaps


def beside_a_job(port: int, model: str, turns: int, seconds: float) -> dict[str, Any]:
    """In turns: the job is stopped, the job goes on."""
    got: dict[str, tuple[list[float], list[float]]] = {"alone": ([], []), "beside_a_job": ([], [])}
    busy, prompt = 0.0, 10**6
    with tempfile.TemporaryDirectory() as folder, training(model, Path(folder)) as pid:
        for turn in range(2 * turns):
            name = ("alone", "beside_a_job")[turn % 2]
            os.kill(pid, signal.SIGCONT if turn % 2 else signal.SIGSTOP)
            before, prompt = computed_s(pid), prompt + 10**6
            for kept, new in zip(got[name], asyncio.run(talk(port, model, seconds, prompt)), strict=True):
                kept += new
            busy += computed_s(pid) - before if turn % 2 else 0.0
        os.kill(pid, signal.SIGCONT)
    found: dict[str, Any] = {
        name: {
            "answers": len(firsts),
            **{f"first_token_ms_{at}": round(percentile(firsts, share), 1) for at, share in (("p50", 0.5), ("p99", 0.99))},
            **{f"between_texts_ms_{at}": round(percentile(gaps, share), 1) for at, share in (("p50", 0.5), ("p99", 0.99))},
        }
        for name, (firsts, gaps) in got.items()
    }
    return found | {"job_processor_share": round(busy / (turns * seconds), 2)}


def main() -> None:
    """Start a server, measure, print, write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="smollm2-135m-instruct")
    parser.add_argument("--rows", type=int, default=32, help="the server's --max-batch")
    parser.add_argument("--disconnects", type=int, default=200)
    parser.add_argument("--halves", type=int, default=500, help="half requests")
    parser.add_argument("--minutes", type=float, default=3.0, help="of the soak")
    parser.add_argument("--prefix-mb", type=int, default=512, help="the server's --prefix-mb")
    parser.add_argument("--starts", type=int, default=5)
    parser.add_argument("--turns", type=int, default=3, help="with and without the job")
    parser.add_argument("--turn-seconds", type=float, default=20.0)
    parser.add_argument(
        "--parts", nargs="*", default=["start", "L1", "L2", "L3", "L4", "L5", "job"], help="measured in this order"
    )
    parser.add_argument("--out", type=Path, default=RESULTS)
    args = parser.parse_args()
    known: dict[str, Any] = json.loads(args.out.read_text(encoding="utf-8")) if args.out.is_file() else {}
    result = known | {"date": date.today().isoformat(), "model": args.model, "load_average": round(os.getloadavg()[0], 1)}

    def note(part: str, found: dict[str, Any]) -> None:
        result[part] = found
        print(part, json.dumps(found), flush=True)
        args.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")

    if "start" in args.parts:
        note("start", starts(args.model, args.starts))
    options = ("--max-batch", str(args.rows), "--prefix-mb", str(args.prefix_mb))
    with chatwright_server(args.model, *options) as (running, port):
        measures: dict[str, Callable[[], dict[str, Any]]] = {
            "L1": lambda: asyncio.run(many_streams(port, args.model, 64)),
            "L2": lambda: asyncio.run(overload(port, args.model, args.rows)),
            "L3": lambda: asyncio.run(disconnects(port, args.model, args.disconnects)),
            "L4": lambda: asyncio.run(half_requests(port, args.model, args.halves)),
            "L5": lambda: asyncio.run(soak(port, running.pid, args.model, args.minutes)),
            "job": lambda: beside_a_job(port, args.model, args.turns, args.turn_seconds),
        }
        for part in [part for part in args.parts if part != "start"]:
            note(part, measures[part]())


if __name__ == "__main__":
    main()
