"""Personal data out of texts, before anything is stored: each piece is replaced by a placeholder that tells its kind.

What is found: e-mail addresses, telephone numbers, bank cards (Luhn), IBANs (mod 97), identity numbers (mainland China with
its checksum and birthday, Hong Kong and Taiwan with theirs, US social security, those of `national_ids.py`), IP and MAC
addresses, credentials in URLs, private keys, tokens and passwords; names behind words that announce one (`pii_names.py`),
English and Chinese streets with a number (`pii_addresses.py`). Not found: other names, addresses of other shapes unless a
text calls them one, birthdays, what is spelled in words.

Numbers that prove nothing are left alone: dates, prices, versions, times, ISBNs, addresses of private networks.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import AddressValueError, IPv4Address, IPv6Address
from itertools import chain

from phonenumbers import Leniency, NumberParseException, PhoneNumberMatcher, is_valid_number, parse

from chatwright.text import id_numbers, national_ids, pii_addresses, pii_names

Span = tuple[int, int]
MAX_PHONE_DIGITS = 15  # ITU-T E.164


@dataclass(frozen=True, kw_only=True)
class Scrubbed:
    """A text without the personal data that was found in it."""

    text: str
    """With placeholders such as `[EMAIL]`."""
    found: Mapping[str, int]
    """How many of each kind were replaced."""


def scrub(text: str, *, leave: Collection[str] = ()) -> Scrubbed:
    """Replace what is personal, but for kinds to `leave`. Time grows with the length of the text, whatever it holds."""
    view, places = _plain(text)
    taken, spans = bytearray(len(view)), []
    for kind, find in _FINDERS:
        if kind in leave:
            continue
        for start, end in find(view):
            # Kinds come in order of certainty: what one has taken, later ones leave.
            if not any(taken[start:end]):
                taken[start:end] = b"\1" * (end - start)
                spans.append((start, end, kind))
    pieces, last = [], 0
    for start, end, kind in sorted(spans):
        pieces += [text[last : places[start]], f"[{kind}]"]
        last = places[end - 1] + 1
    return Scrubbed(text="".join([*pieces, text[last:]]), found=dict(Counter(kind for _, _, kind in spans)))


def _plain(text: str) -> tuple[str, list[int]]:
    """The text in plain characters (full-width forms, dashes and digits of all scripts as ASCII; invisible ones left out),
    and where each of them stood."""
    if text.isascii():
        return text, list(range(len(text)))
    characters, places = [], []
    for place, character in enumerate(text):
        plain = character if character.isascii() else _plain_character(character)
        if plain:
            characters.append(plain)
            places.append(place)
    return "".join(characters), places


@lru_cache(maxsize=4096)
def _plain_character(character: str) -> str:
    category = unicodedata.category(character)
    if category == "Cf":
        return ""
    if category == "Nd":
        return str(unicodedata.decimal(character))
    if category == "Pd" or character == "\u2212":
        return "-"
    if category == "Zs":
        return " "
    folded = unicodedata.normalize("NFKC", character)
    return folded if len(folded) == 1 and folded.isascii() else character


# ---- credentials ---------------------------------------------------------------------------------------------

_URL_LOGIN = re.compile(r"(?<=://)[^\s/@:\[\]]{0,256}:[^\s/@]{1,256}(?=@)")
_URL_SECRET = re.compile(
    r"(?<=[?&])(?:access_token|refresh_token|id_token|api_?key|apikey|key|token|secret|client_secret|password|passwd|pwd|"
    r"sig|signature|auth|x-amz-signature|x-amz-credential)=([^&\s#\"'<>]{6,2048})",
    re.IGNORECASE,
)
_TOKENS = re.compile(
    r"(?<![0-9A-Za-z_-])(?:"
    r"sk-[0-9A-Za-z_-]{16,256}|cw-[0-9A-Za-z_-]{32,64}|gh[pousr]_[0-9A-Za-z]{30,255}|github_pat_[0-9A-Za-z_]{22,255}|"
    r"glpat-[0-9A-Za-z_-]{16,64}|(?:AKIA|ASIA)[0-9A-Z]{16}|AIza[0-9A-Za-z_-]{35}|ya29\.[0-9A-Za-z_-]{20,512}|"
    r"xox[abeprs]-[0-9A-Za-z-]{10,255}|hf_[0-9A-Za-z]{30,64}|npm_[0-9A-Za-z]{36}|pypi-[0-9A-Za-z_-]{50,512}|"
    r"(?:sk|rk|pk)_(?:live|test)_[0-9A-Za-z]{16,128}|LTAI[0-9A-Za-z]{12,24}|AKID[0-9A-Za-z]{32}|"
    r"eyJ[0-9A-Za-z_-]{8,4096}\.[0-9A-Za-z_-]{8,8192}\.[0-9A-Za-z_-]{8,2048}"
    r")(?![0-9A-Za-z_-])"
)
_BEARER = re.compile(r"(?<![A-Za-z])(?:Bearer|Basic)\s{1,4}([0-9A-Za-z+/=._~-]{16,4096})", re.IGNORECASE)
_LABELLED = re.compile(
    r"(?:(?<![A-Za-z])(?:pass(?:word|wd|code|phrase)?|pwd|secret(?:[ _-]?key)?|api[ _-]?key|access[ _-]?key|auth[ _-]?token|"
    r"access[ _-]?token|pin(?: code)?)|密码|口令|密钥|验证码)[\"']?"
    r"\s{0,4}(?:(?<=\s)is|[:=]|是|为)\s{0,4}[\"'`]?([^\s\"'`<>,;()\[\]{}，。；、（）]{4,256})",
    re.IGNORECASE,
)
_KEY_BEGIN = re.compile(r"-----BEGIN [A-Z ]{0,40}PRIVATE KEY(?: BLOCK)?-----")
_KEY_END = re.compile(r"-----END [A-Z ]{0,40}PRIVATE KEY(?: BLOCK)?-----")


def _private_keys(text: str) -> Iterator[Span]:
    place = 0
    while (begin := _KEY_BEGIN.search(text, place)) is not None:
        end = _KEY_END.search(text, begin.end())
        place = end.end() if end else len(text)  # a key that is cut off is one to its end
        yield begin.start(), place


def _secrets(text: str) -> Iterator[Span]:
    yield from (found.span() for found in _TOKENS.finditer(text))
    yield from (found.span(1) for found in _URL_SECRET.finditer(text))
    yield from (found.span(1) for found in _BEARER.finditer(text) if any(c.isdigit() for c in found[1]))


def _passwords(text: str) -> Iterator[Span]:
    for found in _LABELLED.finditer(text):
        value = found[1].rstrip(".!?:")
        # "password: required" is a word about passwords; what people set has digits nearly always.
        if len(value) >= 4 and any(c.isdigit() for c in value):
            yield found.start(1), found.start(1) + len(value)


# ---- addresses -----------------------------------------------------------------------------------------------

_LOCAL = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789.!#$%&'*+/=?^_`{|}~-")
_DOMAIN = re.compile(
    r"@(?:[0-9A-Za-z](?:[0-9A-Za-z-]{0,61}[0-9A-Za-z])?\.){1,8}(?:xn--[0-9A-Za-z-]{1,59}|[A-Za-z]{2,24})(?![0-9A-Za-z])"
)
_SPELLED = re.compile(
    r"(?<![0-9A-Za-z._-])[0-9A-Za-z._-]{1,64}\s?[\[(]\s?at\s?[\])]\s?[0-9A-Za-z-]{1,63}"
    r"(?:\s?(?:\.|[\[(]\s?dot\s?[\])])\s?[0-9A-Za-z-]{2,63}){1,4}",
    re.IGNORECASE,
)
_IPV4 = re.compile(r"(?<![0-9A-Za-z.])(?:[0-9]{1,3}\.){3}[0-9]{1,3}(?![0-9A-Za-z]|\.[0-9])")
_IPV6 = re.compile(r"(?<![0-9A-Za-z:.])[0-9A-Fa-f]{0,4}(?::[0-9A-Fa-f]{0,4}){2,7}(?![0-9A-Za-z:])")
_MAC = re.compile(r"(?<![0-9A-Za-z:-])[0-9A-Fa-f]{2}(?:([:-])[0-9A-Fa-f]{2})(?:\1[0-9A-Fa-f]{2}){4}(?![0-9A-Za-z:-])")
_VERSION = re.compile(r"(?:version|ver\.?|release|v|版本号?)[\s:=]{0,3}$", re.IGNORECASE)
_RESOLVERS = {"8.8.8.8", "8.8.4.4", "1.1.1.1", "1.0.0.1", "9.9.9.9", "114.114.114.114", "223.5.5.5", "119.29.29.29"}
_OPEN_BLOCKS = ("10.", "127.", "192.168.", "169.254.", "255.", "0.")


def _emails(text: str) -> Iterator[Span]:
    for found in _DOMAIN.finditer(text):
        start = found.start()
        while start > 0 and found.start() - start < 64 and text[start - 1] in _LOCAL:
            start -= 1
        while start < found.start() and text[start] in "./='`*{|!?":  # quotation and markup before the address
            start += 1
        if start < found.start() and text[start : found.start()] != "git":  # git@github.com is nobody's
            yield start, found.end()
    yield from (found.span() for found in _SPELLED.finditer(text))


def _ip_addresses(text: str) -> Iterator[Span]:
    for found in _IPV4.finditer(text):
        try:
            address = IPv4Address(found[0])
        except AddressValueError:
            continue
        private_172 = int(address) >> 20 == (172 << 4 | 1)  # 172.16.0.0/12
        open_to_all = found[0].startswith(_OPEN_BLOCKS) or found[0] in _RESOLVERS or address.is_multicast or private_172
        if not open_to_all and not _VERSION.search(text[max(0, found.start() - 12) : found.start()]):
            yield found.span()
    for found in _IPV6.finditer(text):
        groups = [group for group in found[0].split(":") if group]
        if len(groups) < 3 or not any(c.isdigit() for c in found[0]):
            continue  # `a::b` is a name in a program
        try:
            address6 = IPv6Address(found[0])
        except AddressValueError:
            continue
        if not (address6.is_loopback or address6.is_link_local or address6.is_multicast):
            yield found.span()


def _mac_addresses(text: str) -> Iterator[Span]:
    return (found.span() for found in _MAC.finditer(text))


# ---- numbers -------------------------------------------------------------------------------------------------

# Groups of fixed lengths: with free ones a long run of digits could be split in endless ways.
_CARD = re.compile(
    r"(?<![0-9A-Za-z.,_/-])(?:[2-6][0-9]{3}(?:[ -]?[0-9]{4}){2,3}(?:[ -]?[0-9]{1,3})?|3[0-9]{3}[ -]?[0-9]{6}[ -]?[0-9]{4,5}|"
    r"62[0-9]{4}[ -]?[0-9]{10,13})(?![0-9A-Za-z_])(?![.,-][0-9])"
)
_IBAN = re.compile(
    r"(?<![0-9A-Za-z])[A-Z]{2}[0-9]{2}(?:(?: [0-9A-Z]{4}){2,7}(?: [0-9A-Z]{1,3})?|[0-9A-Z]{11,30})(?![0-9A-Za-z])"
)
_CN_MOBILE = re.compile(
    r"(?<![0-9A-Za-z._-])(?:(?:\+|00)?86[ -]?)?(1[3-9][0-9](?:[ -]?[0-9]{4}){2})(?![0-9A-Za-z_])(?![.-][0-9])"
)
_CN_LANDLINE = re.compile(
    r"(?<![0-9A-Za-z.-])(?:\(0[0-9]{2,3}\) ?|0[0-9]{2,3}-)[2-9][0-9]{6,7}(?:-[0-9]{1,5})?(?![0-9A-Za-z-])"
)
_NANP = re.compile(
    r"(?<![0-9A-Za-z.-])(?:\+?1[ .-]?)?(?:\([0-9]{3}\) ?|[2-9][0-9]{2}[.-])[0-9]{3}[. -][0-9]{4}"
    r"(?![0-9A-Za-z-])(?!\.[0-9])"
)
_PHONE_LABEL = re.compile(
    r"(?:(?<![A-Za-z])(?:tel(?:ephone)?|phone(?: number)?|mobile(?: number)?|cell(?:phone)?|whatsapp|fax|"
    r"(?:call|reach|text) me (?:at|on))|电话号码?|手机号?码?|座机|联系方式|传真)\.?\s{0,3}(?:is|no\.?|[:#=]|是|为)?\s{0,3}"
    r"(\+?[0-9(][0-9 ()./-]{5,22}[0-9])(?![0-9A-Za-z])",
    re.IGNORECASE,
)


def _cards(text: str) -> Iterator[Span]:
    for found in _CARD.finditer(text):
        if id_numbers.is_bank_card(re.sub("[ -]", "", found[0])):
            yield found.span()


def _ibans(text: str) -> Iterator[Span]:
    for found in _IBAN.finditer(text):
        whole = found[0]
        while len(whole) >= 15:  # a word in capitals after it may have been taken for its end
            if id_numbers.is_iban(whole.replace(" ", "")):
                yield found.start(), found.start() + len(whole)
                break
            whole = whole.rpartition(" ")[0]


def _phones(text: str) -> Iterator[Span]:
    for found in _CN_MOBILE.finditer(text):
        if _valid(found[1], "CN"):
            yield found.span()
    for pattern in (_CN_LANDLINE, _NANP):
        yield from (found.span() for found in pattern.finditer(text))
    for found in _PHONE_LABEL.finditer(text):
        if 7 <= sum(c.isdigit() for c in found[1]) <= MAX_PHONE_DIGITS:
            yield found.span(1)
    if "+" in text or "00" in text:
        # Without a country only numbers that begin with + can be told; 00 is how much of the world dials it.
        international = re.sub(r"(?<![0-9A-Za-z.,])00(?=[1-9][0-9]{0,2}[ -]?[0-9(])", " +", text)
        for match in PhoneNumberMatcher(international, None, leniency=Leniency.VALID):
            raw = match.raw_string
            opened = raw.count("(") > raw.count(")")  # a bracket of the sentence, not of the number
            start = match.start + (len(raw) - len(raw.lstrip("( ")) if opened else 0)
            yield start - (text[start] != international[start]), match.end


def _valid(number: str, region: str) -> bool:
    try:
        return is_valid_number(parse(number, region))
    except NumberParseException:
        return False


_FINDERS: tuple[tuple[str, Callable[[str], Iterator[Span]]], ...] = (
    ("PRIVATE_KEY", _private_keys),
    ("CREDENTIALS", lambda text: (found.span() for found in _URL_LOGIN.finditer(text))),
    ("SECRET", _secrets),
    ("EMAIL", _emails),
    ("PASSWORD", _passwords),
    ("MAC_ADDRESS", _mac_addresses),
    ("IP_ADDRESS", _ip_addresses),
    ("ID_NUMBER", lambda text: chain(id_numbers.find(text), national_ids.find(text))),
    ("BANK_ACCOUNT", _ibans),
    ("BANK_CARD", _cards),
    ("PHONE", _phones),
    ("ADDRESS", pii_addresses.find),
    ("NAME", pii_names.find),
)  # fmt: skip
KINDS = tuple(kind for kind, _ in _FINDERS)
