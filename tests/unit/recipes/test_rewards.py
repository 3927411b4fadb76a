"""Where rewards come from: learned, foreign tokenizer, Python, HTTP, and weighted mixes of them."""

from __future__ import annotations

import dataclasses
import http.server
import json
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import tiny_training as tiny
from chatwright import retries
from chatwright.errors import ConfigError, DataError
from chatwright.evals import rewards
from chatwright.evals.rewards import Answered, ForeignReward, LearnedReward, open_reward, split_weight
from chatwright.recipes import ppo, ppo_models, reward
from chatwright.records import Message, Prompt
from chatwright.text.chat import answer_ids, render

CPU: dict[str, Any] = {"dtype": torch.float32, "device": "cpu"}


def answers(tokenizer: Any, texts: tuple[str, ...] = ("honey bees.", "rock.", "moon moon honey")) -> list[Answered]:
    prompt = Prompt(messages=(Message(role="user", content="Tell me of bees."),))
    ids = render(prompt.messages, tokenizer, add_generation_prompt=True).ids
    return [
        Answered(prompt=prompt, text=text, ended=True, prompt_ids=ids, response_ids=answer_ids(text, tokenizer))
        for text in texts
    ]


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "my_rewards.py").write_text(
        "def length(items):\n    return [len(i['completion']) for i in items]\n"
        "def fields(items):\n    assert all(set(i) == {'messages', 'completion', 'ended', 'meta'} for i in items)\n"
        "    return [float(i['ended']) + (i['messages'][-1]['content'] == 'Tell me of bees.') for i in items]\n"
        "def short(items):\n    return [1.0]\n"
        "def nan(items):\n    return [float('nan')] * len(items)\n"
        "def right(items):\n    return [float(i['completion'] == i['meta']['answer']) for i in items]\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    return "my_rewards"


class Stub(http.server.BaseHTTPRequestHandler):
    """Answers as its class attribute says; keeps what it was asked."""

    reply: Callable[[dict[str, Any]], Any] = staticmethod(lambda body: {"scores": []})
    status = 200
    failures: list[Any] = []
    """What happens to the next requests: a status, (status, Retry-After), "reset" or "cut"; nothing: `reply`."""
    asked: list[dict[str, Any]] = []

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        Stub.asked.append(body)
        failure = Stub.failures.pop(0) if Stub.failures else None
        if failure == "reset":
            self.connection.shutdown(socket.SHUT_RDWR)
            return
        data = Stub.reply(body)
        payload = data if isinstance(data, bytes) else json.dumps(data).encode()
        if failure == "cut":
            self.send_response(200)
            self.send_header("Content-Length", str(len(payload) + 5))
            self.end_headers()
            self.wfile.write(payload)
            self.close_connection = True
            return
        status, wait = failure if isinstance(failure, tuple) else (failure or Stub.status, None)
        self.send_response(status)
        if wait:
            self.send_header("Retry-After", wait)
        self.send_header("Content-Length", str(len(payload)))
        self.end_headers()
        self.wfile.write(payload)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def endpoint(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A reward service on loopback."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    Stub.reply = staticmethod(lambda body: {"scores": [len(i["completion"]) for i in body["items"]]})
    Stub.status, Stub.asked, Stub.failures = 200, [], []
    monkeypatch.setattr(rewards, "_RETRY_WAIT_S", 0.01)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Stub)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/score"
    server.shutdown()
    server.server_close()
    thread.join()


def test_weights_are_read_from_the_source() -> None:
    assert split_weight("runs/rm") == (1.0, "runs/rm")
    assert split_weight("0.5*runs/rm") == (0.5, "runs/rm")
    assert split_weight("-2*python:a:b") == (-2.0, "python:a:b")
    assert split_weight(".25*http://x/y*z") == (0.25, "http://x/y*z")
    assert split_weight("1.2.3*x") == (1.0, "1.2.3*x")


def test_python_rewards_see_messages_text_and_whether_it_ended(bench: Any, module: str) -> None:
    mix = open_reward((f"python:{module}:fields",), bench.tokenizer, **CPU)
    assert mix.score(answers(bench.tokenizer)).tolist() == [2.0, 2.0, 2.0] and mix.first_folder == ""


def test_a_module_in_the_working_folder_is_found(
    bench: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The console script's sys.path does not hold it."""
    (tmp_path / "beside_me.py").write_text("def score(items):\n    return [7.0] * len(items)\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [place for place in sys.path if place not in ("", str(tmp_path))])
    mix = open_reward(("python:beside_me:score",), bench.tokenizer, **CPU)
    assert mix.score(answers(bench.tokenizer)).tolist() == [7.0] * 3


def test_a_mix_is_the_weighted_sum(bench: Any, module: str, reward_run: str, endpoint: str) -> None:
    rows = answers(bench.tokenizer)
    learned = open_reward((reward_run,), bench.tokenizer, **CPU).score(rows)
    mix = open_reward((f"0.5*{reward_run}", f"-0.1*python:{module}:length", f"2*{endpoint}"), bench.tokenizer, **CPU)
    lengths = torch.tensor([float(len(row.text)) for row in rows])
    torch.testing.assert_close(mix.score(rows), 0.5 * learned - 0.1 * lengths + 2 * lengths)
    assert mix.first_folder == reward_run


def test_a_reward_model_with_another_tokenizer_reads_the_text(
    bench: Any, make_tokenizer: Callable[..., Any], tmp_path: Path
) -> None:
    other = make_tokenizer(merges=150, chat_template=tiny.SHORT_JINJA)
    folder = tiny.save_tiny_model(tmp_path / "other", other)
    reward.main(bench.reward(tmp_path / "rm", model=str(folder), demonstrations=(bench.demonstrations,)))
    mix = open_reward((str(tmp_path / "rm"),), bench.tokenizer, **CPU)
    ((_, part),) = mix.parts
    assert isinstance(part, ForeignReward)
    own = open_reward((str(tmp_path / "rm"),), other, **CPU)
    assert isinstance(own.parts[0][1], LearnedReward)
    torch.testing.assert_close(mix.score(answers(bench.tokenizer)), own.score(answers(other)))


def test_a_foreign_reward_trains_a_policy_with_a_critic_of_its_own(
    bench: Any, sft_run: str, reward_run: str, make_tokenizer: Callable[..., Any], tmp_path: Path
) -> None:
    folder = tiny.save_tiny_model(tmp_path / "other", make_tokenizer(merges=150, chat_template=tiny.SHORT_JINJA))
    reward.main(bench.reward(tmp_path / "rm", model=str(folder), train={"epochs": 4}))
    settings = {"model": sft_run, "reward": (str(tmp_path / "rm"),), "ignore_gate": True, "train": {"steps": 1}}
    with pytest.raises(ConfigError, match="not the policy's tokenizer"):
        ppo_models.open_models(bench.ppo(tmp_path / "p", **settings))
    result = ppo.main(bench.ppo(tmp_path / "q", critic=reward_run, **{**settings, "train": {"steps": 1}}))
    assert result["steps"] == 1


def test_an_http_endpoint_is_asked_once_per_batch(
    bench: Any, sft_run: str, reward_run: str, endpoint: str, tmp_path: Path
) -> None:
    ppo.main(bench.ppo(tmp_path / "p", model=sft_run, reward=(endpoint,), critic=reward_run, train={"steps": 2}))
    assert [len(body["items"]) for body in Stub.asked] == [16, 16, 16]  # the exported weights are measured, too
    item = Stub.asked[0]["items"][0]
    assert set(item) == {"messages", "completion", "ended", "meta"} and item["meta"]["topic"] in tiny.WORDS


def test_rewards_see_the_prompts_other_fields(bench: Any, module: str, endpoint: str) -> None:
    """A reference answer, for rewards that can be verified (maths, code, format)."""
    rows = [
        dataclasses.replace(row, prompt=dataclasses.replace(row.prompt, meta={"answer": "rock.", "n": [1, {"a": None}]}))
        for row in answers(bench.tokenizer)
    ]
    assert open_reward((f"python:{module}:right",), bench.tokenizer, **CPU).score(rows).tolist() == [0.0, 1.0, 0.0]
    open_reward((endpoint,), bench.tokenizer, **CPU).score(rows)
    assert [item["meta"] for item in Stub.asked[-1]["items"]] == [{"answer": "rock.", "n": [1, {"a": None}]}] * 3


@pytest.mark.parametrize("failures", [[503, 503], [429], [500, 502, 504], ["reset"], ["cut"], [408, "reset", 503]])
def test_an_endpoint_that_comes_back_is_asked_again(bench: Any, endpoint: str, failures: list[Any]) -> None:
    Stub.failures = list(failures)
    found = open_reward((endpoint,), bench.tokenizer, **CPU).score(answers(bench.tokenizer))
    assert found.tolist() == [11.0, 5.0, 15.0] and len(Stub.asked) == len(failures) + 1
    assert all(body == Stub.asked[0] for body in Stub.asked)


def test_retry_after_is_honoured(bench: Any, endpoint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    monkeypatch.setattr(retries.time, "sleep", waits.append)
    Stub.failures = [(503, "7"), (429, "100000"), (503, "soon"), 503]
    open_reward((endpoint,), bench.tokenizer, **CPU).score(answers(bench.tokenizer))
    assert waits[0] == 7.0 and waits[1] == retries.MAX_WAIT_S and waits[2:] == [0.04, 0.08]


@pytest.mark.parametrize("status", [400, 401, 404, 413, 422, 501])
def test_what_an_endpoint_refuses_is_not_asked_again(bench: Any, endpoint: str, status: int) -> None:
    Stub.status = status
    with pytest.raises(DataError, match=f"{endpoint}: it refused with status {status}"):
        open_reward((endpoint,), bench.tokenizer, **CPU).score(answers(bench.tokenizer))
    assert len(Stub.asked) == 1


def test_an_endpoint_that_stays_away_stops_ppo_saved_and_resumable(
    bench: Any, sft_run: str, reward_run: str, endpoint: str, tmp_path: Path, opened: Any, capfd: pytest.CaptureFixture[str]
) -> None:
    """With the default settings; the resumed run ends with the same bits."""
    settings: dict[str, Any] = {"model": sft_run, "reward": (endpoint,), "critic": reward_run, "train": {"steps": 4}}
    straight = ppo.main(bench.ppo(tmp_path / "straight", **{**settings, "train": {"steps": 4}}))
    for number_done in (0, 2, 4):  # before the first step, in the middle, and when the exported weights are measured
        out = tmp_path / str(number_done)
        Stub.asked, good = [], Stub.reply

        def breaks(body: dict[str, Any], good: Any = good, num: int = number_done) -> Any:
            Stub.status = 503 if len(Stub.asked) > num else 200
            return good(body)

        Stub.reply = staticmethod(breaks)
        with pytest.raises(DataError, match="status 503 after 7 tries"):
            ppo.main(bench.ppo(out, **{**settings, "train": {"steps": 4}}))
        opened.close()
        said = capfd.readouterr().err
        assert (f"saved after step {number_done}. Run the same command to resume" in said) == (number_done > 0)
        Stub.reply, Stub.status = staticmethod(good), 200
        again = ppo.main(bench.ppo(out, **{**settings, "train": {"steps": 4}}))
        assert (f"resuming after step {number_done}" in capfd.readouterr().err) == (number_done > 0)
        assert tiny.tensor_hashes(Path(again["path"])) == tiny.tensor_hashes(Path(straight["path"]))
        assert again["kl_per_token"] == straight["kl_per_token"]


def test_a_function_that_raises_is_a_data_error_naming_it(bench: Any, module: str) -> None:
    with pytest.raises(DataError, match=rf"python:{module}:right: raised KeyError: 'answer'"):
        open_reward((f"python:{module}:right",), bench.tokenizer, **CPU).score(answers(bench.tokenizer))


@pytest.mark.parametrize(
    ("reply", "status"),
    [
        (lambda body: {"scores": [1.0]}, 200),
        (lambda body: {"values": [1.0]}, 200),
        (lambda body: [1.0], 200),
        (lambda body: {"scores": [None, 1, 2]}, 200),
        (lambda body: {"scores": ["x", 1, 2]}, 200),
        (lambda body: {"scores": 3}, 200),
        (lambda body: b"<html>", 200),
        (lambda body: b'{"scores": [NaN, 1, 2]}', 200),
        (lambda body: {"scores": [1, 2, 3]}, 500),
    ],
)
def test_an_endpoint_that_answers_nonsense_is_a_data_error_naming_it(
    bench: Any, endpoint: str, reply: Callable[[Any], Any], status: int
) -> None:
    Stub.reply, Stub.status = staticmethod(reply), status
    with pytest.raises(DataError, match=endpoint):
        open_reward((endpoint,), bench.tokenizer, **CPU).score(answers(bench.tokenizer))


def test_an_endpoint_that_is_not_there_is_a_data_error(bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(rewards, "_RETRY_WAIT_S", 0.0)
    with pytest.raises(DataError, match="127.0.0.1:9"):
        open_reward(("http://127.0.0.1:9/",), bench.tokenizer, **CPU).score(answers(bench.tokenizer))


@pytest.mark.parametrize("function", ["short", "nan"])
def test_a_function_that_gives_wrong_scores_is_a_data_error(bench: Any, module: str, function: str) -> None:
    with pytest.raises(DataError, match=f"python:{module}:{function}"):
        open_reward((f"python:{module}:{function}",), bench.tokenizer, **CPU).score(answers(bench.tokenizer))


@pytest.mark.parametrize(
    "source", ["python:no_such_module:f", "python:json:no_such_function", "python:json", "python:a:b:c"]
)
def test_a_function_that_cannot_be_imported_is_a_config_error(bench: Any, source: str) -> None:
    with pytest.raises(ConfigError, match="write python:module:function"):
        open_reward((source,), bench.tokenizer, **CPU)


def test_no_reward_at_all_is_a_config_error(bench: Any) -> None:
    with pytest.raises(ConfigError, match="name at least one"):
        open_reward((), bench.tokenizer, **CPU)


def test_every_stop_token_is_scored_as_the_end_of_turn_that_was_taught(
    make_tokenizer: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Core B2: a policy that stops by `<|endoftext|>` would be scored at a token that no answer had in training."""
    tokenizer = make_tokenizer(eos_token="<|endoftext|>")
    assert tokenizer.eos_id != tokenizer.end_of_turn_id and len(tokenizer.stop_ids) == 2
    learned = LearnedReward.__new__(LearnedReward)
    learned.tokenizer = tokenizer
    seen: list[Any] = []
    monkeypatch.setattr(LearnedReward, "context", 512)
    monkeypatch.setattr(LearnedReward, "score_ids", lambda self, prompts, answers: seen.append((prompts, answers)))
    (taught,) = answers(tokenizer, ("honey bees.",))
    text = tokenizer.encode("honey bees.")
    for stop in sorted(tokenizer.stop_ids):
        given = dataclasses.replace(taught, response_ids=(*text, stop))
        learned.score([given])
        ForeignReward(learned).score([given])
    cut = dataclasses.replace(taught, ended=False, response_ids=tuple(text))
    learned.score([cut])
    ends = {tuple(row[0]) for _, row in seen[:-1]}
    assert ends == {(*text, tokenizer.end_of_turn_id)} and tuple(seen[-1][1][0]) == tuple(text)
    assert len({tuple(row[0]) for row, _ in seen}) == 1
