"""The command table. A command's module is imported only when the command is called, so `--help` needs no torch."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from chatwright.errors import ConfigError


@dataclass(frozen=True)
class Command:
    """Where a command lives and what it does."""

    target: str
    """`module:function`; the function takes one config and returns nothing."""
    config: str
    """Name of the config class, in the same module."""
    help: str
    """One line for `chatwright --help`."""
    positional: str = ""
    """Setting that arguments without a flag are; empty: none, or the config's own positional fields."""


GROUPS: dict[str, dict[str, Command]] = {
    "The whole way": {
        "quickstart": Command(
            "chatwright.pipeline:quickstart", "QuickstartConfig", "teach the bundled museum example, start to end"
        ),
        "teach": Command(
            "chatwright.pipeline:teach",
            "TeachConfig",
            "your model, data and rankings in; an aligned model out",
            positional="demonstrations",
        ),
        "run": Command("chatwright.pipeline:run", "RunConfig", "run the stages that a TOML file lists"),
    },
    "Models": {
        "models list": Command("chatwright.model.commands:list_", "ListConfig", "known model names and what is cached"),
        "models pull": Command("chatwright.model.commands:pull", "PullConfig", "fetch a model and check its hashes"),
        "generate": Command("chatwright.generation.commands:generate", "GenerateConfig", "answer one prompt"),
        "explain": Command(
            "chatwright.generation.commands:explain", "ExplainConfig", "what a model expected at each token of a text"
        ),
        "cloze": Command("chatwright.generation.commands:cloze", "ClozeConfig", "fill the blanks of a text"),
        "translate": Command(
            "chatwright.generation.translate_command:main", "TranslateConfig", "translate a word or an emoji"
        ),
        "embed": Command(
            "chatwright.generation.embed_command:embed", "EmbedConfig", "turn texts into vectors: near is alike"
        ),
        "chat": Command(
            "chatwright.generation.commands:chat", "ChatConfig", "talk to a model in the terminal", positional="model"
        ),
    },
    "The server": {
        "serve": Command(
            "chatwright.serve.run:serve", "ServeConfig", "serve models: OpenAI-compatible API and chat", positional="model"
        ),
        "moderation train": Command(
            "chatwright.serve.moderation.commands:train", "TrainConfig", "train the classifier of the safety filters"
        ),
        "moderation check": Command(
            "chatwright.serve.moderation.commands:check",
            "CheckConfig",
            "judge a text, or measure a classifier on files",
            positional="text",
        ),
        "prompt test": Command("chatwright.serve.prompts.commands:test", "TestConfig", "which wording of a prompt wins"),
        "prompt lint": Command(
            "chatwright.serve.prompts.commands:lint_command", "LintConfig", "what in a prompt is likely to go wrong"
        ),
        "users reset-admin": Command(
            "chatwright.serve.account_commands:reset_admin", "ResetAdminConfig", "a new password for an administrator"
        ),
        "users links": Command(
            "chatwright.serve.account_commands:list_links", "LinksConfig", "open invitations; revoke one with --revoke ID"
        ),
        "users delete": Command(
            "chatwright.serve.account_commands:delete_account",
            "DeleteConfig",
            "delete an account for good",
            positional="name",
        ),
        "audit export": Command(
            "chatwright.serve.audit_commands:export", "AuditConfig", "the audit log as a file", positional="out"
        ),
        "workspace backup": Command(
            "chatwright.workspace.commands:backup", "BackupConfig", "copy a workspace while it is used", positional="out"
        ),
        "workspace restore": Command(
            "chatwright.workspace.commands:restore", "RestoreConfig", "bring a backup back", positional="backup"
        ),
        "workspace upgrade": Command(
            "chatwright.workspace.commands:upgrade", "UpgradeConfig", "bring the database to this version of Chatwright"
        ),
    },
    "The labelling desk": {
        "demo-desk": Command(
            "chatwright.pipeline.demo:demo_desk", "DemoConfig", "a workspace to label in at once", positional="workspace"
        ),
        "feedback import": Command(
            "chatwright.labellers.desk_import:import_",
            "ImportConfig",
            "take labels, samples or prompts into a workspace",
            positional="data",
        ),
        "feedback merge": Command(
            "chatwright.feedback.commands:merge", "MergeConfig", "make one order of the labels of each complete ranking"
        ),
        "feedback withdraw": Command(
            "chatwright.feedback.commands:withdraw", "WithdrawConfig", "erase the texts of a person of imported data"
        ),
        "feedback export": Command(
            "chatwright.feedback.commands:export", "ExportConfig", "freeze a workspace's labels into a folder"
        ),
        "feedback label": Command(
            "chatwright.labellers.workspace:label_desk", "DeskLabelConfig", "let a rubric or an AI judge work off the queue"
        ),
        "retrain": Command(
            "chatwright.pipeline.retrain:retrain", "RetrainConfig", "train on a workspace's labels, compare, register"
        ),
        "jobs run": Command("chatwright.feedback.commands:run_jobs", "JobsConfig", "run the jobs of a workspace"),
    },
    "Data": {
        "house init": Command("chatwright.house.commands:init", "InitConfig", "write a sheet of facts to fill in"),
        "house check": Command("chatwright.house.commands:check", "CheckConfig", "check a sheet of facts and its wordings"),
        "data check": Command("chatwright.data.commands:check", "CheckConfig", "validate files and count usable rows"),
        "data import": Command(
            "chatwright.data.commands:import_", "ImportConfig", "convert CSV, XLSX, HH-RLHF, OASST or TRL files"
        ),
        "data export": Command(
            "chatwright.data.export_command:export", "ExportConfig", "write data files in another project's format"
        ),
        "cldr fetch": Command(
            "chatwright.data.cldr_fetch:main", "FetchConfig", "fetch CLDR's names of emoji, in many languages"
        ),
        "cldr pairs": Command(
            "chatwright.data.cldr_pairs:main", "PairsConfig", "make text of CLDR's names, to train a translator on"
        ),
        "wordnet text": Command(
            "chatwright.data.wordnet:main", "TextConfig", "make text of the WordNet dictionary, to train a first model on"
        ),
        "data pairs": Command(
            "chatwright.data.pairs_build:build", "PairsConfig", "pairs of texts that belong together, for embed-train"
        ),
        "show-mask": Command(
            "chatwright.data.commands:show_mask", "ShowMaskConfig", "show which tokens of a file are trained on"
        ),
    },
    "From text to a base model": {
        "tokenizer train": Command("chatwright.data.tokenizer_commands:train", "TrainConfig", "train a tokenizer on text"),
        "corpus build": Command(
            "chatwright.data.corpus_build.build:build", "BuildConfig", "clean, deduplicate, split and tokenise raw text"
        ),
        "tokenizer report": Command(
            "chatwright.data.tokenizer_commands:report", "ReportConfig", "how short tokenizers make text, by language"
        ),
    },
    "Training": {
        "pretrain": Command(
            "chatwright.recipes.pretrain:main", "PretrainConfig", "train a model from nothing but text", positional="data"
        ),
        "sft": Command("chatwright.recipes.sft:main", "SFTConfig", "fine-tune on demonstrations", positional="data"),
        "reward": Command(
            "chatwright.recipes.reward:main", "RewardConfig", "train a reward model on rankings", positional="data"
        ),
        "ppo": Command(
            "chatwright.recipes.ppo:main", "PPOConfig", "optimise against a reward model (PPO, PPO-ptx)", positional="data"
        ),
        "dpo": Command("chatwright.recipes.dpo:main", "DPOConfig", "optimise on rankings directly", positional="data"),
        "embed-train": Command(
            "chatwright.recipes.embed:main",
            "EmbedConfig",
            "train vectors that are near for texts that belong together",
            positional="data",
        ),
    },
    "Answers and labels": {
        "sample": Command(
            "chatwright.recipes.sample:main", "SampleConfig", "write K answers for each prompt", positional="data"
        ),
        "label": Command(
            "chatwright.labellers.commands:label",
            "LabelConfig",
            "rank answers: simulated, AI judge, or people's files",
            positional="data",
        ),
        "replay": Command("chatwright.recipes.replay:main", "ReplayConfig", "let a base model write text, for ptx"),
        "score": Command(
            "chatwright.recipes.reward:score", "ScoreConfig", "add reward-model scores to a file", positional="data"
        ),
        "bestofn": Command(
            "chatwright.recipes.bestofn:main", "BestOfNConfig", "keep the best of N answers by reward", positional="data"
        ),
    },
    "Results": {
        "evaluate": Command(
            "chatwright.pipeline.suites:evaluate",
            "EvaluateCommandConfig",
            "compare models on held-out questions or on suites",
            positional="models",
        ),
        "overopt": Command(
            "chatwright.recipes.overopt:main", "OveroptConfig", "reward against distance: where over-optimisation begins"
        ),
        "report": Command("chatwright.evals.commands:report", "ReportConfig", "write the report page of a run"),
        "runs list": Command("chatwright.engine.commands:list_", "ListConfig", "list run folders with their figures"),
        "runs compare": Command(
            "chatwright.engine.commands:compare", "CompareConfig", "settings and figures that differ between two runs"
        ),
        "runs prune": Command(
            "chatwright.engine.commands:prune", "PruneConfig", "delete checkpoints except the last and the best"
        ),
        "verify": Command("chatwright.engine.commands:verify", "VerifyConfig", "check a folder against its manifest"),
        "export": Command(
            "chatwright.recipes.export:main",
            "ExportConfig",
            "write a model as a Hugging Face folder or GGUF",
            positional="model",
        ),
    },
}
COMMANDS: dict[str, Command] = {name: command for group in GROUPS.values() for name, command in group.items()}


def load(name: str) -> tuple[Callable[[Any], Any], type]:
    """The function and the config class of a command; imports its module."""
    command = COMMANDS[name]
    module_name, _, function = command.target.partition(":")
    module = importlib.import_module(module_name)
    return getattr(module, function), getattr(module, command.config)


def command_of(name: str, *, where: str) -> tuple[Callable[[Any], Any], type]:
    """`load` for a name out of a file; ConfigError naming `where` and the nearest command when there is none."""
    if name not in COMMANDS:
        raise ConfigError(f"{where}: {unknown_command(name)}")
    return load(name)


def unknown_command(name: str) -> str:
    """What to say about a command that does not exist."""
    close = difflib.get_close_matches(name, [*COMMANDS, *(known.split()[0] for known in COMMANDS)], n=1)
    hint = f"; did you mean `chatwright {close[0]}`?" if close else "."
    return f"unknown command {name!r}{hint} `chatwright --help` lists all commands."
