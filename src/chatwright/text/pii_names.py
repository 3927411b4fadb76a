"""Names of people, where a text says that one comes: "my name is Ada", "Best regards,\\nAda Lovelace", 我叫张伟.

Only behind such words: a list of names would take "Paris" and "Will" from every text, and a model that knows better does not
fit here. So most names in a text are not found; what is taken is nearly always one (docs/howto/intake.md has the counts).
"""

from __future__ import annotations

import re
from collections.abc import Iterator

Span = tuple[int, int]

_PARTICLES = "van|von|der|den|de|del|della|di|da|dos|la|le|bin|ibn|al|el|ter|af|av"
_UPPER = r"[A-Z\u00C0-\u00D6\u00D8-\u00DE\u0100-\u017F\u0391-\u03A9\u0410-\u042F]"
_WORD = rf"{_UPPER}(?:[^\W\d_]|[’'-](?=[^\W\d_])){{0,30}}"
_INITIAL = rf"{_UPPER}\."
_FULL = rf"(?:{_WORD}|{_INITIAL})(?: (?:(?:(?:{_PARTICLES}) ){{0,2}}{_WORD}|{_INITIAL})){{0,3}}"
_TITLE = r"(?:(?:Mr|Mrs|Ms|Miss|Mx|Dr|Prof)\.? )?"

# (?i:...) for the cue only: what follows counts as a name by its capitals.
_SAID = re.compile(
    rf"(?i:(?<![A-Za-z])(?:my|our (?:son|daughter|child|baby)[’']s) "
    rf"(?:(?:full|first|last|real|legal|middle|maiden|given|family) )?(?:name(?:[’']s| is| was)|surname(?: is|[’']s))) ?:? ?"
    rf"[\"“']?{_TITLE}({_FULL})"
)
_CALLED = re.compile(
    rf"(?i:(?<![A-Za-z])(?:i[’' ]?a?m called|people call me|you (?:can|may) call me|just call me)) [\"“']?({_FULL})"
)
_FIELD = re.compile(
    rf"(?im:^[ \t>*#-]{{0,6}}(?:full name|first name|last name|surname|patient(?: name)?|customer name|"
    rf"name of (?:patient|customer)|applicant|signed(?: by)?)[*_ ]{{0,3}}:[*_ ]{{0,3}}){_TITLE}({_FULL})"
)
_CLOSING = re.compile(
    rf"(?i:(?<![A-Za-z])(?:(?:best|kind|warm|kindest|warmest)(?: regards| wishes)?|regards|sincerely(?: yours)?|"
    rf"yours (?:truly|sincerely|faithfully)|respectfully|cordially),?[ \t]{{0,3}}\n{{1,3}}[ \t]{{0,3}}){_TITLE}({_FULL})"
    rf"(?=[ \t,]{{0,3}}(?:\n|$))"
)
_LOWER = re.compile(
    r"(?i:(?<![A-Za-z])my name(?:[’']s| is) )([a-z]{2,20})(?: ([a-z]{2,20}))?"
    r"(?=[ \t]*(?:[.,!?;:)\n]|$)| and i\b| i\b| from\b)"
)
# What stands there and is nobody's name.
_NOBODY = frozenset(
    "Your Name Mr Mrs The A An I My This That It He She We They You Chatgpt ChatGPT GPT Assistant Claude Gemini Bard Siri "
    "Alexa Copilot Llama Qwen AI Human User Bot Chatbot Customer Support Service Team Sales Management Admin Administration "
    "Staff Not Unknown Anonymous None Nobody Redacted Sincerely Regards Thanks".split()
)
_NO_NAMES = frozenset(
    "a an the not no on in at of is are was so very too just only also really actually unknown unique common spelled spelt "
    "pronounced written being listed correct wrong misspelled long short hard easy difficult boring old weird strange mud "
    "derived taken given changed mentioned missing important irrelevant secret here there what who i my your and or but it "
    "this that from because legion".split()
)


def find(text: str) -> Iterator[Span]:
    """Where names stand."""
    for pattern in (_SAID, _CALLED, _FIELD, _CLOSING):
        for found in pattern.finditer(text):
            if not _NOBODY & set(re.split(r"[ .]", found[1])):
                yield found.span(1)
    for found in _LOWER.finditer(text):
        if found[1] not in _NO_NAMES:
            yield found.start(1), found.end(2) if found[2] and found[2] not in _NO_NAMES else found.end(1)
    yield from _chinese(text)


# ---- Chinese -------------------------------------------------------------------------------------------------

_CUE_ZH = re.compile(
    r"(?:(?:我|俺|本人)(?:的)?(?:名字|姓名|全名|真名|大名)?(?:就)?(?:叫做|叫作|叫|名叫|是叫|名为)|(?:我|本人)的?(?:名字|姓名|全名|真名)(?:就)?是|"
    r"(?:姓名|联系人|收件人|患者|申请人|签名)(?: ?[:：] ?|是|为))"
)
# The commonest surnames (Ministry of Public Security, 2020) and compound ones; most people in China have one of these.
_SURNAMES = frozenset(
    "王李张刘陈杨黄赵吴周徐孙马朱胡郭何林罗高郑梁谢宋唐许韩邓冯曹彭曾肖田董潘袁蔡蒋余于杜叶程魏苏吕丁任卢姚沈钟姜崔谭陆范汪廖石金"
    "韦贾夏傅方邹熊白孟秦邱侯江尹薛闫段雷龙黎史陶贺毛郝顾龚邵万覃武钱戴严莫孔汤常温康施牛樊葛邢安齐易乔伍庞颜倪庄聂章鲁岳翟殷詹"
    "申欧耿关焦左柳甘祝包宁尚符舒阮柯纪梅童凌毕单季裴霍涂成苗谷盛曲翁冉骆蓝路游辛靳管柴蒙鲍华喻祁蒲房滕屈饶解牟艾尤阳穆农司卓古吉"
)
_COMPOUND = ("欧阳", "上官", "司马", "诸葛", "东方", "皇甫", "尉迟", "公孙", "慕容", "令狐", "夏侯", "司徒")
# What goes on after a given name of one character: 我叫张伟今年…
_GOES_ON = frozenset("今来是在的我你他她从毕年不和有要想住也现就,，。、,今是来去说以已家于与及并但因为男女岁")


def _chinese(text: str) -> Iterator[Span]:
    for cue in _CUE_ZH.finditer(text):
        start = cue.end() + (text[cue.end() : cue.end() + 1] in "“「\"'")
        if length := _length_of_name(text[start : start + 6]):
            yield start, start + length


def _length_of_name(text: str) -> int:
    """Characters of the Chinese name at the start of `text`; 0: there is none."""
    han = len(re.match(r"[\u3400-\u9fff·]*", text)[0])  # type: ignore[index]
    if text[:1] in "小阿老" and han == 2:
        return 2  # 小明, and nothing more
    surname = 2 if text.startswith(_COMPOUND) else 1 if text[:1] in _SURNAMES else 0
    if not surname or han <= surname:
        return 0
    given = min(2, han - surname)
    if given == 2 and text[surname + 1] in _GOES_ON:
        given = 1
    return surname + given if text[surname] not in _GOES_ON else 0
