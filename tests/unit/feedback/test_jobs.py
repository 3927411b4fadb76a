"""Jobs are taken once, and what they do happens once, whoever is killed when (R7)."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from random import Random

import pytest
from sqlalchemy import select

import job_steps
from chatwright.errors import UsageError
from chatwright.feedback import jobs
from chatwright.feedback.jobs import FencedOff, Lease
from chatwright.feedback.jobs_tables import JobRow
from chatwright.feedback.worker import COMMANDS, LANES, LOG_FILE, Limits, Worker, flags, job_folder, lane_of
from chatwright.serve.auth_tables import AuditEvent
from chatwright.workspace.database import Workspace
from workspaces import KINDS, workspace_of

pytestmark = pytest.mark.timeout(300)  # processes that are started again and again


def state_of(workspace: Workspace, job: str) -> JobRow:
    with workspace.reading() as session:
        found = session.get_one(JobRow, job)
    return found


def enqueue(workspace: Workspace, kind: str = "steps", **settings: object) -> str:
    with workspace.session() as session:
        return jobs.enqueue(session, kind, settings, "ada").id


@pytest.mark.parametrize("kind", KINDS)
def test_a_job_is_taken_by_one_worker_at_a_time(kind: str, tmp_path: Path) -> None:
    with workspace_of(kind, tmp_path) as workspace:
        made = {enqueue(workspace) for _ in range(8)}
        taken: list[str] = []

        def worker() -> None:
            while True:
                with workspace.session() as session:
                    lease = jobs.take(session, "w", ("steps",))
                if lease is None:
                    return
                taken.append(lease.job)

        threads = [threading.Thread(target=worker) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert Counter(taken) == Counter(made)


@pytest.mark.parametrize("kind", KINDS)
def test_a_worker_that_was_silent_for_too_long_is_fenced_off(kind: str, tmp_path: Path) -> None:
    with workspace_of(kind, tmp_path) as workspace:
        job = enqueue(workspace)
        with workspace.session() as session:
            old = jobs.take(session, "old", ("steps",), lease_s=-1)
        with workspace.session() as session:
            new = jobs.take(session, "new", ("steps",))
        assert old is not None and new is not None and new.job == old.job and new.fence > old.fence
        for refused in (
            lambda s: jobs.renew(s, old), lambda s: jobs.effect(s, old, "x"), lambda s: jobs.finish(s, old, "done"),
            lambda s: jobs.report(s, old, stage="x"), lambda s: jobs.give_back(s, old),
        ):  # fmt: skip
            with pytest.raises(FencedOff), workspace.session() as session:
                refused(session)
        with workspace.session() as session:
            assert jobs.effect(session, new, "x") and not jobs.effect(session, new, "x")
            jobs.finish(session, new, "done", model="m")
        with pytest.raises(FencedOff), workspace.session() as session:
            jobs.effect(session, new, "late")
        assert (state_of(workspace, job).state, state_of(workspace, job).result) == ("done", {"model": "m"})


def test_an_effect_that_failed_may_be_tried_again(tmp_path: Path) -> None:
    with workspace_of("sqlite", tmp_path) as workspace:
        enqueue(workspace)
        with workspace.session() as session:
            lease = jobs.take(session, "w", ("steps",))
        assert lease is not None
        with pytest.raises(RuntimeError), workspace.session() as session:
            assert jobs.effect(session, lease, "x")
            raise RuntimeError
        with workspace.session() as session:
            assert jobs.effect(session, lease, "x")


def test_a_job_whose_workers_always_die_is_given_up(tmp_path: Path) -> None:
    with workspace_of("sqlite", tmp_path) as workspace:
        job = enqueue(workspace)
        for attempt in range(jobs.MAX_ATTEMPTS):
            with workspace.session() as session:
                lease = jobs.take(session, "w", ("steps",), lease_s=-1)
            assert lease is not None and lease.attempt == attempt + 1
        with workspace.session() as session:
            assert jobs.take(session, "w", ("steps",)) is None
        assert state_of(workspace, job).state == "failed" and "died 5 times" in state_of(workspace, job).message


def test_waiting_and_ended_jobs_are_cancelled_without_a_worker(tmp_path: Path) -> None:
    with workspace_of("sqlite", tmp_path) as workspace:
        job = enqueue(workspace)
        with workspace.session() as session:
            assert jobs.cancel(session, job).state == "cancelled"
        with workspace.session() as session:
            assert jobs.take(session, "w", ("steps",)) is None
            assert jobs.cancel(session, job).state == "cancelled"
        with pytest.raises(UsageError, match="no such job"), workspace.session() as session:
            jobs.cancel(session, "job_x")


def steps_worker(workspace: Workspace, number: int) -> Worker:
    line = [sys.executable, job_steps.__file__, str(workspace.folder), str(number)]
    commands = {"steps": lambda workspace, settings: line}
    return Worker(workspace, commands=commands, limits=Limits(memory_bytes=0), poll_s=0.05, grace_s=10)


@pytest.fixture(autouse=True)
def _paths(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(p for p in sys.path if p))


def test_a_worker_runs_a_job_with_log_and_progress(tmp_path: Path) -> None:
    with workspace_of("sqlite", tmp_path) as workspace:
        job = enqueue(workspace)
        steps_worker(workspace, 3).run(until_empty=True)
        row = state_of(workspace, job)
        assert (row.state, row.progress["of"]) == ("done", 3), row.message
        assert (job_folder(workspace, job) / LOG_FILE).read_text().splitlines() == ["step 0", "step 1", "step 2"]


def test_a_command_that_fails_fails_the_job_with_its_last_words(tmp_path: Path) -> None:
    with workspace_of("sqlite", tmp_path) as workspace:
        job = enqueue(workspace)
        line = [sys.executable, "-c", "import os, sys; print(os.nice(0)); sys.exit('no such model')"]
        commands = {"steps": lambda workspace, settings: line}
        Worker(workspace, commands=commands, limits=Limits(nice=5, memory_bytes=0)).run(until_empty=True)
        assert (state_of(workspace, job).state, state_of(workspace, job).message) == ("failed", "no such model")
        said = (job_folder(workspace, job) / LOG_FILE).read_text()
        assert int(said.split()[0]) >= min(19, os.nice(0) + 5)


def test_memory_is_limited(tmp_path: Path) -> None:
    with workspace_of("sqlite", tmp_path) as workspace:
        job = enqueue(workspace)
        commands = {"steps": lambda workspace, settings: [sys.executable, "-c", "bytearray(2**29)"]}
        Worker(workspace, commands=commands, limits=Limits(memory_bytes=2**28)).run(until_empty=True)
        assert (state_of(workspace, job).state, state_of(workspace, job).message) == ("failed", "MemoryError")


def wait_for(condition: object, timeout_s: float = 60) -> None:
    until = time.monotonic() + timeout_s
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < until, "it did not happen"
        time.sleep(0.02)


def test_labelling_does_not_wait_for_training(tmp_path: Path) -> None:
    """The training ends only when the labelling has: with one lane it would never."""
    with workspace_of("sqlite", tmp_path) as workspace:
        script = "import os, pathlib, sys, time\nout, awaited = map(pathlib.Path, sys.argv[1:])\n"
        script += "until = time.monotonic() + 60\n"
        script += "while awaited.name and not awaited.exists() and time.monotonic() < until: time.sleep(.02)\n"
        script += "assert not awaited.name or awaited.exists()\nout.write_text(os.environ['OMP_NUM_THREADS'])"
        trained, labelled = tmp_path / "trained", tmp_path / "labelled"
        commands = {
            "retrain": lambda workspace, settings: [sys.executable, "-c", script, str(trained), str(labelled)],
            "label": lambda workspace, settings: [sys.executable, "-c", script, str(labelled), ""],
        }
        with workspace.session() as session:
            ids = [jobs.enqueue(session, kind, {}, "user_1").id for kind in ("retrain", "retrain", "label")]
        Worker(workspace, commands=commands, limits=Limits(threads=3, memory_bytes=0), poll_s=0.05).run(until_empty=True)
        assert [state_of(workspace, job).state for job in ids] == ["done"] * 3
        assert (trained.read_text(), labelled.read_text()) == ("3", "1")


def test_jobs_of_one_lane_run_one_after_another(tmp_path: Path) -> None:
    with workspace_of("sqlite", tmp_path) as workspace:
        script = "import pathlib, sys, time\nmark = pathlib.Path(sys.argv[1])\n"
        script += "mark.touch(exist_ok=False)\ntime.sleep(.2)\nmark.unlink()"
        commands = {
            kind: lambda workspace, settings, kind=kind: [sys.executable, "-c", script, str(tmp_path / lane_of(kind))]
            for kind in ("retrain", "label")
        }
        with workspace.session() as session:
            ids = [jobs.enqueue(session, kind, {}, "user_1").id for kind in ("label", "retrain") * 2]
        Worker(workspace, commands=commands, limits=Limits(memory_bytes=0), poll_s=0.05).run(until_empty=True)
        assert [state_of(workspace, job).state for job in ids] == ["done"] * 4, state_of(workspace, ids[0]).message


def test_a_stop_gives_back_the_jobs_of_both_lanes(tmp_path: Path) -> None:
    with workspace_of("sqlite", tmp_path) as workspace:
        script = "import pathlib, sys, time\npathlib.Path(sys.argv[1]).touch()\ntime.sleep(600)"
        commands = {
            kind: lambda workspace, settings, kind=kind: [sys.executable, "-c", script, str(tmp_path / kind)]
            for kind in ("retrain", "label")
        }
        with workspace.session() as session:
            ids = [jobs.enqueue(session, kind, {}, "user_1").id for kind in commands]
        worker = Worker(workspace, commands=commands, limits=Limits(memory_bytes=0), poll_s=0.05, grace_s=10)
        worker.start()
        try:
            wait_for(lambda: all((tmp_path / kind).exists() for kind in commands))
        finally:
            worker.stop()
        assert [(state_of(workspace, job).state, state_of(workspace, job).attempts) for job in ids] == [("queued", 0)] * 2


def test_a_labelling_job_gets_less_of_the_machine() -> None:
    limits = Limits(threads=8, memory_bytes=40 * 2**30)
    assert limits.for_lane("training") == limits
    assert (limits.for_lane("labelling").threads, limits.for_lane("labelling").memory_bytes) == (1, 10 * 2**30)
    assert Limits(memory_bytes=2**29).for_lane("labelling").memory_bytes == 2**29  # never more than training gets
    assert Limits(memory_bytes=2**31).for_lane("labelling").memory_bytes == 2**30
    assert Limits(memory_bytes=0).for_lane("labelling").memory_bytes == 0
    assert {lane_of(kind) for kind in COMMANDS} == set(LANES) and lane_of("unknown") == "training"


def test_a_running_job_is_cancelled(tmp_path: Path) -> None:
    with workspace_of("sqlite", tmp_path) as workspace:
        job = enqueue(workspace)
        worker = steps_worker(workspace, 100_000)
        worker.start()
        try:
            wait_for(lambda: (workspace.folder / "pid").exists())
            with workspace.session() as session:
                assert jobs.cancel(session, job).state == "running"
            wait_for(lambda: state_of(workspace, job).state == "cancelled")
        finally:
            worker.stop()
        with pytest.raises(ProcessLookupError):
            os.kill(int((workspace.folder / "pid").read_text()), 0)


def test_a_worker_that_is_stopped_gives_its_job_back(tmp_path: Path) -> None:
    with workspace_of("sqlite", tmp_path) as workspace:
        job = enqueue(workspace)
        worker = steps_worker(workspace, 100_000)
        worker.start()
        wait_for(lambda: (workspace.folder / "pid").exists())
        worker.stop()
        row = state_of(workspace, job)
        assert (row.state, row.attempts) == ("queued", 0)


def test_settings_become_flags() -> None:
    given = {"base": "--x", "ignore_gate": True, "seed": 3, "labeller_kinds": ["human", "ai"], "stages": {"ppo_steps": 2}}
    assert flags({**given, "none": None, "empty": []}) == [
        "--base=--x", "--ignore-gate=true", "--seed=3", "--labeller-kinds", "human", "ai", "--stages.ppo-steps=2"
    ]  # fmt: skip


def kill_and_count(kind: str, tmp_path: Path, kills: int) -> None:
    """Two workers; one of them is killed at random again and again; every effect of every job is there exactly once."""
    random, number = Random(kills), 12
    with workspace_of(kind, tmp_path) as workspace:
        url = workspace.engine.url.render_as_string(hide_password=False)
        environment = {**os.environ, "CHATWRIGHT_DATABASE_URL": url}
        line = [sys.executable, job_steps.__file__, "worker", str(workspace.folder), str(number), "1.0"]
        workers = [subprocess.Popen(line, env=environment) for _ in range(2)]
        made: list[str] = []
        killed = 0
        try:
            while killed < kills:
                if all(state_of(workspace, job).state in jobs.ENDED for job in made):
                    made.append(enqueue(workspace))
                time.sleep(random.uniform(0.2, 1.5))
                place = random.randrange(2)
                workers[place].kill()
                workers[place].wait()
                workers[place] = subprocess.Popen(line, env=environment)
                killed += 1
            wait_for(lambda: all(state_of(workspace, job).state in jobs.ENDED for job in made))
        finally:
            for process in workers:
                process.kill()
                process.wait()
        with workspace.reading() as session:
            done = Counter((row.actor, row.action) for row in session.scalars(select(AuditEvent)))
        assert {state_of(workspace, job).state for job in made} == {"done"}
        assert done == Counter({(job, f"step-{n}"): 1 for job in made for n in range(number)})


@pytest.mark.parametrize("kind", KINDS)
def test_workers_are_killed_five_times(kind: str, tmp_path: Path) -> None:
    kill_and_count(kind, tmp_path, 5)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("kind", KINDS)
def test_workers_are_killed_a_hundred_times(kind: str, tmp_path: Path) -> None:
    kill_and_count(kind, tmp_path, 100)


def test_a_lease_goes_by_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Lease.from_environment() is None
    for name, value in Lease(job="j", fence=3, settings={}).environment().items():
        monkeypatch.setenv(name, value)
    assert Lease.from_environment() == Lease(job="j", fence=3, settings={})
