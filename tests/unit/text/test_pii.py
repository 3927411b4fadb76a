from __future__ import annotations

import random
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chatwright.text.id_numbers import is_bank_card, is_cn_id, is_hong_kong_id, is_iban, is_taiwan_id, luhn
from chatwright.text.pii import KINDS, scrub

# Made up, or published as examples; each stands with the kind it must be found as.
PERSONAL = [
    ("ada.lovelace+news@mail.example.co.uk", "EMAIL"),
    ("zhang_wei@qq.com", "EMAIL"),
    ("zhang.wei@xn--fiqs8s.xn--55qx5d", "EMAIL"),
    ("ada [at] example [dot] org", "EMAIL"),
    ("ada＠example．com", "EMAIL"),
    ("13812345678", "PHONE"),
    ("138-1234-5678", "PHONE"),
    ("+86 138 1234 5678", "PHONE"),
    ("１３８１２３４５６７８", "PHONE"),
    ("138\u200b1234\u200b5678", "PHONE"),
    ("010-62781234", "PHONE"),
    ("(0755) 26781234", "PHONE"),
    ("(415) 555-2671", "PHONE"),
    ("415-555-2671", "PHONE"),
    ("(123) 456-7891", "PHONE"),
    ("+44 20 7946 0958", "PHONE"),
    ("+49 30 901820", "PHONE"),
    ("0049 30 901820", "PHONE"),
    ("11010519491231002X", "ID_NUMBER"),
    ("110105 19491231 002x", "ID_NUMBER"),
    ("A123456(3)", "ID_NUMBER"),
    ("A123456789", "ID_NUMBER"),
    ("219-09-9999", "ID_NUMBER"),
    ("12345678Z", "ID_NUMBER"),
    ("X-1234567-L", "ID_NUMBER"),
    ("AB123456C", "ID_NUMBER"),
    ("AB 12 34 56 C", "ID_NUMBER"),
    ("2 55 08 14 168 025 38", "ID_NUMBER"),
    ("RSSMRA85T10A562S", "ID_NUMBER"),
    ("529.982.247-25", "ID_NUMBER"),
    ("2341 2341 2346", "ID_NUMBER"),
    ("900101-1234567", "ID_NUMBER"),
    ("221B Baker Street, London NW1 6XE", "ADDRESS"),
    ("1600 Amphitheatre Pkwy, Mountain View, CA 94043", "ADDRESS"),
    ("12 W. 42nd Street, Apt 4B", "ADDRESS"),
    ("P.O. Box 1234", "ADDRESS"),
    ("北京市海淀区中关村大街27号院3号楼2单元501室", "ADDRESS"),
    ("广东省深圳市南山区科技园路５号", "ADDRESS"),
    ("4111 1111 1111 1111", "BANK_CARD"),
    ("4111-1111-1111-1111", "BANK_CARD"),
    ("5555555555554444", "BANK_CARD"),
    ("3782 822463 10005", "BANK_CARD"),
    ("6200000000000000000", "BANK_CARD"),
    ("GB82 WEST 1234 5698 7654 32", "BANK_ACCOUNT"),
    ("DE89370400440532013000", "BANK_ACCOUNT"),
    ("203.0.113.7", "IP_ADDRESS"),
    ("2001:db8:85a3::8a2e:370:7334", "IP_ADDRESS"),
    ("00:1B:44:11:3A:B7", "MAC_ADDRESS"),
    ("sk-proj-abcdefghijklmnop1234", "SECRET"),
    ("ghp_0123456789abcdefghijklmnopqrstuvwxyz", "SECRET"),
    ("AKIAIOSFODNN7EXAMPLE", "SECRET"),
    ("eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.dozjgNryP4J3jVmNHl0w5N", "SECRET"),
]
HARMLESS = [
    "In 2023-2024 the figure rose from 1,234,567.89 to 9,876,543.21 dollars.",
    "Call f(1, 2, 3) at 12:30:45 on 2024-11-26T09:15:00Z; it takes 1500000000 ns.",
    "ISBN 978-3-16-148410-0 and ISBN 9787111128069 cost 39.90.",
    "pi = 3.14159265358979323846, e = 2.718281828459045",
    "Version 10.0.19041.1 replaces v1.2.3.4; the server listens on 127.0.0.1:8080 and 192.168.1.10.",
    "Order 4111111111111112, tracking 1234567890123456, timestamp 1732612345678.",
    "110105194912310021 is no identity number, its check digit is wrong.",
    "std::vector<int> a::b::c; x @ y.T; @app.route('/'); @user mentioned you; git@github.com:a/b.git",
    "The fractions 1/3, 22/7 and 355/113; the score was 21-19, 15-21, 21-18.",
    "Choose a password with 12 characters. The API key is required. token: the unit of text",
    "订单号 20241126000123456，共 12 件，单价 199.00 元，2024年11月26日 09:30 发货。",
    "我在13楼，电话会议改到 10:30，编号 A12345678901。",
    "for i in range(10): print(2 ** 64)  # 18446744073709551616",
    "UUID 123e4567-e89b-12d3-a456-426614174000 sha256 e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "中国 GDP 2023 年为 126,058,200,000,000 元；人口 1411750000。",
    "Use 8.8.8.8 or 255.255.255.0; the mask is /24; IPv6 loopback is ::1.",
    "Latitude 39.90421212, longitude 116.40739999",
    "12345678A, AB123456Z, BG123456A and 529.982.247-26 are nobody's numbers; sin 1234567 cos",
    "In 1929 Wall Street fell; the 9 Supreme Court justices met. Top 20 Street Foods; the 500 Mile Road trip; 3 Easy Way",
    "My name is not important. My name is ChatGPT. What is my name? Her name is Elon. Call me tomorrow. Dear Sir or Madam,",
    "Best regards,\n[Your Name]\nSincerely yours is how letters end.",
    "我叫了外卖，我叫他来；他的名字很好听；姓名是必填项。人民路很长，地铁2号线，3号楼在哪里？到南京路1号店去",
    "The IP address is 5 characters long; see address 0x7fff and my web address.",
]  # fmt: skip


@pytest.mark.parametrize(("personal", "kind"), PERSONAL)
@pytest.mark.parametrize("frame", ["{}", "Write to me: {}, please.", "我的号码是{}，谢谢。", "({})\nnext line"])
def test_what_is_personal_is_replaced(personal: str, kind: str, frame: str) -> None:
    done = scrub(frame.format(personal))
    assert done.text == frame.format(f"[{kind}]")
    assert done.found == {kind: 1}


@pytest.mark.parametrize("text", HARMLESS)
def test_harmless_numbers_stay(text: str) -> None:
    assert scrub(text).text == text


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("postgresql://ada:hunter2@db.example.org/x", "postgresql://[CREDENTIALS]@db.example.org/x"),
        ("https://x.org/a?b=1&access_token=abc123def&c=2", "https://x.org/a?b=1&access_token=[SECRET]&c=2"),
        ("curl -H 'Authorization: Bearer abcdef0123456789abcdef'", "curl -H 'Authorization: Bearer [SECRET]'"),
        ('password = "hunter2"', 'password = "[PASSWORD]"'),
        ("我的密码是abc123456，别告诉别人", "我的密码是[PASSWORD]，别告诉别人"),
        ("my password is Tr0ub4dor&3.", "my password is [PASSWORD]."),
        ("phone: 030 901820", "phone: [PHONE]"),
        ("call me at 555 0123 99", "call me at [PHONE]"),
        ("护照号码：E12345678。", "护照号码：[ID_NUMBER]。"),
        ("身份证 110105491231002", "身份证 [ID_NUMBER]"),
        ("a@b.org and 13812345678 and a@b.org", "[EMAIL] and [PHONE] and [EMAIL]"),
        ("-----BEGIN RSA PRIVATE KEY-----\nMIIE\n-----END RSA PRIVATE KEY-----\nend", "[PRIVATE_KEY]\nend"),
        ("-----BEGIN PRIVATE KEY-----\nMIIE", "[PRIVATE_KEY]"),
        ("SSN: 219099999 and more", "SSN: [ID_NUMBER] and more"),
        ("my driver's license number is D1234567.", "my driver's license number is [ID_NUMBER]."),
        ("证件号码：C12345678。", "证件号码：[ID_NUMBER]。"),
        ("My name is Ada Lovelace and I count.", "My name is [NAME] and I count."),
        ("hi, my name is jean luc, what is yours", "hi, my name is [NAME], what is yours"),
        ("my name is Dr. José van der Berg-Ruiz, I think", "my name is Dr. [NAME], I think"),
        ("Full name: Zoë O'Neil\nAge: 30", "Full name: [NAME]\nAge: 30"),
        ("See you soon.\n\nBest regards,\nAda B. Lovelace\n", "See you soon.\n\nBest regards,\n[NAME]\n"),
        ("我叫张伟今年25岁", "我叫[NAME]今年25岁"),
        ("他说：“我叫欧阳娜娜”。", "他说：“我叫[NAME]”。"),
        ("姓名：王芳，女", "姓名：[NAME]，女"),
        ("我的名字是李小龙。", "我的名字是[NAME]。"),
        ("I live at 12 Rose Court with my cat", "I live at [ADDRESS] with my cat"),
        ("Walk down 12 Main St. Then turn.", "Walk down [ADDRESS]. Then turn."),
        ("my address is 12 rue de la Paix, 75002 Paris. Thanks", "my address is [ADDRESS]. Thanks"),
        ("我住在上海市徐汇区漕溪北路398号，请寄来", "我住在[ADDRESS]，请寄来"),
        ("收货地址：阳光小区3栋2单元501，电话", "收货地址：[ADDRESS]，电话"),
    ],
)  # fmt: skip
def test_what_stands_beside_it_stays(text: str, left: str) -> None:
    assert scrub(text).text == left


def test_one_number_is_one_kind() -> None:
    """The digits of an identity number hold those of a telephone; an address in a URL with a password is one piece."""
    assert scrub("11010519491231002X").found == {"ID_NUMBER": 1}
    assert scrub("https://ada:1381234567890@example.org").found == {"CREDENTIALS": 1}


def test_checksums() -> None:
    assert is_cn_id("11010519491231002X") and not is_cn_id("110105194912310021") and not is_cn_id("110105194913310020")
    assert is_hong_kong_id("A123456(3)") and not is_hong_kong_id("A123456(4)")
    assert is_taiwan_id("A123456789") and not is_taiwan_id("A123456788")
    assert luhn("79927398713") and not luhn("79927398710")
    assert is_bank_card("4111111111111111") and not is_bank_card("1111111111111117")
    assert is_iban("GB82WEST12345698765432") and not is_iban("GB82WEST12345698765433")


def test_every_single_digit_error_of_an_identity_number_is_noticed() -> None:
    right = "11010519491231002X"
    for place in range(17):
        for digit in "0123456789":
            if digit != right[place]:
                assert not is_cn_id(right[:place] + digit + right[place + 1 :])


def test_random_digits_seldom_pass() -> None:
    """Of random numbers as long as identity numbers, hardly any has a birthday and the check digit."""
    rng = random.Random(7)
    numbers = ["".join(rng.choice("0123456789") for _ in range(18)) for _ in range(3000)]
    assert sum("[ID_NUMBER]" in scrub(n).text for n in numbers) <= 3
    cards = ["".join(rng.choice("0123456789") for _ in range(16)) for _ in range(3000)]
    assert sum("[BANK_CARD]" in scrub(n).text for n in cards) < 3000 * 0.04  # Luhn alone would pass a tenth


@settings(deadline=None)  # a loaded machine stops now and then
@given(st.text(max_size=300))
def test_any_text_goes_through_and_placeholders_stay(text: str) -> None:
    once = scrub(text)
    assert set(once.found) <= set(KINDS)
    if not once.found:
        assert once.text == text


@settings(deadline=None)  # a loaded machine stops now and then
@given(st.sampled_from(["my name is {}", "我叫{}，", "I live at 5 {} Street", "住在{}路3号"]), st.text(max_size=60))
def test_what_stands_before_and_behind_names_and_streets_stays(frame: str, text: str) -> None:
    """Placeholders stand for pieces of the text, in their order; all else is as it was."""
    whole = frame.format(text)
    done = scrub(whole)
    pattern = "(?s:.+?)".join(map(re.escape, re.split("|".join(rf"\[{kind}\]" for kind in KINDS), done.text)))
    assert done.found == {} and done.text == whole or re.fullmatch(pattern, whole) or "[" in whole


@settings(deadline=None)  # a loaded machine stops now and then
@given(
    st.sampled_from(["Ada", "Grace Hopper", "José van der Berg", "Li Wei", "O’Neil", "Łukasz", "Анна Каренина"]),
    st.sampled_from(["My name is {}.", "my full name is {}, hello", "my name’s {}", "Kind regards,\n{}", "First name: {}"]),
    st.sampled_from(["", "\nThanks!", "\n\n1. and 2."]),
)
def test_names_behind_their_cues(name: str, cue: str, after: str) -> None:
    assert scrub(cue.format(name) + after).text == cue.format("[NAME]") + after


@settings(deadline=None)  # a loaded machine stops now and then
@given(
    st.sampled_from("王李张刘陈欧"), st.text(alphabet="伟芳娜敏静丽强磊洋艳", min_size=1, max_size=2),
    st.sampled_from(["我叫{}。", "我的名字叫{}，很高兴", "大家好，我名叫{}！", "联系人：{}\n"]),
)  # fmt: skip
def test_chinese_names_behind_their_cues(surname: str, given_name: str, cue: str) -> None:
    surname = "欧阳" if surname == "欧" else surname
    assert scrub(cue.format(surname + given_name)).text == cue.format("[NAME]")


@settings(deadline=None)  # a loaded machine stops now and then
@given(
    st.integers(1, 19_999).filter(lambda number: not 1500 <= number < 2100),
    st.sampled_from(["Oak", "Martin Luther King", "East 5th", "St. James"]),
    st.sampled_from(["Street", "St", "Avenue", "Rd", "Boulevard", "Lane", "Drive"]),
    st.sampled_from(["", ", Apt 12", ", Springfield, IL 62701", " #4, Boston, MA 02108", ", Leeds LS1 4AP"]),
)
def test_streets_with_a_number(number: int, name: str, ending: str, more: str) -> None:
    assert scrub(f"It is {number} {name} {ending}{more}, near here").text == "It is [ADDRESS], near here"


def test_names_may_be_left() -> None:
    assert scrub("My name is Ada, ada@example.org", leave=("NAME",)).text == "My name is Ada, [EMAIL]"


@pytest.mark.parametrize(
    "piece",
    [
        "4444 ", "AB12 ", "a@", "a.", "1.1.", ":1", "-----BEGIN PRIVATE KEY-----", "+1 ", "password:", "://a:", "13 ",
        "12 Aa ", "my name is ", "My name is A. ", "Regards,\n", "my address is 1 ", "路1号", "我叫王", "北", "SSN 1 ", "A-",
    ],
)  # fmt: skip
def test_hostile_texts_do_not_take_for_ever(piece: str) -> None:
    """200,000 characters made to be looked at in endless ways; the suite's time limit is the judge."""
    assert len(scrub(piece * (200_000 // len(piece))).text) > 0
