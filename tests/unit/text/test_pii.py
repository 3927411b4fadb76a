from __future__ import annotations

import random

import pytest
from hypothesis import given
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


@given(st.text(max_size=300))
def test_any_text_goes_through_and_placeholders_stay(text: str) -> None:
    once = scrub(text)
    assert set(once.found) <= set(KINDS)
    if not once.found:
        assert once.text == text


@pytest.mark.parametrize(
    "piece", ["4444 ", "AB12 ", "a@", "a.", "1.1.", ":1", "-----BEGIN PRIVATE KEY-----", "+1 ", "password:", "://a:", "13 "]
)
def test_hostile_texts_do_not_take_for_ever(piece: str) -> None:
    """200,000 characters made to be looked at in endless ways; the suite's time limit is the judge."""
    assert len(scrub(piece * (200_000 // len(piece))).text) > 0
