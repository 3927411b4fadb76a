"""The server under load (reliability.md L1, L2, L3, L5), over real HTTP on this machine.

    python benchmarks/load.py                  # with a soak of 2 minutes, about 10 minutes
    python benchmarks/load.py --minutes 60     # the whole soak

L1: 64 streams at once, none dropped. L2: four times as many requests as rows and queue hold: those beyond get 429 with
Retry-After at once. L3: 200 clients go away in the middle, and their rows are free again. L5: hours of mixed streams, a
third of which leave early; resident memory is sampled every second, and its slope is that of the second half.

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
import statistics
import time
from datetime import date
from pathlib import Path
from typing import Any

from http_streams import Stream, body_of, chatwright_server, events, percentile, prompt_of, read

RESULTS = Path(__file__).parent / "results" / "load.json"
QUEUE = 256  # what a local engine lets wait (`Scheduler.max_waiting`)


async def get(port: int, path: str) -> str:
    """A GET without a client library."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n".encode())
    text = (await reader.read()).decode()
    writer.close()
    return text


async def figure(port: int, name: str) -> float:
    """One of the engine's figures."""
    found = re.search(rf"^chatwright_engine_{name}{{.*}} (\S+)$", await get(port, "/metrics"), re.MULTILINE)
    assert found is not None
    return float(found[1])


async def idle(port: int) -> None:
    """Until nothing runs or waits."""
    while await figure(port, "running") + await figure(port, "waiting"):
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
    while await figure(port, "running") + await figure(port, "waiting") < room:
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
    await asyncio.gather(*clients)
    later = samples[len(samples) // 2 :]
    slope = statistics.linear_regression([x for x, _ in later], [y for _, y in later]).slope
    return {
        "minutes": minutes, "served": served, "left": left, "failed": failed, "resident_mb": round(samples[-1][1]),
        "mb_per_minute_second_half": round(slope, 2),
    }  # fmt: skip


def main() -> None:
    """Start a server, measure, print, write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="smollm2-135m-instruct")
    parser.add_argument("--rows", type=int, default=32, help="the server's --max-batch")
    parser.add_argument("--disconnects", type=int, default=200)
    parser.add_argument("--minutes", type=float, default=2.0, help="of the soak")
    parser.add_argument("--parts", nargs="*", default=["L1", "L2", "L3", "L5"])
    parser.add_argument("--out", type=Path, default=RESULTS)
    args = parser.parse_args()
    result: dict[str, Any] = {"date": date.today().isoformat(), "model": args.model, "load_average": os.getloadavg()[0]}
    with chatwright_server(args.model, "--max-batch", str(args.rows)) as (running, port):
        for part in args.parts:
            result[part] = asyncio.run(
                {
                    "L1": lambda: many_streams(port, args.model, 64),
                    "L2": lambda: overload(port, args.model, args.rows),
                    "L3": lambda: disconnects(port, args.model, args.disconnects),
                    "L5": lambda: soak(port, running.pid, args.model, args.minutes),
                }[part]()
            )
            print(part, json.dumps(result[part]), flush=True)
    args.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
