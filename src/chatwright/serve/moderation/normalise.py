"""One spelling for texts that mean the same: against full-width letters, zero-width characters, look-alikes and spacing.

Training and inference both go through `normalise`, so a disguised word has the features of the plain one.
"""

from __future__ import annotations

import re
import unicodedata

MAX_CHARS = 20_000
_FROM = "аеорсухіјѕԁһӏӕԛԝαεορυντικωАВЕКМНОРСТУХІЈЅΑΒΕΖΗΙΚΜΝΟΡΤΥΧ"
_TO = "aeopcyxijsdhlæqwaeopuvtikwabekmhopctyxijsabezhikmnoptyx"
_LOOK_ALIKE = str.maketrans(_FROM, _TO)
_LEET = str.maketrans("013457@$!", "oieastasi")
# The traditional characters that are common in talk and differ in form; a full table is a dependency of its own.
_TRADITIONAL = (
    "們们個个這这來来說说對对時时會会沒没還还過过學学國国為为麼么樣样話话點点開开關关見见聽听讓让認认識识應应該该覺觉"
    "愛爱媽妈爺爷兒儿孫孙婦妇豬猪雞鸡馬马鳥鸟魚鱼龍龙貓猫頭头臉脸腦脑體体髒脏滾滚賤贱爛烂蟲虫殺杀戰战"
    "種种膚肤歐欧亞亚灣湾廣广東东門门區区鄉乡農农民民腳脚噁恶惡恶髮发發发貨货財财資资錢钱窮穷貧贫賊贼騙骗搶抢"
    "強强姦奸騷骚蕩荡處处嬌娇賣卖買买從从後后當当無无與与長长問问間间經经給给讀读書书寫写電电車车氣气歲岁歷历"
    "視视罵骂廢废傷伤壞坏壓压難难離离總总種种類类級级動动勞劳務务員员隊队軍军漢汉蘭兰韓韩"
)
_SIMPLIFIED = str.maketrans(
    {old: new for old, new in zip(_TRADITIONAL[::2], _TRADITIONAL[1::2], strict=True) if old != new}
)
_HAN = "\u3400-\u4dbf\u4e00-\u9fff"
_BETWEEN_HAN = re.compile(rf"(?<=[{_HAN}])[\s*._\-·~|/^]+(?=[{_HAN}])")
_SPELLED = re.compile(r"\b(?:[a-z][\s.*_\-]{1,2}){2,}[a-z]\b")
_LEET_WORD = re.compile(r"[a-z0-9@$!]*[a-z][013457@$!]+[a-z][a-z0-9@$!]*")
_REPEATED = re.compile(r"(.)\1{2,}")
_SPACES = re.compile(r"\s+")
_HAN_CHAR, _LATIN_WORD = re.compile(rf"[{_HAN}]"), re.compile(r"[a-z]{2,}")


def normalise(text: str) -> str:
    """The text that features are taken of: lower case, at most MAX_CHARS characters (the middle of longer ones is cut)."""
    if len(text) > MAX_CHARS:
        text = text[: MAX_CHARS // 2] + "\n" + text[-MAX_CHARS // 2 :]
    if not text.isascii():
        text = unicodedata.normalize("NFKC", text)
        decomposed = unicodedata.normalize("NFD", text)
        text = "".join(c for c in decomposed if unicodedata.category(c) not in ("Cf", "Mn", "Me", "Cc") or c in "\n\t")
        text = unicodedata.normalize("NFC", text).translate(_SIMPLIFIED)
        if re.search(r"[A-Za-z]", text):  # a text that is wholly Cyrillic or Greek is not a disguise
            text = text.translate(_LOOK_ALIKE)
    text = text.casefold()
    text = _BETWEEN_HAN.sub("", text)
    text = _SPELLED.sub(lambda match: re.sub(r"[^a-z]", "", match.group()), text)
    text = _LEET_WORD.sub(lambda match: match.group().translate(_LEET), text)
    return _SPACES.sub(" ", _REPEATED.sub(r"\1\1", text)).strip()


def languages(normalised: str) -> tuple[str, ...]:
    """Which views a normalised text is judged by: "zh" when it has Han characters, "en" when it has Latin words.

    A mixed text is judged by both. Others are in no language that the classifier knows: ()."""
    found = []
    if _HAN_CHAR.search(normalised):
        found.append("zh")
    if len(_LATIN_WORD.findall(normalised)) >= (3 if found else 1):
        found.append("en")
    return tuple(found)
