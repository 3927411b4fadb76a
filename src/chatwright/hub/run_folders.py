"""The model of a run folder, or of the folder of a whole chain: what `--model FOLDER` means. No torch.

A run keeps its model in final/. A chain keeps its stages in numbered run folders (1-sft, 4-reward, 6-ppo); its model is that
of the last stage which has finished one.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal

from chatwright.errors import CheckpointError, HubError

FINAL = "final"
_MODEL_FILES = ("config.json", "adapter_config.json")
_REWARD_HEAD = "reward_head.safetensors"
_SHOWN = 8
Kind = Literal["language", "reward"]


def model_folder(path: str | Path, kind: Kind = "language") -> Path:
    """The folder with the files of the model that `path` means; any path that is no run folder as it is.

    Raises CheckpointError for a run or chain that has not finished a model, HubError for a folder with several runs of which
    none is the last.
    """
    folder = Path(path).expanduser()
    if not folder.is_dir() or _is_model(folder):
        return folder
    if (folder / FINAL).is_dir():
        return folder / FINAL
    stages = [stage for stage in sorted(folder.iterdir()) if (stage / FINAL).is_dir() or (stage / "config.toml").is_file()]
    if not stages:
        if (folder / "config.toml").is_file():
            raise CheckpointError(
                f"{folder}: this run is not finished, so it has no final/ model; run the same command again"
            )
        return folder
    return _last_stage(folder, stages, kind) / FINAL


def _is_model(folder: Path) -> bool:
    return any((folder / name).is_file() for name in _MODEL_FILES)


def _last_stage(folder: Path, stages: list[Path], kind: Kind) -> Path:
    finished = [s for s in stages if _is_model(s / FINAL) and (s / FINAL / _REWARD_HEAD).is_file() == (kind == "reward")]
    numbered = [stage for stage in finished if re.match(r"\d+", stage.name)]
    if numbered:
        return max(numbered, key=lambda stage: (_number(stage), stage.name))
    if len(finished) == 1:
        return finished[0]
    if finished:
        raise HubError(f"{folder}: holds several models: {names_in(folder, finished)}. Name one of them")
    raise CheckpointError(
        f"{folder}: none of its runs has finished a {kind} model yet ({names_in(folder, stages)}); "
        "run the same command again"
    )


def _number(stage: Path) -> int:
    match = re.match(r"\d+", stage.name)
    return int(match[0]) if match else -1


def names_in(folder: Path, paths: list[Path]) -> str:
    """The first names of `paths`, relative to `folder`, for a message."""
    names = [str(path.relative_to(folder)) for path in paths]
    return ", ".join(names[:_SHOWN]) + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")
