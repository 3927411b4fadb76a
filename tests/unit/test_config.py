"""Configs: files, flags, messages, TOML round trips."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from tyro.conf import Positional, arg

from chatwright.config import config_hash, dump_toml, from_dict, leaves, parse, read_toml, to_dict
from chatwright.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class Lora:
    """Adapters."""

    rank: int = 8
    """Rank."""
    targets: tuple[str, ...] = ("q", "v")
    """Where."""


@dataclass(frozen=True, kw_only=True)
class Base:
    """Inherited settings."""

    save_every_steps: int = 0
    """Checkpoint interval in steps."""


@dataclass(frozen=True, kw_only=True)
class Train(Base):
    """The loop."""

    steps: int = 10
    """Number of steps."""
    rate: float = 1e-5
    """Learning rate."""
    shuffle: bool = True
    """Shuffle the data."""
    limit: int | None = None
    """Upper limit."""

    def __post_init__(self) -> None:
        if self.steps < 0:
            raise ConfigError(f"train.steps is {self.steps}; it must be 0 or more")


@dataclass(frozen=True, kw_only=True)
class Config:
    """A config."""

    data: tuple[str, ...]
    """Files of demonstrations."""
    model: str = "small"
    """Model name."""
    out: Path = Path("runs/x")
    """Run folder."""
    ties: Literal["drop", "soft"] = "drop"
    """What becomes of ties."""
    betas: tuple[float, float] = (0.9, 0.95)
    """Adam's betas."""
    weights: dict[str, float] | None = None
    """Weights by name."""
    train: Train = Train(steps=9, limit=3)
    """The loop."""
    lora: Lora | None = None
    """A low-rank adapter."""


@dataclass(frozen=True, kw_only=True)
class Ask:
    """A config with a positional argument."""

    prompt: Positional[str]
    """What to ask."""
    seed: int = 0
    """Seed."""


@dataclass(frozen=True, kw_only=True)
class Convert:
    """A config with a field named by a Python word, and any number of positional arguments."""

    files: Positional[tuple[str, ...]]
    """What to read."""
    from_: Annotated[Literal["a", "b"], arg(name="from")] = "a"
    """Format."""


def cli(*argv: str) -> Config:
    return parse(Config, argv, prog="chatwright sft", description="Train.")


def complaint(*argv: str) -> str:
    with pytest.raises(ConfigError) as caught:
        cli(*argv)
    assert caught.value.exit_code == 2
    message = str(caught.value)
    assert "\n" not in message and "│" not in message
    return message


def toml(tmp_path: Path, text: str) -> str:
    path = tmp_path / "settings.toml"
    path.write_text(text, encoding="utf-8")
    return str(path)


def test_flags_fill_every_kind_of_field() -> None:
    cfg = cli(
        "--data", "a", "b", "--model=tiny", "--out", "o", "--ties", "soft", "--betas", "0.5", "0.6",
        "--train.save_every_steps", "3", "--train.rate", "0.5",
        "--train.no-shuffle", "--train.limit", "None", "--lora.rank", "2",
    )  # fmt: skip
    assert cfg == Config(
        data=("a", "b"),
        model="tiny",
        out=Path("o"),
        ties="soft",
        betas=(0.5, 0.6),
        train=Train(steps=9, save_every_steps=3, rate=0.5, shuffle=False, limit=None),
        lora=Lora(rank=2),
    )


def test_both_spellings_and_switch_words() -> None:
    assert cli("--data", "a", "--train.save-every-steps", "3").train.save_every_steps == 3
    assert cli("--data", "a", "--train.save_every_steps=3").train.save_every_steps == 3
    shuffle, no_shuffle = "--train.shuffle", "--train.no-shuffle"
    for off in ([shuffle, "false"], [f"{shuffle}=False"], [no_shuffle], [f"{no_shuffle}=true"]):
        assert cli("--data", "a", *off).train.shuffle is False
    for on in (["--train.shuffle", "true"], ["--train.shuffle"], ["--train.no-shuffle=false"]):
        assert cli("--data", "a", *on).train.shuffle is True


def test_an_optional_section_stays_off_until_named(tmp_path: Path) -> None:
    assert cli("--data", "a").lora is None
    assert cli("--data", "a", "--lora.targets", "k").lora == Lora(targets=("k",))
    assert cli("--config", toml(tmp_path, 'data = ["a"]\n[lora]\n')).lora == Lora()
    off = toml(tmp_path, 'data = ["a"]\nlora = "None"\n')
    assert cli("--config", off).lora is None
    assert cli("--config", off, "--lora.rank", "3").lora == Lora(rank=3)


def test_file_gives_defaults_and_flags_win(tmp_path: Path) -> None:
    path = toml(tmp_path, 'data = ["f"]\nmodel = "m"\n[train]\nsave-every-steps = 4\nrate = 1\nlimit = "None"\n')
    cfg = cli(f"--config={path}", "--train.rate", "0.5")
    assert cfg.data == ("f",) and cfg.model == "m"
    assert cfg.train == Train(steps=9, save_every_steps=4, rate=0.5, limit=None)
    assert cli("--data", "g", "--config", path).data == ("g",)


def test_checks_see_the_completed_values_only(tmp_path: Path) -> None:
    path = toml(tmp_path, 'data = ["f"]\n[train]\nsteps = -1\n')
    assert cli("--config", path, "--train.steps", "5").train.steps == 5
    assert "train.steps is -1" in complaint("--config", path)
    assert "train.steps is -2" in complaint("--data", "a", "--train.steps", "-2")


@pytest.mark.parametrize(
    ("argv", "parts"),
    [
        (["--data", "a", "--train.step", "4"], ["--train.step;", "--train.steps"]),
        (["--data", "a", "--steps", "4"], ["--steps;", "--train.steps"]),
        (["--dat", "a"], ["--dat;", "--data"]),
        (["--data", "a", "--qqqq", "4"], ["--qqqq;", "known:", "--model"]),
        (["--data", "a", "--train.steps", "foo"], ["--train.steps", "whole number", "'foo'"]),
        (["--data", "a", "--train.rate", "foo"], ["--train.rate", "a number", "'foo'"]),
        (["--data", "a", "--train.limit", "foo"], ["--train.limit", "INT", "'foo'"]),
        (["--data", "a", "--train.shuffle=maybe"], ["--train.shuffle", "true or false", "'maybe'"]),
        (["--data", "a", "--ties", "foo"], ["--ties", "'foo'", "drop", "soft"]),
        (["--data", "a", "--model"], ["--model needs a value"]),
        (["--data", "--model", "m"], ["--data needs a value", "A B C"]),
        (["--data", "a", "--data", "b"], ["--data is given twice", "A B C"]),
        (["--data", "a", "--betas", "1"], ["betas", "2"]),
        (["stray", "--data", "a"], ["stray"]),
        ([], ["--data is required"]),
        (["--config"], ["--config needs a file"]),
        (["--config", "/nonexistent.toml"], ["/nonexistent.toml", "no such file"]),
    ],
)
def test_misuse_is_one_line_that_names_the_flag(argv: list[str], parts: list[str]) -> None:
    message = complaint(*argv)
    for part in parts:
        assert part in message


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("[train]\nstep = 4\n", ["train", "'step'", "did you mean steps"]),
        ("steps = 4\n", ["'steps'", "train.steps"]),
        ('data = "a"\n', ["data", "a list", "'a'"]),
        ("data = [1]\n", ["data[0]", "text in quotes"]),
        ("train = 3\n", ["train", "table"]),
        ("[train]\nsteps = 1.5\n", ["train: steps", "whole number", "1.5"]),
        ("[train]\nsteps = true\n", ["train: steps", "whole number"]),
        ("[train]\nshuffle = 1\n", ["train: shuffle", "true or false"]),
        ('ties = "foo"\n', ["ties", "drop, soft"]),
        ("betas = [1]\n", ["betas", "2 values"]),
        ("[train]\nsave-every-steps = 1\nsave_every_steps = 1\n", ["save_every_steps", "twice"]),
        ("weights = 3\n", ["weights", "table"]),
        ("data = \n", ["TOML"]),
    ],
)
def test_a_bad_file_is_named_with_its_key(tmp_path: Path, text: str, parts: list[str]) -> None:
    path = toml(tmp_path, text)
    message = complaint("--config", path)
    for part in [path, *parts]:
        assert part in message


def test_help_shows_docstrings_and_defaults_of_the_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = toml(tmp_path, '[train]\nsteps = 77\n')
    with pytest.raises(SystemExit) as stop:
        cli("--config", path, "--help")
    assert not stop.value.code
    text = capsys.readouterr().out
    for part in ("Files of demonstrations.", "--config FILE.toml", "(default: 77)", "--lora.rank", "Checkpoint int"):
        assert part in text


def test_positional_arguments() -> None:
    assert parse(Ask, ["What is rain?", "--seed", "3"], prog="x") == Ask(prompt="What is rain?", seed=3)
    assert parse(Ask, ["--seed", "3", "--", "--odd"], prog="x") == Ask(prompt="--odd", seed=3)
    with pytest.raises(ConfigError, match="required"):
        parse(Ask, [], prog="x")


def test_a_python_word_as_a_setting(tmp_path: Path) -> None:
    cfg = parse(Convert, ["x", "y", "--from", "b"], prog="x")
    assert cfg == Convert(files=("x", "y"), from_="b")
    assert 'from = "b"' in dump_toml(cfg) and to_dict(cfg)["from"] == "b"
    assert from_dict(Convert, tomllib.loads(dump_toml(cfg))) == cfg
    argv = ["z", "--config", toml(tmp_path, 'from = "b"\n')]
    assert parse(Convert, argv, prog="x") == Convert(files=("z",), from_="b")


def test_from_dict_is_strict() -> None:
    assert from_dict(Config, {"data": ["a"], "train": {"rate": 1}}).train == Train(steps=9, limit=3, rate=1.0)
    with pytest.raises(ConfigError, match=r"stage 2: data is missing"):
        from_dict(Config, {}, where="stage 2")
    with pytest.raises(ConfigError, match=r"stage 2: train: train.steps is -1"):
        from_dict(Config, {"data": ["a"], "train": {"steps": -1}}, where="stage 2")


texts = st.text(st.characters(exclude_categories=("Cs",)), max_size=12)
configs = st.builds(
    Config,
    data=st.lists(texts, max_size=3).map(tuple),
    model=texts.filter(lambda t: t != "None"),
    ties=st.sampled_from(["drop", "soft"]),
    betas=st.tuples(*[st.floats(allow_nan=False, allow_infinity=False)] * 2),
    weights=st.none() | st.dictionaries(texts, st.floats(allow_nan=False, allow_infinity=False), max_size=2),
    train=st.builds(
        Train,
        steps=st.integers(0, 10**9),
        rate=st.floats(allow_nan=False, allow_infinity=False),
        shuffle=st.booleans(),
        limit=st.none() | st.integers(-5, 5),
    ),
    lora=st.none() | st.builds(Lora, rank=st.integers(1, 64), targets=st.lists(texts, max_size=2).map(tuple)),
)


@given(configs)
@example(Config(data=("\x7f",), model="\x7f", weights={"\x7f\x00": 1.0}))
def test_toml_and_dict_round_trips(cfg: Config) -> None:
    text = dump_toml(cfg, header="made by a test\nsecond line")
    assert text.startswith("# made by a test\n# second line\n")
    again = from_dict(Config, tomllib.loads(text))
    assert again == cfg and dump_toml(again) == dump_toml(cfg)
    assert from_dict(Config, to_dict(cfg)) == cfg
    assert config_hash(again) == config_hash(cfg)


def test_hash_depends_on_every_setting() -> None:
    base = Config(data=("a",))
    others = [
        Config(data=("b",)),
        Config(data=("a",), train=Train(steps=9, limit=4)),
        Config(data=("a",), lora=Lora()),
        Config(data=("a",), out=Path("elsewhere")),
    ]
    assert len({config_hash(c) for c in [base, *others]}) == 5
    assert config_hash(base) == config_hash(Config(data=("a",)))


def test_leaves_lists_dotted_keys() -> None:
    keys: dict[str, Any] = dict(leaves(Config))
    assert keys["train.steps"] is int and keys["lora.rank"] is int and "train" not in keys


@given(st.text(max_size=200))
def test_any_text_as_toml_gives_a_config_or_a_config_error(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    path = tmp_path_factory.getbasetemp() / "fuzz.toml"
    path.write_text(text, encoding="utf-8", errors="surrogatepass")
    try:
        from_dict(Config, read_toml(path))
    except ConfigError as error:
        assert str(error)


# ---- arguments without a flag ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("argv", "data", "model", "steps"),
    [
        (["a", "b"], ("a", "b"), "small", 9),
        (["a", "--model", "m"], ("a",), "m", 9),
        (["--model", "m", "a", "b"], ("a", "b"), "m", 9),
        (["--model=m", "a", "--train.steps", "3", "b"], ("a", "b"), "m", 3),
        (["--train.no-shuffle", "a"], ("a",), "small", 9),
        (["--train.shuffle", "false", "a"], ("a",), "small", 9),
        (["--model", "m", "--", "a", "b"], ("a", "b"), "m", 9),
        (["--data", "a", "b", "--model", "m"], ("a", "b"), "m", 9),
    ],
)
def test_arguments_without_a_flag(argv: list[str], data: tuple[str, ...], model: str, steps: int) -> None:
    made = parse(Config, argv, prog="chatwright sft", positional="data")
    assert (made.data, made.model, made.train.steps) == (data, model, steps)


@pytest.mark.parametrize(
    ("argv", "reason"),
    [
        (["a", "--data", "b"], "'a' has no flag and --data is given too"),
        (["--model", "m"], "--data is required"),
        (["--betas", "0.9", "0.95", "a"], "--data is required"),
    ],
)
def test_arguments_without_a_flag_that_are_refused(argv: list[str], reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        parse(Config, argv, prog="chatwright sft", positional="data")


def test_one_value_takes_one_argument() -> None:
    assert parse(Config, ["--data", "a", "--train.steps", "1", "m"], prog="x", positional="model").model == "m"
    with pytest.raises(ConfigError, match="--model takes one value, got 'm', 'n'"):
        parse(Config, ["m", "n"], prog="x", positional="model")
    with pytest.raises(ConfigError, match="unexpected argument 'm'; every setting has a flag"):
        parse(Config, ["m", "--data", "a"], prog="x")


def test_positional_fields_may_stand_behind_the_flags() -> None:
    assert parse(Convert, ["--from", "b", "x", "y"], prog="x") == Convert(files=("x", "y"), from_="b")
    assert parse(Ask, ["--seed", "3", "--", "-5 + 3?"], prog="x") == Ask(prompt="-5 + 3?", seed=3)


def test_the_help_names_the_setting(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse(Config, ["--help"], prog="chatwright sft", positional="data")
    assert "Arguments without a flag are --data." in " ".join(capsys.readouterr().out.split())
