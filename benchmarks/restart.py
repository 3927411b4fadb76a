"""How long `chatwright serve` is away after a kill -9 (reliability.md R1), with the labels of a real workspace in it.

    python benchmarks/restart.py [--starts 20] [--labels 2000]
    CHATWRIGHT_DATABASE_URL=postgresql://... python benchmarks/restart.py    # an empty database

From the start of the process until /api/session answers, which is when labels are taken again. The server passes models on
from elsewhere, so no weights are loaded: a local model loads in the background while the desk answers already. `cpu_s` is
what the process computed until then, which other work on the machine does not change; `seconds` is what people wait.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from datetime import date
from pathlib import Path
from typing import Any

from chatwright.feedback.commands import opened
from chatwright.feedback.labels import Submission, submit
from chatwright.feedback.projects import default_project
from chatwright.feedback.tasks import Answer, NewTask, add_task
from chatwright.records import user

RESULTS = Path(__file__).parent / "results" / "restart.json"
DEADLINE_S = 120.0


def fill(folder: str, labels: int) -> None:
    """A workspace with so many labelled rankings."""
    with opened(folder, "", begin=True) as workspace:
        for start in range(0, labels, 200):
            with workspace.session() as session:
                desk = default_project(session).id
                for n in range(start, min(labels, start + 200)):
                    answers = tuple(Answer(text=f"answer {n}-{place} " * 40, model="none") for place in range(4))
                    new = NewTask(project=desk, kind="rank", messages=user(f"question {n}"), answers=answers, overlap=1)
                    task = add_task(session, new, actor="benchmark")
                    given = {"ranking": "B>A=C>D"}
                    submit(session, Submission(uuid=f"label-{n}", task=task, labeller="ann", value=given, shown_order=None))


def start(config: Path, port: int, log: Path) -> tuple[subprocess.Popen[bytes], float, float]:
    """(process, seconds until it answers, its seconds of computing)."""
    began = time.monotonic()
    with log.open("ab") as out:
        command = [sys.executable, "-m", "chatwright", "serve", "--config", str(config)]
        process = subprocess.Popen(command, stdout=out, stderr=out, start_new_session=True)
    while time.monotonic() - began < DEADLINE_S:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/session", timeout=5):
                seconds = time.monotonic() - began
        except (urllib.error.URLError, OSError):
            assert process.poll() is None, log.read_text()
            time.sleep(0.01)
            continue
        fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
        return process, seconds, (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    raise TimeoutError(log.read_text())


def measure(starts: int, labels: int) -> dict[str, Any]:
    """Start, kill, start again."""
    sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
    from label_server import no_models

    with tempfile.TemporaryDirectory() as folder, no_models() as models:
        fill(folder, labels)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        config, log = Path(folder) / "serve.toml", Path(folder) / "log"
        config.write_text(f'model = []\nupstream = ["none={models}"]\nport = {port}\nworkspace = "{folder}"\n')
        seconds, computed = [], []
        for _ in range(starts + 1):
            process, taken, cpu = start(config, port, log)
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            seconds.append(taken)
            computed.append(cpu)
    seconds, computed = sorted(seconds[1:]), sorted(computed[1:])  # the first one makes secrets and reads the disk
    return {
        "database": "postgresql" if os.environ.get("CHATWRIGHT_DATABASE_URL") else "sqlite", "labels": labels,
        "starts": starts, "median_s": round(statistics.median(seconds), 2), "least_s": round(seconds[0], 2),
        "most_s": round(seconds[-1], 2), "median_cpu_s": round(statistics.median(computed), 2),
        "date": date.today().isoformat(), "load": [round(one, 1) for one in os.getloadavg()],
    }  # fmt: skip


def main() -> None:
    """Measure and keep."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--starts", type=int, default=20)
    parser.add_argument("--labels", type=int, default=2000)
    given = parser.parse_args()
    found = measure(given.starts, given.labels)
    print(json.dumps(found))
    kept = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    RESULTS.write_text(json.dumps({**kept, found["database"]: found}, indent=1) + "\n")


if __name__ == "__main__":
    main()
