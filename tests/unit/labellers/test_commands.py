"""`chatwright label` with each kind of labeller."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from chatwright import cli
from chatwright.labellers.commands import LabelConfig, label
from chatwright.records import load_rankings
from openai_stub import longer_wins, running_stub, said

GOOD = "Rain gives plants water to drink, like a big shower for the garden. You can drink it too!"


def row(number: int, **fields: Any) -> dict[str, Any]:
    return {
        "messages": [{"role": "user", "content": f"Why do we need rain, part {number}?"}],
        "keywords": ["water", "plant", "drink"],
        "topic": "rain",
        "completions": [GOOD, "Water falls.", "It is meteorological precipitation.", "Rain."],
        "finish_reason": ["stop", "stop", "stop", "length"],
        "model": "m",
        **fields,
    }


def samples(path: Path, rows: list[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(r) + "\n" for r in rows), encoding="utf-8")
    return str(path)


def test_simulated_labels_say_so_and_keep_the_row(tmp_path: Path) -> None:
    data = samples(tmp_path / "s.jsonl", [row(n) for n in range(20)])
    out = tmp_path / "deep" / "r.jsonl"
    result = label(LabelConfig(data=(data,), out=str(out)))
    rankings = load_rankings(out)
    assert result["rankings"] == len(rankings) == 20 and result["labellers"] == ["simulated:museum-en"]
    for ranking in rankings:
        assert ranking.labeller_kind == "simulated" and ranking.meta["topic"] == "rain" and ranking.meta["model"] == "m"
        assert ranking.ended == (True, True, True, False)
    first = out.read_bytes()
    label(LabelConfig(data=(data,), out=str(out)))
    assert out.read_bytes() == first


def test_a_rubric_without_noise_puts_the_good_answer_first(tmp_path: Path) -> None:
    data = samples(tmp_path / "s.jsonl", [row(0)])
    code = cli.main(["label", "--data", data, "--out", str(tmp_path / "r"), "--simulated.noise", "0"])
    assert code == 0 and str(load_rankings(tmp_path / "r")[0].order).startswith("A>")


@pytest.mark.parametrize(
    ("change", "part"),
    [
        ({"completions": ["one"], "finish_reason": ["stop"]}, "2 to 9"),
        ({"completions": "one"}, "completions: must be a list"),
        ({"finish_reason": ["stop"]}, "finish_reason: must be a list of 4"),
        ({"keywords": []}, "keywords"),
        ({"messages": []}, "messages"),
    ],
)
def test_bad_rows_are_named(tmp_path: Path, change: dict[str, Any], part: str, capsys: pytest.CaptureFixture[str]) -> None:
    data = samples(tmp_path / "s.jsonl", [row(0, **change)])
    assert cli.main(["label", "--data", data, "--out", str(tmp_path / "r")]) == 1
    error = capsys.readouterr().err
    assert part in error and not (tmp_path / "r").exists()


@pytest.mark.parametrize(
    ("argv", "part"),
    [
        (["--labeller", "ai"], "--ai.base-url"),
        (["--human.folder", "x"], "--human.* has no effect"),
        (["--labeller", "human", "--simulated.seed", "3"], "--simulated.* has no effect"),
        (["--ai.base-url", "http://x", "--ai.model", "m"], "--ai.* has no effect"),
    ],
)
def test_settings_without_effect_are_errors(argv: list[str], part: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["label", "--data", "x", *argv]) == 2
    assert part in capsys.readouterr().err


def test_people_rank_in_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = samples(tmp_path / "s.jsonl", [row(n) for n in range(3)])
    argv = ["label", "--data", data, "--labeller", "human", "--out", str(tmp_path / "r.jsonl")]
    argv += ["--human.folder", str(tmp_path / "desk"), "--human.guideline", "v1"]
    assert cli.main(argv) == 0
    assert "3 of 3 tasks" in capsys.readouterr().err.replace("\n", " ") and not (tmp_path / "r.jsonl").exists()
    tasks = [json.loads(line) for line in (tmp_path / "desk" / "tasks.jsonl").read_text().splitlines()]
    done = [{"task": t["task"], "ranking": "D>C>A=B", "labeller": "ann"} for t in tasks[:2]]
    samples(tmp_path / "desk" / "rankings.jsonl", done)
    assert cli.main(argv) == 0
    rankings = load_rankings(tmp_path / "r.jsonl")
    assert [(r.labeller, r.labeller_kind, str(r.order), r.guideline) for r in rankings] == [
        ("ann", "human", "D>C>A=B", "v1")
    ] * 2


class Judge(BaseHTTPRequestHandler):
    """Prefers the longer answer, counts requests, remembers the key, and can be told to fail."""

    requests = 0
    fail_after = 10**9
    keys: set[str | None] = set()

    def do_POST(self) -> None:
        Judge.requests += 1
        Judge.keys.add(self.headers.get("Authorization"))
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        text = body["messages"][-1]["content"]
        a, b = text.split("[answer A]")[1].split("[answer B]")[:2]
        word = "A" if len(a) > len(b.split("Better:")[0]) + 10 else "B"
        content = json.dumps({"choices": [{"message": {"content": word}}]}).encode()
        self.send_response(400 if Judge.requests > Judge.fail_after else 200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *args: Any) -> None:
        pass


@pytest.fixture
def judge() -> Iterator[str]:
    Judge.requests, Judge.fail_after, Judge.keys = 0, 10**9, set()
    server = HTTPServer(("127.0.0.1", 0), Judge)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/v1"
    server.shutdown()
    server.server_close()
    thread.join()


def test_ai_judge_goes_on_after_a_failure_and_pays_once(
    tmp_path: Path, judge: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "key").write_text("secret\n", encoding="utf-8")
    monkeypatch.setenv("JUDGE_API_KEY_FILE", str(tmp_path / "key"))
    data = samples(tmp_path / "s.jsonl", [row(n) for n in range(3)])
    out = tmp_path / "r.jsonl"
    argv = ["label", "--data", data, "--out", str(out), "--labeller", "ai", "--ai.base-url", judge, "--ai.model", "m"]
    Judge.fail_after = 12  # one ranking of four answers: 6 pairs, each asked twice
    assert cli.main(argv) == 1
    said = capsys.readouterr().err
    assert "status 400" in said and f"1 of 3 rankings are in {out}. Run the same command to continue" in said
    assert len(load_rankings(out)) == 1
    out.write_bytes(out.read_bytes() + b'{"torn')
    Judge.fail_after, Judge.requests = 10**9, 0
    assert cli.main(argv) == 0
    rankings = load_rankings(out)
    assert Judge.requests == 24 and len({r.prompt_id for r in rankings}) == 3 == len(rankings)
    assert all(r.labeller == "ai:m" and r.labeller_kind == "ai" for r in rankings)
    assert Judge.keys == {"Bearer secret"} and "secret" not in out.read_text()
    assert cli.main(argv) == 0 and Judge.requests == 24
    assert cli.main([*argv[:-1], "other"]) == 2 and "--ai.model other, was m" in capsys.readouterr().err


def test_rows_that_the_judge_does_not_order_are_left_out_and_counted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, out = samples(tmp_path / "s.jsonl", [row(n) for n in range(3)]), tmp_path / "r.jsonl"
    argv = ["label", "--data", data, "--out", str(out), "--labeller", "ai", "--ai.model", "m", "--ai.max-unreadable", "0.5"]
    with running_stub() as stub:

        def second_row_is_hard(body: dict[str, Any]) -> tuple[int, str]:
            return said("Both, A and B") if "part 1" in body["messages"][-1]["content"] else longer_wins(body)

        stub.reply = second_row_is_hard
        assert cli.main([*argv, "--ai.base-url", stub.url]) == 0
        err = capsys.readouterr().err
        assert "12 of 36 replies unreadable (33.3%)" in err and "1 rows without a ranking" in err
        assert len(load_rankings(out)) == 2
        stub.reply = longer_wins  # what is missing is asked for again
        assert cli.main([*argv, "--ai.base-url", stub.url]) == 0 and len(load_rankings(out)) == 3
        out.unlink()
        stub.reply = lambda body: said("Hm.")
        assert cli.main([*argv, "--ai.base-url", stub.url]) == 1
        assert "24 of 24 replies hold no verdict" in capsys.readouterr().err
