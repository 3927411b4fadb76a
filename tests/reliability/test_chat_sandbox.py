"""Chat templates that loop, fill memory, reach for the machine or do not compile are refused in time."""

from __future__ import annotations

import os
import threading
import time

import pytest

from chatwright.errors import TemplateError
from chatwright.records import conversation
from chatwright.text.chat import render
from chatwright.text.jinja_sandbox import RenderResult, render_all
from chatwright.text.tokenizer import Tokenizer
from conftest import CHATML_TOKENS, byte_level_json, chatml_config

DAY = "2024-07-26"
GOOD = "{{ messages[0].content }}"
JOB = {"messages": [{"role": "user", "content": "fine"}]}


def _one(source: str, timeout_s: float = 2.0) -> RenderResult:
    return render_all(source, DAY, [JOB], timeout_s=timeout_s)[0]


@pytest.mark.parametrize(
    "source",
    [
        "{% for i in range(10**9) %}{% endfor %}",
        "{{ 'a' * 10**10 }}",
        "{{ [0] * 10**10 }}",
        "{% for i in range(90000) %}{{ 'a' * 1000 }}{% endfor %}",
        "{{ ''.__class__.__mro__ }}",
        "{{ messages.__init__.__globals__ }}",
        "{{ raise_exception.__globals__ }}",
        "{{ strftime_now.__globals__['__builtins__'] }}",
        "{% include '/etc/passwd' %}",
        "{% import 'os' as os %}{{ os.getcwd() }}",
        "{% set x = messages.append(1) %}",
        "{% for",
        "{{ unknown.attribute.of }}",
        "{{ messages | no_such_filter }}",
        "{{ 1 / 0 }}",
        "{% macro again() %}{{ again() }}{% endmacro %}{{ again() }}",
    ],
)
def test_a_hostile_template_is_an_error_and_the_next_one_works(source: str) -> None:
    found = _one(source)
    assert not found.text and not found.refused
    assert found.error or "__globals__" in source  # the sandbox makes that undefined, which reads as nothing
    assert _one(GOOD).text == "fine"


@pytest.mark.parametrize(
    "source",
    [
        "{% for i in range(90000) %}{% for j in range(90000) %}{% endfor %}{% endfor %}",
        "{{ '%1000000000d' % 3 }}",
        "{% set ns = namespace(x='ab') %}{% for i in range(60) %}{% set ns.x = ns.x ~ ns.x %}{% endfor %}",
    ],
)
def test_time_and_memory_are_bounded(source: str) -> None:
    begun = time.monotonic()
    try:
        assert _one(source).error
    except TemplateError as error:
        assert "took more than 2 s or 1024 MiB" in str(error)
    assert time.monotonic() - begun < 60  # on a machine that does other things too
    assert _one(GOOD).text == "fine"


def test_requests_of_several_threads_do_not_mix() -> None:
    def ask(number: int) -> None:
        for turn in range(50):
            (found,) = render_all(f"{number} {GOOD}", DAY, [{"messages": [{"content": f"t{turn}"}]}])
            assert found.text == f"{number} t{turn}"
        done.append(number)

    done: list[int] = []
    threads = [threading.Thread(target=ask, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(done) == [0, 1, 2, 3]


def test_a_forked_child_has_a_worker_of_its_own() -> None:
    assert _one(GOOD).text == "fine"
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.write(write, _one("child " + GOOD).text.encode())
        finally:
            os._exit(0)
    os.close(write)
    try:
        assert os.read(read, 100) == b"child fine"
    finally:
        os.close(read)
        os.waitpid(child, 0)
    assert _one("parent " + GOOD).text == "parent fine"


@pytest.mark.parametrize(
    ("jinja", "reason"),
    [
        ("{% for", "TemplateSyntaxError"),
        ("{{ 'a' * 10**10 }}", "MemoryError"),
        ("Hello!", "does not write the user's message"),
        ("{{ raise_exception('not today') }}", "not today"),
        ("{{ no_such_function(messages) }}", "no_such_function"),
    ],
)
def test_a_model_with_an_unusable_template_asks_for_another(jinja: str, reason: str) -> None:
    tokenizer = Tokenizer.from_json(byte_level_json(CHATML_TOKENS), chatml_config(chat_template=jinja))
    assert reason in tokenizer.template_problem and "--template" in tokenizer.template_problem
    assert tokenizer.encode("raw text still works")
    with pytest.raises(TemplateError, match="--template"):
        render(conversation(("user", "hi")), tokenizer)


def test_strange_conversations_are_named() -> None:
    """Every private character in a message, half surrogates, megabytes: an error or an answer, never a hang."""
    jinja = "{{ bos_token }}{% for m in messages %}<{{ m.role }}>{{ m.content }}{{ eos_token }}{% endfor %}"
    tokenizer = Tokenizer.from_json(byte_level_json(CHATML_TOKENS), chatml_config(chat_template=jinja))
    assert tokenizer.template.name == "native"
    every = "".join(chr(code) for code in range(0xF8D0, 0xF8FF))
    with pytest.raises(TemplateError, match="private character"):
        render(conversation(("user", every)), tokenizer)
    with pytest.raises(TemplateError, match="surrogate"):
        render(conversation(("user", "a\ud800b")), tokenizer)
    long = render(conversation(("user", "bees <|im_end|> " * 10_000)), tokenizer, add_generation_prompt=True)
    assert len(long) > 50_000 and sum(i == tokenizer.special_ids["<|im_end|>"] for i in long.ids) == 1
