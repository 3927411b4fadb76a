"""Where somebody lives: streets with a number, in English and Chinese, and whatever a text calls an address.

A number and a name are asked for, so "Wall Street" and 人民路 stay. Words that end more than streets (Court, Place, Way)
count only when a unit, a postcode or a state follows, or words such as "live at" come before.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

Span = tuple[int, int]

_STRONG = "Street|St|Avenue|Ave|Road|Rd|Boulevard|Blvd|Lane|Ln|Drive|Parkway|Pkwy|Terrace|Crescent"
_WEAK = (
    "Dr|Court|Ct|Place|Pl|Square|Sq|Circle|Cir|Highway|Hwy|Way|Close|Row|Mews|Gardens|Grove|Hill|Park|Trail|Loop|Walk|Quay"
)
_POSTCODE = (
    r"(?:[A-Z]{2}\.?,? [0-9]{5}(?:-[0-9]{4})?|[A-Z]{1,2}[0-9][0-9A-Z]? [0-9][A-Z]{2}|[0-9]{5}(?:-[0-9]{4})?(?![0-9]))"
)
_UNIT = r"(?:(?:Apt|Apartment|Suite|Ste|Unit|Flat|Floor|Fl|Room|Rm|Bldg|Building)\.? ?#?[0-9A-Z]{1,5}|#[0-9A-Z]{1,5})"
_CITY = r"(?:[A-Z][A-Za-z.’'-]{1,20} ?){1,3}"
_STREET = re.compile(
    r"(?<![0-9A-Za-z.,$€£/-])(?<![$€£] )([0-9]{1,5})(?:[A-Z]|-[0-9]{1,4})?,? "
    r"(?:(?:N|S|E|W|NE|NW|SE|SW|North|South|East|West)\.? )?"
    r"(?:(?:[A-Z][A-Za-z’'-]{1,20}|[0-9]{1,3}(?:st|nd|rd|th)|St\.) ){1,4}"
    rf"(?:(?P<strong>{_STRONG})|(?P<weak>{_WEAK}))(?![A-Za-z’'])\.?"
    r"(?: (?:N|S|E|W|NE|NW|SE|SW|North|South|East|West)(?![A-Za-z]))?"
    rf"(?P<unit>,? {_UNIT}(?![0-9A-Za-z]))?"
    rf"(?P<end>(?:, {_CITY},? ?|,? |,?\n){_POSTCODE}|, {_CITY},? [A-Z]{{2}}(?![A-Za-z]))?"
)
_HERE = re.compile(
    r"(?:(?<![A-Za-z])(?:live[sd]?|living|located|resid(?:e[sd]?|ing)|moved?|home|house|apartment|flat|address|ship(?:ped)?|deliver(?:ed)?|"
    r"sen[dt]|mail(?:ed)?|come|meet me|parked)(?: [a-z]{1,12}){0,3}|address ?(?:is|:)?) ?$",
    re.IGNORECASE,
)
_YEAR = re.compile(r"(?:1[5-9]|20)[0-9]{2}")
# "20 Best Street Foods", "a 500 Mile Road trip": a street ends its phrase.
_ENDS = re.compile(
    r"\s*(?:$|[.,;:!?)\]\"'”’\n-]|(?:in|is|and|on|near|at|or|with|by|was|but|if|when|this|that|please|tomorrow|today)\b)"
)
_BOX = re.compile(r"(?<![A-Za-z])(?:P\.? ?O\.? Box|Postfach|Apartado(?: de correos)?) [0-9]{1,6}", re.IGNORECASE)
_CALLED = re.compile(
    r"(?:(?<![A-Za-z])(?:(?:my|our|his|her|their)(?: (?!e-?mail|ip|web|mac)[a-z]{1,12})?|home|mailing|postal|street|"
    r"shipping|billing|delivery|residential) address|家庭住址|家庭地址|收货地址|收件地址|通讯地址|联系地址|住址|"
    r"(?<=我的)地址|(?<=我家)地址)"
    r" ?(?:is|was|[:=]|是|为)? ?:? ?([^\n;。;]{6,120})",
    re.IGNORECASE,
)


_NEXT_THOUGHT = re.compile(r"[.!?] (?=[A-Z])|[,，](?= ?(?:and|but|my|please|请|电话|手机|我))| (?:and|but) (?=my|i\b)")


def find(text: str) -> Iterator[Span]:
    """Where addresses stand."""
    for found in _STREET.finditer(text):
        before = text[max(0, found.start() - 40) : found.start()]
        sure = found["unit"] or found["end"] or _HERE.search(before)
        ends = found[0].endswith(".") or _ENDS.match(text, found.end())
        # "In 1929 Wall Street fell": a year, unless more speaks for a house.
        if sure or (found["strong"] and ends and not _YEAR.fullmatch(found[1])):
            full_stop = found[0].endswith(".") and _ends_sentence(text, found.end())
            yield found.start(), found.end() - full_stop
    yield from (found.span() for found in _BOX.finditer(text))
    yield from _chinese(text)
    yield from _called(text)


def _ends_sentence(text: str, end: int) -> bool:
    return not text[end:].strip() or bool(re.match(r"\s+[A-Z]", text[end : end + 8])) or text[end : end + 1] == "\n"


def _called(text: str) -> Iterator[Span]:
    """What is called an address, up to the end of the sentence; it has to hold a number and more than one word."""
    for found in _CALLED.finditer(text):
        value = _NEXT_THOUGHT.split(found[1])[0].rstrip(" .,!?)\"'，。！")
        if re.search(r"(?<![0-9.:])[0-9]{1,6}(?![0-9.:%])", value) and re.search(r"[^\W\d_]{2}", value) and "@" not in value:
            yield found.start(1), found.start(1) + len(value)


# ---- Chinese -------------------------------------------------------------------------------------------------

_HAN = r"[\u4e00-\u9fff]"
_DOOR = r"(?:[0-9A-Za-z]{0,4}[一二三四五六七八九十东西南北]{0,3}(?:号楼|号院|号|栋|幢|座|单元|楼|层|门|室))"
_HOUSE = re.compile(
    rf"(?:(?<={_HAN})(?:大道|大街|路|街|巷|弄|胡同|里|村|道)(?:[东西南北中]段?)? ?[0-9]{{1,5}}(?:[-之][0-9]{{1,4}})? ?号"
    rf"(?!线|店|公路|国道|高速|台风|选手|球)"
    rf"|(?<={_HAN}) ?[0-9A-Z]{{1,4}} ?(?:号楼|栋|幢|座) ?(?:[0-9一二三四五六七八九十]{{1,3}} ?单元 ?)?"
    rf"[0-9]{{2,5}} ?(?:室|号|房)?(?![0-9]))"
    rf"(?:[,， ]?{_HAN}{{0,8}}?{_DOOR}){{0,5}}(?:[0-9]{{2,5}}(?![0-9]))?"
)
_REGION = re.compile(
    r"(?:北京|上海|天津|重庆|河北|山西|辽宁|吉林|黑龙江|江苏|浙江|安徽|福建|江西|山东|河南|湖北|湖南|广东|海南|四川|贵州|云南|陕西|"
    r"甘肃|青海|台湾|内蒙古|广西|西藏|宁夏|新疆|香港|澳门)"
)
_NOT_PLACE = re.compile(r"[^\u4e00-\u9fff0-9A-Za-z]|位于|坐落于|地址|寄往|为|是|到|在")
_WALK = 30  # characters before the street that may belong to it


def _chinese(text: str) -> Iterator[Span]:
    for found in _HOUSE.finditer(text):
        first = max(0, found.start() - _WALK)
        before = text[first : found.start()]
        start = max((cut.end() for cut in _NOT_PLACE.finditer(before)), default=0)
        region = _REGION.search(before, start)
        yield first + (region.start() if region else start), found.end()
