"""Settings: frozen dataclasses, from TOML files and flags, back to TOML, and hashed.

A config class is a frozen, keyword-only dataclass beside the code it configures; sections are nested dataclasses:

    @dataclass(frozen=True, kw_only=True)
    class SFTConfig:
        data: tuple[str, ...]
        \"\"\"Demonstration files (JSON lines).\"\"\"
        train: TrainConfig = TrainConfig()
        \"\"\"The optimisation loop.\"\"\"

The string under a field is its help text. `parse(SFTConfig, argv, prog="chatwright sft")` takes defaults from
`--config FILE.toml` and lets flags win: `--data a.jsonl b.jsonl --train.save-every-steps 50` (underscores work too;
switches are `--flag`, `--no-flag` or `--flag true|false`). `tyro.conf.Positional[str]` marks a positional argument.

Field types: bool, int, float, str, Path, Literal, `X | None`, `tuple[X, ...]`, `tuple[X, Y]`, `dict[str, X]` and
nested config dataclasses. TOML has no null: the string "None" stands for None where None is allowed, as in flags.
A field `from_` (a Python word) is `from` outside; tyro needs to be told: `Annotated[str, tyro.conf.arg(name="from")]`.
A section typed `Lora | None = None` is on as soon as a file or a flag sets anything in it.
"""

from __future__ import annotations

from chatwright.config.bounds import check_above, check_least, check_length, check_share
from chatwright.config.flags import parse
from chatwright.config.toml import dump_toml, read_toml
from chatwright.config.values import config_hash, field_types, from_dict, leaves, to_dict

__all__ = [
    "check_above",
    "check_least",
    "check_length",
    "check_share",
    "config_hash",
    "dump_toml",
    "field_types",
    "from_dict",
    "leaves",
    "parse",
    "read_toml",
    "to_dict",
]
