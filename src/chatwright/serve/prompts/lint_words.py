"""The words of the linter's rules, in English and Chinese, and what it says about each rule."""

# A pattern cut into pieces is harder to check than a long line.
# ruff: noqa: E501

from __future__ import annotations

import re


def _any(*patterns: str) -> tuple[re.Pattern[str], ...]:
    return tuple(re.compile(pattern, re.IGNORECASE | re.MULTILINE) for pattern in patterns)


WORDS = re.compile(r"[\u4e00-\u9fff]|[^\W_\u4e00-\u9fff]+")
SENTENCE_END = re.compile(r"[.!?。！？\n]")
SINGLE_BRACE = re.compile(r"(?<!\{)\{[a-z_][a-z0-9_]{0,40}\}(?!\})")
ROLE = _any(
    r"(?:^[ \t]*|[.!?][ \t]*|\band\s|\bnow\s)(?:you are|act as|pretend to be|you will be)\s+(?:an?|the)\s+(?P<role>[a-z][a-z \-]{2,40}?)"
    r"(?=[.,;:!?\n]|$|\s+(?:who|that|for|with|and|of|in|at|helping|writing|speaking)\b)",
    r"(?:你是|请?扮演|你将作为|请?充当)(?:一[名位个只])?(?P<role>[\u4e00-\u9fff]{2,12}?)(?=[，。；：！？,.;:\n]|$)",
)
_SHORT_EN = r"\b(?:be (?:very )?(?:brief|concise|short)|keep (?:it|your answer|the answer) (?:very )?(?:brief|short|concise)|briefly)\b"
_LONG_EN = r"\b(?:in (?:great|full|as much) detail|be (?:as )?(?:thorough|detailed|comprehensive|exhaustive)|very detailed|at length)\b"
_SHORT_ZH = r"(?:简短|简洁|简明|言简意赅|一句话)(?:地|的)?"
_LONG_ZH = r"(?:详尽|尽可能详细|非常详细|长篇|面面俱到)"
CONTRADICTIONS: tuple[tuple[re.Pattern[str], re.Pattern[str]], ...] = tuple(
    (re.compile(one, re.IGNORECASE), re.compile(other, re.IGNORECASE))
    for one, other in (
        (_SHORT_EN, _LONG_EN),
        (_SHORT_ZH, _LONG_ZH),
        (r"\b(?:formal tone|formally|be formal)\b", r"\b(?:casual tone|casually|be casual|informal)\b"),
        (r"正式的?(?:语气|口吻)", r"(?:口语化|随意的?(?:语气|口吻)|轻松的?口吻)"),
        (r"\b(?:only|nothing but) (?:valid )?json\b", r"\b(?:explain your|in markdown|bullet points?|as a table)\b"),
        (r"只(?:输出|返回|回复) ?JSON", r"(?:解释你的|并说明理由|用表格|Markdown)"),
        (r"\b(?:answer|reply|respond|write) only in english\b", r"\b(?:answer|reply|respond|write) (?:only )?in (?:chinese|french|german|spanish)\b"),
        (r"只用中文(?:回答|回复)", r"用(?:英文|英语)(?:回答|回复)"),
        (r"\b(?:do not|don't|never) use (?:bullet points|lists)\b", r"\b(?:use|as|in|with) (?:a )?(?:bulleted list|bullet points|numbered list)\b(?<!not use bullet points)(?<!n't use bullet points)(?<!never use bullet points)"),
        (r"不要(?:使用|用)列表", r"(?<!不要)(?<!不要使)用列表(?:形式|回答|列出)"),
    )
)  # fmt: skip
_COUNT = r"(?P<n>\d+|one|two|three|four|five|six|seven|eight|nine|ten)"
EXACT_LENGTH = _any(
    rf"\b(?:in|exactly|write|use|give)\s+(?:exactly\s+)?{_COUNT}\s+(?P<unit>words?|sentences?|paragraphs?|bullet points)\b",
    r"(?:用|恰好|正好|写)(?P<n>\d+|[一二两三四五六七八九十])(?P<unit>个字|句话|段话|个要点)",
)
UNITS = {"bullet point": "point"}
NUMBERS = {word: n for n, word in enumerate("one two three four five six seven eight nine ten".split(), start=1)} | {
    word: n for n, word in enumerate("一二三四五六七八九十", start=1)
} | {"两": 2}  # fmt: skip
VAGUE = _any(
    r"\b(?:something|stuff|things) (?:good|nice|interesting|cool|like that)\b|\betc\.?,? etc\b|\band so on and so forth\b",
    r"\bmake it (?:better|good|nicer|pop|great|more interesting)\b|\bimprove (?:it|this)[.!]?\s*$",
    r"\b(?:as appropriate|if necessary, do what is needed|you know what i mean|do your thing)\b",
    r"(?:写得?好一点|弄好看点|你懂的|随便写写|差不多就行|改得?更好)",
)
WRITES = _any(
    r"(?:^[ \t]*|[.!?][ \t]*)(?:please\s+)?(?:write|draft|compose|create|produce)\s+(?:me\s+)?(?:an?|the|some)\s+(?:\w+\s+){0,3}?"
    r"(?:article|essay|report|blog post|guide|tutorial|explanation|description|introduction|documentation|text|post)\b",
    r"(?:^[ \t]*|[。！？，][ \t]*)请?(?:帮我|为我)?写(?:一[篇份个段])[\u4e00-\u9fff]{0,12}?(?:文章|报告|指南|教程|介绍|说明|博客|文案|短文)",
)
AUDIENCE = _any(
    r"\bfor\s+(?!example\b|instance\b|the (?:following|topic))(?:an?\s+|the\s+|our\s+|my\s+|your\s+)?(?:[\w\-]+\s+){0,3}?(?:children|kids?|child|"
    r"students?|beginners?|experts?|developers?|readers?|users?|customers?|managers?|engineers?|teachers?|patients?|parents?|"
    r"audience|people|adults?|professionals?|colleagues?|team|class|visitors?|newcomers?|year-olds?|year-old|board|scientists?|"
    r"general public|public|\{\{)",
    r"\b(?:audience|readers?|aimed at|targeted at|reading level|suitable for|written for|addressed to)\b|for \{\{|\bexpert\b",
    r"(?:面向|针对|写给|给[\u4e00-\u9fff]{1,10}(?:看|读|的)|读者|受众|适合|为[\u4e00-\u9fff]{1,10}(?:写|撰写|准备)|对象)",
)
FORMAT = _any(
    r"\b(?:\d+|one|two|three|four|five|six|ten|a few)[\s-]+(?:words?|sentences?|paragraphs?|pages?|lines?|sections?|bullet|points|steps)\b",
    r"\b(?:bullet|numbered|list|table|json|markdown|html|csv|headings?|sections|format|outline|template|structure|maximum|at most|no more "
    r"than|short|brief|concise|words?|paragraphs?|sentences?)\b",
    r"(?:\d+ ?字|[一二两三四五六七八九十百千]+(?:个?字|句|段|点|部分|步)|不超过|列表|表格|要点|分点|格式|标题|段落|小节|简短|简洁|Markdown|JSON|结构)",
)
FOREIGN = re.compile(
    r"(?:^|_)(?:text|input|content|document|doc|article|email|message|review|comment|transcript|passage|query|user|data|page|"
    r"context|reply|post|body)s?(?:$|_)|文本|内容|文章|邮件|评论|输入|原文|留言",
    re.IGNORECASE,
)
OPENS = re.compile(r"(?:<[\w\-]+>|```\w*|\"\"\"|'''|---+|===+|###+|\[[\w ]+\]|[\"“「『《]|(?:[:：]\s*\n))\s*$")
CLOSES = re.compile(r"\s*(?:</[\w\-]+>|```|\"\"\"|'''|---+|===+|###+|\[/[\w ]+\]|[\"”」』》]|$)")
CODE = re.compile(r"```.*?```|`[^`\n]{0,500}`|<[^<>\n]{0,200}>|https?://\S{1,500}|\"[^\"\n]{0,500}\"|“[^“”\n]{0,500}”|「[^「」\n]{0,500}」", re.DOTALL)
HAN = re.compile(r"[\u4e00-\u9fff]")
LATIN_WORD = re.compile(r"[A-Za-z]+")
SLOT = re.compile(r"\{\{[^{}\n]{0,200}\}\}")
TRANSLATES = re.compile(r"translat|bilingual|\bchinese\b|\benglish\b|翻译|译成|译为|双语|英文|英语|中文|汉语", re.IGNORECASE)
PROHIBITS = _any(r"\b(?:do not|don't|never|avoid|must not)\b", r"(?:不要|不能|不得|禁止|切勿|别)(?=[\u4e00-\u9fff])")

# rule -> language -> (explanation, suggestion)
EXPLAINED: dict[str, dict[str, tuple[str, str]]] = {
    "empty": {
        "en": ("The prompt is empty.", "Say what is to be done."),
        "zh": ("提示词是空的。", "请写明要做什么。"),
    },
    "bad-variable": {
        "en": ("A variable cannot be read: {quote}", "Write {{name}} or {{name|default}}."),
        "zh": ("变量无法识别：{quote}", "请写成 {{name}} 或 {{name|默认值}}。"),
    },
    "single-brace": {
        "en": ("{quote} looks like a variable, but single braces are sent as they are.", "Write two braces on each side."),
        "zh": ("{quote} 像变量，但单层花括号会原样发送。", "请两边各写两个花括号。"),
    },
    "unused-variable": {
        "en": ("A value is given for {quote}, which the text does not use.", "Use it in the text or leave it out."),
        "zh": ("给出了 {quote} 的值，但文中没有用到。", "请在文中使用或删去。"),
    },
    "undefined-variable": {
        "en": ("{quote} has no value and no default.", "Give a value, or a default: {{name|default}}."),
        "zh": ("{quote} 既没有值也没有默认值。", "请给出值或默认值：{{name|默认值}}。"),
    },
    "two-roles": {
        "en": ("“{quote}” gives a second role: models then mix the two.", "Keep one role, or say when each applies."),
        "zh": ("“{quote}”给出了第二个角色，模型会把两者混在一起。", "请只保留一个角色，或说明各自何时适用。"),
    },
    "contradiction": {
        "en": ("“{quote}” contradicts something that was asked for elsewhere.", "Decide for one of the two."),
        "zh": ("“{quote}”与别处的要求矛盾。", "请二选一。"),
    },
    "too-long": {
        "en": ("The prompt has {quote} words: what stands in the middle is easily overlooked.", "Cut it, or split the task."),
        "zh": ("提示词有 {quote} 个词，中间的内容容易被忽略。", "请精简，或拆分任务。"),
    },
    "vague": {
        "en": ("“{quote}” can mean anything.", "Say what you would check in the answer."),
        "zh": ("“{quote}”含义不清。", "请写出您会如何检查回答。"),
    },
    "no-audience": {
        "en": ("“{quote}”: for whom is not said, so level and tone are a guess.", "Name the readers: for beginners, for our team."),
        "zh": ("“{quote}”：没有说明写给谁，难度和语气只能靠猜。", "请写明读者，例如：面向初学者。"),
    },
    "no-format": {
        "en": ("“{quote}”: neither length nor form is said.", "Say how long and in what form: three paragraphs, a table."),
        "zh": ("“{quote}”：没有说明长度和形式。", "请写明长度和形式，例如：三段、表格。"),
    },
    "open-slot": {
        "en": ("{quote} holds other people's text and nothing sets it apart: orders in it read like yours.",
               "Put it between marks, such as <text> and </text>, and say that it is material, not orders."),
        "zh": ("{quote} 会填入他人的文本，却没有分隔：其中的指令会被当成您的指令。",
               "请放在标记之间，例如 <text> 与 </text>，并说明其中只是材料。"),
    },
    "mixed-languages": {
        "en": ("Instructions are in two languages; “{quote}” is in the other one. The answer may come in either.",
               "Write in one language, or name the language of the answer."),
        "zh": ("指令使用了两种语言，“{quote}”是另一种；回答可能是任意一种。", "请统一语言，或写明回答所用语言。"),
    },
    "only-prohibitions": {
        "en": ("The prompt says what not to do and never what to do.", "Add what a good answer does."),
        "zh": ("提示词只说不要做什么，没有说要做什么。", "请补充好的回答应当怎样。"),
    },
}  # fmt: skip
