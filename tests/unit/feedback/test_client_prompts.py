from __future__ import annotations

import pytest

from chatwright.feedback.client_prompts import KINDS, background_kind
from chatwright.records import conversation, user

HISTORY = "\n### Chat History:\n<chat_history>\nUSER: How do I bake bread?\nASSISTANT: With flour.\n</chat_history>"
# Openings of requests as the clients send them (facts of their interfaces), shortened.
BACKGROUND = [
    ("title", user("### Task:\nGenerate a concise, 3-5 word title with an emoji summarizing the chat history." + HISTORY)),
    ("tags", user("### Task:\nGenerate 1-3 broad tags categorizing the main themes of the chat history." + HISTORY)),
    ("follow_ups", user("### Task:\nSuggest 3-5 relevant follow-up questions or prompts." + HISTORY)),
    (
        "search_query",
        user("### Task:\nAnalyze the chat history to determine the necessity of generating search queries" + HISTORY),
    ),
    (
        "autocomplete",
        user("### Task:\nYou are an autocompletion system. Continue.\n<type>General</type><text>The</text>"),
    ),
    ("image_prompt", user("### Task:\nGenerate a detailed prompt for am image generation task." + HISTORY)),
    (
        "retrieved_context",
        user("### Task:\nRespond to the user query using the provided context.\n<context><source id=1>x</source></context>"),
    ),
    ("task", user("### Task:\nTell the mood of the speaker.\n### Output:\nJSON format: {}" + HISTORY)),
    (
        "title",
        user(
            "Provide a concise, 5-word-or-less title for the conversation, using its same language, with no punctuation.\n"
            "\nConversation:\nUser: Hi\nAI: Hello"
        ),
    ),
    (
        "title",
        conversation(
            ("system", "You are a professional conversation summarizer. Generate a concise title that captures it."),
            ("user", "user: hi\nassistant: hello"),
        ),
    ),
    (
        "title",
        conversation(
            ("system", "你是一名擅长会话的助理，你需要将用户的会话总结为 10 个字以内的标题"), ("user", "user: 你好")
        ),
    ),
    ("title", user("user: 你好\n\n请总结上述对话为10个字以内的标题，不需要包含标点符号")),
    (
        "title",
        conversation(
            ("user", "Hi"), ("assistant", "Hello"),
            ("user", "Please generate a four to five word title summarizing our conversation without any lead-in."),
        ),
    ),
    ("title", user("使用四到五个字直接返回这句话的简要主题，不要解释、不要标点")),
    ("title", user("Write a short title for this conversation. Reply with the title only, no quotes.\n\nUser: hi")),
    ("summary", user("Summarize the discussion briefly in 200 words or less to use as a prompt for future context.")),
    ("summary", user("简要总结一下对话内容，用作后续的上下文提示 prompt，控制在 200 字以内")),
]  # fmt: skip
PEOPLE = [
    "Generate a concise title for my novel about bread",
    "Suggest three titles for an essay on the conversation between Plato and Socrates",
    "What is a good title for this conversation piece in my living room? It is a lamp.",
    "### Task: write a poem",
    "### Task:\nFind the bug in this program.\n```\nprint(1/0)\n```",
    "Task: Generate 5 tags for my blog post about baking",
    "Please summarize the following article in 200 words or less: ...",
    "请为我的小说起一个标题",
    "请总结上述内容",
    "How does Open WebUI generate titles of chats?",
    "You are an autocompletion expert: explain how tries work.",
    "帮我写一封邮件，主题是会议改期",
]


@pytest.mark.parametrize(("kind", "messages"), BACKGROUND)
def test_requests_of_clients_are_known(kind: str, messages: tuple) -> None:  # type: ignore[type-arg]
    assert background_kind(messages) == kind and kind in KINDS


@pytest.mark.parametrize("text", PEOPLE)
def test_questions_of_people_are_not(text: str) -> None:
    assert background_kind(user(text)) == ""


def test_a_client_that_hides_the_conversation_between_is_known() -> None:
    long = "words " * 20_000
    text = f"### Task:\nGenerate a concise, 3-5 word title.\n{long}<chat_history>x</chat_history>"
    assert background_kind(user(text)) == "title"
    assert background_kind(user(f"user: {long}\n请总结上述对话为10个字以内的标题")) == "title"


def test_a_system_prompt_of_a_person_is_no_request_of_a_client() -> None:
    told = conversation(("system", "You are a helpful assistant. Give your answers titles."), ("user", "What is bread?"))
    assert background_kind(told) == ""
