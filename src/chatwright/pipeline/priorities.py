"""What to label next: the tasks about whose answers the workspace's reward models disagree most."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import select

from chatwright.feedback import lineage, queue
from chatwright.feedback.tables import TaskRow
from chatwright.labellers.protocol import LabelTask
from chatwright.labellers.workspace import KINDS, task_of
from chatwright.progress import ProgressBar
from chatwright.workspace.database import Workspace, located_path

MOST_MODELS = 3
MOST_TASKS = 500


def reward_models(workspace: Workspace, newest: Path) -> list[Path]:
    """Folders of reward models: the newest one and those of the latest retrainings that are still there."""
    with workspace.reading() as session:
        chains = [located_path(session, row.path).parents[1] for row in lineage.models(session)]
    found = dict.fromkeys([newest, *(chain / "4-reward" for chain in chains)])
    return [folder for folder in found if (folder / "MANIFEST.json").is_file()][:MOST_MODELS]


def prioritise(workspace: Workspace, newest: Path, *, device: str, precision: str, actor: str) -> int:
    """Order the open tasks by disagreement; the number of tasks that were ordered. 0 with fewer than two reward models:
    the queue then gives the least labelled first."""
    folders, waiting = reward_models(workspace, newest), _waiting(workspace)
    if len(folders) < 2 or not waiting:
        return 0
    scores = [_scores(folder, list(waiting.values()), device, precision) for folder in folders]
    per_task = {task: [member[place] for member in scores] for place, task in enumerate(waiting)}
    priorities = {task: queue.disagreement(members) for task, members in per_task.items()}
    with workspace.session() as session:
        return queue.set_priorities(session, priorities, actor=actor)


def _waiting(workspace: Workspace) -> dict[str, LabelTask]:
    """Open tasks with several answers, by id, the least labelled first."""
    with workspace.reading() as session:
        wanted = (TaskRow.state == "open", TaskRow.kind.in_(KINDS), TaskRow.everybody.is_(False), TaskRow.split == "train")
        query = select(TaskRow.id).where(*wanted).order_by(TaskRow.labels_count, TaskRow.seq).limit(MOST_TASKS)
        found = {task: task_of(session, task)[0] for task in session.scalars(query).all()}
    return {task: given for task, given in found.items() if given is not None}


def _scores(folder: Path, tasks: list[LabelTask], device: str, precision: str) -> list[list[float]]:
    """Scores of every task's answers by one reward model."""
    from chatwright.evals.rewards import open_learned
    from chatwright.model.precision import pick_device, pick_dtype

    where = pick_device(device)
    reward = open_learned(str(folder), dtype=pick_dtype(precision, where), device=where)  # type: ignore[arg-type]
    found = []
    with ProgressBar("what to label next", len(tasks), unit="task") as bar:
        for task in tasks:
            rows = [(task.prompt, text, ended) for text, ended in zip(task.completions, task.ended, strict=True)]
            found.append([float(score) for score in reward.score_texts(rows)])
            bar.advance()
    return found
