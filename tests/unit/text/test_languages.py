from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chatwright.text.languages import language_of

WHOLE = {
    "en": "How do I bake a loaf of bread at home without any yeast?",
    "es": "¿Cómo puedo hacer pan en casa sin usar levadura?",
    "fr": "Comment faire du pain à la maison sans levure, s'il vous plaît ?",
    "de": "Wie backe ich zu Hause ein Brot, wenn ich keine Hefe habe?",
    "pt": "Como posso fazer pão em casa sem usar fermento biológico?",
    "it": "Come posso fare il pane in casa senza usare il lievito?",
    "ru": "Как испечь хлеб дома без дрожжей?",
    "uk": "Як спекти хліб удома без дріжджів? Дякую за відповідь!",
    "ja": "イーストを使わずに家でパンを焼くにはどうすればいいですか？",
    "ko": "이스트 없이 집에서 빵을 어떻게 굽나요?",
    "zh": "没有酵母怎么在家做面包？",
    "ar": "كيف أخبز الخبز في المنزل بدون خميرة؟",
    "fa": "چگونه می‌توانم بدون خمیر مایه در خانه نان بپزم؟",
    "el": "Πώς φτιάχνω ψωμί στο σπίτι;",
    "th": "ทำขนมปังที่บ้านอย่างไร",
}


@pytest.mark.parametrize("language", WHOLE)
def test_whole_sentences(language: str) -> None:
    assert language_of(WHOLE[language]) == language


@pytest.mark.parametrize("language", sorted(WHOLE.keys() - {"en"}))
def test_programs_and_addresses_do_not_count(language: str) -> None:
    text = f"{WHOLE[language]}\n```python\ndef bake(loaf):\n    return oven.heat(loaf, minutes=40)\n```\nhttps://example.org/how"
    assert language_of(text) == language


@pytest.mark.parametrize(
    "text", ["", "Hola", "Danke!", "1 + 1 = ?", "Python", "Berlin Tokyo", "[EMAIL] [PHONE]", "```\nder die das\n```"]
)
def test_too_little_to_tell(text: str) -> None:
    assert language_of(text) == "en" and language_of(text, "de") == "de"


def test_names_in_latin_letters_do_not_make_a_text_english() -> None:
    assert language_of("如何用 Python pandas 和 PostgreSQL 读取 CSV 文件并写入数据库？") == "zh"
    assert language_of("Объясни, чем Python list отличается от Python tuple") == "ru"


@settings(deadline=None)
@given(st.text(max_size=200))
def test_any_text_has_a_language(text: str) -> None:
    assert 2 <= len(language_of(text)) <= 16
