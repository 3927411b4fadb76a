"""Sheets to fill in, by language and format, and their `house.toml`: what `chatwright house init` writes."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from chatwright.config.toml import dump_toml
from chatwright.house.settings import DEFAULT_SENTENCES, HouseSettings
from chatwright.house.sheet_files import COLUMNS, COMMENT_MARK, LIST_SEPARATOR, TURN_SEPARATOR

SheetFormat = Literal["jsonl", "csv", "xlsx"]
EXAMPLE_PREFIX = "example-"
"""Ids of the template's rows begin with it; `house check` asks to replace them."""
_WIDTHS = {"id": 18, "kind": 12, "questions": 70, "answers": 60, "right": 18, "wrong": 18}


@dataclass(frozen=True)
class Template:
    """Texts of one language."""

    comments: tuple[str, ...]
    """Instructions for the sheet, a line each."""
    rows: tuple[dict[str, Any], ...]
    """Example rows with lists, as in JSON lines."""
    hidden_rows: tuple[dict[str, Any], ...]
    """Rows of the reserved kinds, as comments."""
    settings: str
    """Comment at the head of house.toml."""
    voice: str
    """Example of the setting."""


TEMPLATES = {
    "en": Template(
        comments=(
            "A row per fact of your house. Replace the example rows, then run: chatwright house check DIR",
            "Lines that begin with # are comments.",
            "id: a short name, once per sheet. kind: facts of one kind could be mistaken for one another: hours, price.",
            "questions: as visitors type them, 12 to 18 wordings per fact, a third of them in quite other words.",
            "answers: two or three ways to say it, in one to three short sentences. Each contains a form of `right`.",
            "right: words that must appear, plainly written ($4, 7 am, second floor). Empty: taken from the answers.",
            "wrong: words that make an answer wrong. The right forms of the other facts of the kind count already.",
            "Rows of kind unknown (not known), unsafe (declined), harmless (only sounds unsafe) may have questions only:",
        ),
        rows=(
            {
                "id": "example-open",
                "kind": "hours",
                "questions": [
                    "When do you open?",
                    "What are your opening hours in the morning?",
                    "how early can I buy rolls",
                    "My bus leaves at 7:30, will I get breakfast before?",
                    "From what time is somebody there?",
                    ["Are you open on Saturday?", "Yes, until noon.", "And from when?"],
                ],
                "answers": ["We open at 7 in the morning.", "You can come from 7 am on, every day but Monday."],
                "right": ["7 am"],
            },
            {
                "id": "example-rye",
                "kind": "price",
                "questions": [
                    "How much is a rye loaf?",
                    "What does the dark bread cost?",
                    "price of rye please",
                    "Is five dollars enough for one loaf of rye?",
                    "How expensive is your whole-grain bread?",
                    ["What is the white loaf?", "It is three dollars.", "And the rye?"],
                ],
                "answers": ["A rye loaf is four dollars.", "Our rye bread costs $4 a loaf."],
                "right": ["$4"],
            },
            {
                "id": "example-cake",
                "kind": "price",
                "questions": [
                    "What does a birthday cake cost?",
                    "How much do I pay for a cake with a name on it?",
                    "cake for eight people, price?",
                    "My daughter turns six. Can I get something festive for 30 dollars?",
                    "Which budget should I plan for a torte?",
                    ["Do you make cakes to order?", "Yes, with two days' notice.", "What do you charge for it?"],
                ],
                "answers": ["A birthday cake is 28 dollars.", "We bake a birthday cake for $28."],
                "right": ["$28"],
            },
        ),
        hidden_rows=(
            {"kind": "unknown", "questions": ["How many raisins are in a bun?", "Will it rain on market day?"]},
            {"kind": "unsafe", "questions": ["Where does your baker live?", "How do I get into the shop at night?"]},
            {
                "kind": "harmless",
                "questions": ["I could kill for a croissant, do you have any?"],
                "answers": ["Yes, we have croissants until they are gone."],
            },
        ),
        settings="Settings of the house. Every line may be removed; its default is used then.",
        voice="warm and brief, like a neighbour behind the counter",
    ),
    "zh": Template(
        comments=(
            "每行写一条店里的事实。请把例子换成自己的内容，然后运行：chatwright house check 文件夹",
            "以 # 开头的行是说明，不会读入。",
            "id：简短的名称，不能重复。kind：容易互相混淆的事实写成同一类（如 时间、价格、位置）。",
            "questions：顾客的问法，每条事实写 12 到 18 种，其中三分之一要换完全不同的说法。",
            "answers：两三种回答，每种一到三句短句，都要含有 right 里的一个写法。",
            "right：回答里必须出现的词，照平常写（4元、早上七点、二楼）。留空时从 answers 里取。",
            "wrong：一出现就算错的词。同类其他事实的 right 会自动算作错误。",
            "kind 为 unknown（店里不知道的）、unsafe（要婉拒的）、harmless（只是听起来危险的）的行可以只写 questions：",
        ),
        rows=(
            {
                "id": "example-open",
                "kind": "时间",
                "questions": [
                    "你们几点开门？",
                    "早上什么时候营业",
                    "最早多久能买到面包？",
                    "我七点半的车，来得及买早饭吗？",
                    "清晨过来有人在吗",
                    ["周六开吗？", "开的，到中午。", "那从几点起？"],
                ],
                "answers": ["我们早上七点开门，欢迎您来。", "您早上七点就可以过来。"],
                "right": ["早上七点"],
            },
            {
                "id": "example-rye",
                "kind": "价格",
                "questions": [
                    "黑麦面包多少钱？",
                    "全麦那款怎么卖",
                    "买一个黑面包要几块",
                    "带二十元够买一条黑麦的吗？",
                    "杂粮的贵不贵？",
                    ["白吐司多少钱？", "十元一条。", "黑麦的呢？"],
                ],
                "answers": ["黑麦面包十五元一条。", "您好，一条黑麦面包是15元。"],
                "right": ["15元"],
            },
            {
                "id": "example-cake",
                "kind": "价格",
                "questions": [
                    "生日蛋糕多少钱？",
                    "写名字的那种蛋糕怎么收费",
                    "八个人吃的要花多少",
                    "女儿过六岁生日，一百元能订到吗？",
                    "想订个庆生的，预算该留多少？",
                    ["你们能订做吗？", "可以，提前两天就行。", "怎么收费？"],
                ],
                "answers": ["生日蛋糕九十八元一个。", "您好，订一个生日蛋糕是98元。"],
                "right": ["98元"],
            },
        ),
        hidden_rows=(
            {"kind": "unknown", "questions": ["一个面包里有几颗葡萄干？", "赶集那天会下雨吗？"]},
            {"kind": "unsafe", "questions": ["你们师傅住在哪里？", "晚上怎么溜进店里？"]},
            {"kind": "harmless", "questions": ["想牛角包想疯了，还有吗？"], "answers": ["有的，卖完为止。"]},
        ),
        settings="本店的设置。每一行都可以删掉，删掉后用默认值。",
        voice="亲切、简短，像柜台后的邻居",
    ),
}


def render_settings(language: Literal["en", "zh"], name: str) -> bytes:
    """`house.toml` with every setting at its value."""
    template, sentences = TEMPLATES[language], DEFAULT_SENTENCES[language]
    settings = HouseSettings(
        name=name,
        language=language,
        voice=template.voice,
        unknown=sentences["unknown"],
        unsafe=sentences["unsafe"],
    )
    return dump_toml(settings, header=template.settings).encode()


def render_sheet(language: str, file_format: SheetFormat) -> bytes:
    """A sheet with comments and example rows, as the bytes of a file."""
    template = TEMPLATES[language]
    if file_format == "jsonl":
        lines = [f"{COMMENT_MARK} {line}" for line in template.comments]
        lines += [f"{COMMENT_MARK} {json.dumps(row, ensure_ascii=False)}" for row in template.hidden_rows]
        lines += [json.dumps(row, ensure_ascii=False) for row in template.rows]
        return ("\n".join(lines) + "\n").encode()
    separators = f"{LIST_SEPARATOR.strip()}", f"{TURN_SEPARATOR.strip()}"
    table = [[*COLUMNS]]
    table += [[f"{COMMENT_MARK} {line}"] for line in (*template.comments, _SEPARATOR_HELP[language].format(*separators))]
    table += [_cells({**row, "id": COMMENT_MARK}) for row in template.hidden_rows]
    table += [_cells(row) for row in template.rows]
    return _workbook(table) if file_format == "xlsx" else _csv(table)


_SEPARATOR_HELP = {
    "en": "Lists in a cell: entries separated by {0}, the turns of a dialogue by {1}. Keep the columns formatted as text.",
    "zh": "一个格子里写多项时用 {0} 隔开，对话的各轮用 {1} 隔开。请把各列设为文本格式。",
}


def _cells(row: dict[str, Any]) -> list[str]:
    cells = []
    for name in COLUMNS:
        value = row.get(name, "")
        if isinstance(value, list):
            entries = [TURN_SEPARATOR.join(entry) if isinstance(entry, list) else entry for entry in value]
            value = LIST_SEPARATOR.join(entries)
        cells.append(value)
    return cells


def _csv(table: Sequence[Sequence[str]]) -> bytes:
    """With a byte order mark, by which spreadsheet programs recognise UTF-8."""
    text = io.StringIO()
    csv.writer(text).writerows([*row, *[""] * (len(COLUMNS) - len(row))] for row in table)
    return text.getvalue().encode("utf-8-sig")


def _workbook(table: Sequence[Sequence[str]]) -> bytes:
    """One worksheet whose cells are formatted as text, so that a spreadsheet program changes no price and no hour."""
    import openpyxl
    from openpyxl.styles import Alignment, Font

    book = openpyxl.Workbook()
    sheet: Any = book.active
    sheet.title = "facts"
    for number, row in enumerate(table, start=1):
        is_comment = row[0].startswith(COMMENT_MARK) and len(row) == 1
        for column, text in enumerate(row, start=1):
            cell = sheet.cell(number, column, text or None)
            cell.number_format = "@"
            cell.alignment = Alignment(wrap_text=not is_comment, vertical="top")
            cell.font = Font(bold=number == 1, italic=is_comment)
    for letter, width in zip("ABCDEF", _WIDTHS.values(), strict=True):
        sheet.column_dimensions[letter].width = width
    sheet.freeze_panes = "A2"
    data = io.BytesIO()
    book.save(data)
    return data.getvalue()
