"""The whole wheel, unattended: people ask a server, five simulated labellers rank the answers, a model is trained on that,
compared blindly with the one that serves, promoted if it is better, and asked again.

    python benchmarks/flywheel.py [--prompts FILE ...] [--work FOLDER]

Everything goes through the product: `chatwright serve` in a process of its own, accounts, API keys with consent, the intake,
the queue, merging, jobs, the registry, promotion by hot swap. The labels are SIMULATED (rubric general-en, a fifth of the
strict pairs turned round, ties), and so is the verdict; nothing here says anything about people. All five labellers rank
every question, and their orders are merged.
Target: <= 40 minutes.
Writes benchmarks/results/flywheel.json. Prompt files: JSON lines of texts, of {"prompt"}, or of {"turns"}, of which the
first is asked.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx

from chatwright.feedback.consent import split_of, subject_key

RESULTS = Path(__file__).parent / "results"
PROMPTS = Path(__file__).resolve().parents[2] / "shared" / "data" / "prompts"
FILES = ("oasst_prompts_en.jsonl", "mt_bench_en.jsonl")
HELD_OUT = 0.1  # IntakeLimits.held_out_share
PASSWORD = "correct horse battery"
HELD_OUT_PROMPTS = 5  # every so many-th question is asked by somebody of the held-out part
STAGES = {"frozen_layers": 10, "reward_epochs": 2, "max_new_tokens": 96, "eval_max_new_tokens": 96, "ppo_steps": 12}
ASKED = ("Why do my tires always go flat in the winter?", "How do I ask my boss for a day off?", "What is a comet?")


class Server:
    """A running `chatwright serve` and its first administrator."""

    def __init__(self, work: Path, model: str, log: Path, job_threads: int) -> None:
        self.workspace = work / "workspace"
        command = [sys.executable, "-m", "chatwright", "serve", "--model", f"chat={model}", "--port", "0"]
        command += ["--workspace", str(self.workspace), "--job-threads", str(job_threads)]
        with log.open("ab") as errors:
            self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True)
        self.admin: httpx.Client | None = None
        try:
            self._begin()
        except BaseException:
            self.stop()
            raise

    def _begin(self) -> None:
        assert self.process.stdout is not None
        self.url, token = "", ""
        for line in self.process.stdout:
            if found := re.search(r"chat (http://\S+)", line):
                self.url = found.group(1)
            if found := re.search(r"/join#(\S+)", line):
                token = found.group(1)
            if line.startswith("API key"):
                break
        self.admin = admin = self.sign_up(token, "root")
        wait(lambda: done(admin.get("/api/desk/models"))["serving"], 300, "the model loads")

    def sign_up(self, token: str, name: str) -> httpx.Client:
        """A browser in which a link was redeemed."""
        client = httpx.Client(base_url=self.url, timeout=600)
        answer = client.post("/api/links/redeem", json={"token": token, "name": name, "password": PASSWORD})
        client.headers["x-csrf-token"] = done(answer)["csrf"]
        return client

    def stop(self) -> None:
        """SIGTERM."""
        if self.admin is not None:
            self.admin.close()
        self.process.terminate()
        assert self.process.stdout is not None
        self.process.stdout.close()
        try:
            self.process.wait(60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def done(answer: httpx.Response) -> Any:
    """The JSON of an answer that must be a success."""
    if answer.status_code >= 300:
        raise SystemExit(f"{answer.request.method} {answer.request.url.path}: {answer.status_code} {answer.text[:500]}")
    return answer.json() if answer.content else None


def wait(condition: Callable[[], Any], timeout_s: float, what: str) -> Any:
    """What `condition` gives once it is true."""
    until = time.monotonic() + timeout_s
    while not (found := condition()):
        if time.monotonic() > until:
            raise SystemExit(f"{what}: not within {timeout_s:.0f} s")
        time.sleep(0.5)
    return found


def read_prompts(paths: Sequence[str], most: int) -> list[str]:
    """Texts of at most 400 characters, each once."""
    found: dict[str, None] = {}
    for path in paths:
        for line in Path(path).read_text(encoding="utf-8").splitlines():
            row = json.loads(line)
            text = row if isinstance(row, str) else row.get("prompt") or row["turns"][0]
            if 0 < len(text.strip()) <= 400:
                found[text.strip()] = None
    return list(found)[: most or None]


def people(server: Server, number: int) -> dict[str, list[str]]:
    """API keys of so many people (or more, until three are in the held-out part), each with consent, by their split."""
    secret, keys = subject_key(server.workspace), dict[str, list[str]](train=[], held_out=[])
    while len(keys["train"]) + len(keys["held_out"]) < number or len(keys["held_out"]) < 3:
        link = done(server.admin.post("/api/invites", json={"role": "member"}))["url"]
        name = f"person-{len(keys['train'])}-{len(keys['held_out'])}"
        with closing(server.sign_up(link.partition("#")[2], name)) as browser:
            wish = {"name": "k", "scopes": ["inference"], "training_consent": True}
            key = done(browser.post("/api/keys", json=wish))["key"]
            keys[split_of(secret, done(browser.get("/api/session"))["user_id"], HELD_OUT)].append(key)
    return keys


def key_for(keys: dict[str, list[str]], place: int) -> str:
    """Who asks question number `place`: one in HELD_OUT_PROMPTS comes from the held-out part, few as these people are."""
    group, number = divmod(place, HELD_OUT_PROMPTS)
    some = keys["held_out"] if number == 0 else keys["train"]
    return some[group % len(some)] if number == 0 else some[(place - group - 1) % len(some)]


def ask(server: Server, key: str, prompt: str, *, n: int, max_tokens: int, temperature: float, seed: int = 1) -> list[str]:
    """A chat completion."""
    body = {"model": "chat", "messages": [{"role": "user", "content": prompt}], "n": n, "max_tokens": max_tokens,
            "temperature": temperature, "seed": seed}  # fmt: skip
    answer = done(httpx.post(f"{server.url}/v1/chat/completions", json=body, timeout=600,
                             headers={"authorization": f"Bearer {key}"}))  # fmt: skip
    return [choice["message"]["content"] for choice in answer["choices"]]


def run_job(server: Server, wish: dict[str, Any], timeout_s: float) -> dict[str, Any]:
    """A job from its beginning to its end, its newest log line on the terminal; SystemExit when it fails."""
    job = done(server.admin.post("/api/desk/jobs", json=wish))
    said = ""

    def ended() -> dict[str, Any] | None:
        nonlocal said
        row: dict[str, Any] = done(server.admin.get(f"/api/desk/jobs/{job['id']}"))
        if (line := row["progress"]["line"]) and line != said:
            print(f"  {row['progress']['stage']}: {line}", flush=True)
            said = line
        return row if row["state"] in ("done", "failed", "cancelled") else None

    row: dict[str, Any] = wait(ended, timeout_s, f"job {wish['kind']}")
    if row["state"] != "done":
        raise SystemExit(f"job {wish['kind']}: {row['state']}: {row['message']}")
    return row


class Clock:
    """Seconds per stage."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    def stage(self, name: str, work: Callable[[], Any]) -> Any:
        """Run and time it."""
        print(name, flush=True)
        started = time.monotonic()
        result = work()
        self.seconds[name] = round(time.monotonic() - started, 1)
        return result


def turn(args: argparse.Namespace, server: Server) -> dict[str, Any]:
    """Once round."""
    clock, prompts = Clock(), read_prompts(args.prompts, args.most)
    admin_key = done(server.admin.post("/api/keys", json={"name": "asker", "scopes": ["inference"]}))["key"]

    def chat() -> dict[str, str]:
        return {q: ask(server, admin_key, q, n=1, max_tokens=args.max_tokens, temperature=0.0)[0] for q in ASKED}

    before = clock.stage("ask before", chat)
    keys = clock.stage("people sign up", lambda: people(server, args.people))
    settings = {"overlap": {"rank": args.labellers}, "adjudicate_below": 0.0}
    project = done(server.admin.post("/api/desk/projects", json={"name": "Questions", "settings": settings}))["id"]

    def talk() -> None:
        with ThreadPoolExecutor(8) as pool:
            calls = [pool.submit(ask, server, key_for(keys, place), prompt, n=args.answers, max_tokens=args.max_tokens,
                                 temperature=1.0, seed=args.seed + 1) for place, prompt in enumerate(prompts)]  # fmt: skip
            for call in calls:
                call.result()

    clock.stage("people ask, answers are taken in", talk)
    # The questions before were received too, and not taken: their key gives no consent.
    funnel = wait(lambda: drained(server, len(ASKED) + len(prompts)), 120, "the intake ends")

    def label() -> dict[str, Any]:
        for seed in range(1, args.labellers + 1):
            wish = {"labeller": "simulated", "noise": args.noise, "seed": args.seed * args.labellers + seed}
            run_job(server, {"kind": "label", "label": wish}, 900)
        return done(server.admin.post("/api/desk/merge", json={"project": project}))

    merged = clock.stage("simulated labellers rank, their orders are merged", label)
    stages = json.loads(args.stages)
    wish = {"judge": "general-en", "rankings": "merged", "seed": args.seed, "ignore_gate": args.ignore_gate}
    wish["stages"] = stages
    job = clock.stage("retrain", lambda: run_job(server, {"kind": "retrain", "retrain": wish}, 3000))
    model = next(m for m in done(server.admin.get("/api/desk/models"))["models"] if m["id"] == job["result"]["model"])
    refusal = model["refusals"]["chat"]
    if not refusal:
        clock.stage("promote", lambda: done(server.admin.post(f"/api/desk/models/{model['id']}/promote", json={})))
    after = clock.stage("ask after", chat)
    shaped = done(server.admin.get(f"/api/desk/lineage/{model['id']}"))
    return {
        "prompts": len(prompts), "people": {split: len(some) for split, some in keys.items()}, "tasks": funnel["prompts"],
        "funnel": funnel, "merged": merged, "verdicts": model["verdicts"],
        "report_card": model["report_card"], "promoted": not refusal, "refusal": refusal, "before": before, "after": after,
        "labels": shaped["num_labels"], "by_labeller": {s["labeller"]: s["labels"] for s in shaped["shares"]},
        "seconds_by_stage": clock.seconds, "seconds": round(sum(clock.seconds.values()), 1),
    }  # fmt: skip


def drained(server: Server, number: int) -> dict[str, Any] | None:
    """The intake's counts once every request has gone through it."""
    funnel: dict[str, Any] = done(server.admin.get("/api/desk/intake"))
    received = next((step["count"] for step in funnel["steps"] if step["step"] == "received"), 0)
    return funnel if received >= number and not funnel["waiting"] else None


def main(argv: Sequence[str] | None = None) -> dict[str, Any]:
    """Run, print, keep."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prompts", nargs="+", default=[str(PROMPTS / name) for name in FILES])
    parser.add_argument("--work", type=Path, default=Path("runs/flywheel"))
    parser.add_argument("--model", default="smollm2-135m-instruct")
    parser.add_argument("--most", type=int, default=0, help="prompts; 0: all")
    parser.add_argument("--people", type=int, default=30)
    parser.add_argument("--answers", type=int, default=4)
    parser.add_argument("--labellers", type=int, default=5)
    parser.add_argument("--noise", type=float, default=0.2)
    parser.add_argument("--max-tokens", type=int, default=96, help="of answers that are ranked")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--ignore-gate", action="store_true")
    parser.add_argument("--job-threads", type=int, default=2, help="of training; nobody chats meanwhile")
    parser.add_argument("--stages", default=json.dumps(STAGES), help="JSON: dials of retraining")
    parser.add_argument("--out", type=Path, default=RESULTS / "flywheel.json")
    args = parser.parse_args(argv)
    args.work.mkdir(parents=True, exist_ok=True)
    os.chmod(args.work, 0o700)
    server = Server(args.work, args.model, args.work / "serve.log", args.job_threads)
    try:
        result = turn(args, server)
    finally:
        server.stop()
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    for verdict in result["verdicts"]:
        interval = f"{verdict['rate']:.3f} [{verdict['low']:.3f}, {verdict['high']:.3f}]"
        print(f"win rate over the serving model {interval}, judge: {verdict['judge']} ({verdict['judge_kind']})")
    print(f"{result['seconds'] / 60:.1f} min; {'promoted' if result['promoted'] else 'not promoted: ' + result['refusal']}")
    return result


if __name__ == "__main__":
    main()
