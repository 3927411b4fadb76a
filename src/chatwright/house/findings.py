"""Findings about a house, one line each: file, row, column, what to do. Problems stop the teaching, advice does not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from chatwright.errors import DataError
from chatwright.house.defaults import default_right
from chatwright.house.folder import BUNDLED_PREFIX, DECLINED_KINDS, House
from chatwright.house.forms import Text
from chatwright.house.judge import Judge, answer_problems, no_right_forms, parse_column
from chatwright.house.normal import raw_tokens
from chatwright.house.sheet import Fact, Sheet
from chatwright.house.split import Split, fact_quotas
from chatwright.house.template import EXAMPLE_PREFIX

MIN_HOUSE_FACTS = 2
"""With one fact there are no others whose answers could be wrong, and no interval over facts."""
GOOD_FACTS, GOOD_WORDINGS = 20, 12
"""Below these numbers a sheet is taught, and the report advises more."""
_SHOWN_IDS = 5


def form_problems(house: House) -> list[DataError]:
    """Forms that cannot be read, and facts without right forms."""
    problems: list[DataError] = []
    defaults = default_right(house.sheet)
    for fact in house.sheet.facts:
        right = fact.right or defaults.get(fact.id, ())
        if fact.is_house and not right:
            problems.append(no_right_forms(fact))
        for column, texts in (("right", right), ("wrong", fact.wrong)):
            try:
                parse_column(fact, column, texts, house.language)
            except DataError as error:
                problems.append(error)
    return problems


def size_problems(house: House) -> Iterator[str]:
    """Too few facts, or questions in another language than the settings say."""
    facts = [fact for fact in house.sheet.facts if fact.is_house]
    if len(facts) < MIN_HOUSE_FACTS:
        yield f"{house.path}: rows: {len(facts)} fact(s); write at least {MIN_HOUSE_FACTS}, better {GOOD_FACTS} and more"
    tokens = [token for fact in facts for question in fact.questions for token in raw_tokens(question.turns[-1])]
    chinese = sum(token.kind == "cjk" for token in tokens)
    if tokens and (chinese > len(tokens) / 2) != (house.language.name == "zh"):
        other = "en" if house.language.name == "zh" else "zh"
        yield (
            f"{house.path}: questions: are not in the house's language {house.language.name!r}; "
            f'write language = "{other}" in house.toml, or give --language {other}'
        )


def wording_problems(house: House, split: Split) -> Iterator[str]:
    """Facts with no question to teach, to rank or to hold out."""
    counts = _part_counts(split)
    for fact in _own_facts(house):
        missing = [part.replace("_", " ") for part, count in counts.items() if not count[fact.id]]
        total = len(fact.questions)
        if missing and total < 3:
            few = f"{fact.id!r} has {total} wording(s); write at least 3, better 12 to 18"
            yield str(fact.where.error("questions", few))
        elif missing:
            yield str(
                fact.where.error(
                    "questions",
                    f"{fact.id!r} has no wording that can be {' or '.join(missing)}: they share more than half of their "
                    "words; write two or three in quite other words",
                )
            )


def wording_advice(house: House, split: Split) -> Iterator[str]:
    """Facts with few wordings, or with a smaller held-out part than their number of wordings allows."""
    facts = list(_own_facts(house))
    counts = _part_counts(split)
    few = [fact.id for fact in facts if 3 <= len(fact.questions) < GOOD_WORDINGS]
    if few:
        yield f"{house.path}: questions: {_ids(few)} have fewer than {GOOD_WORDINGS} wordings; 12 to 18 teach best"
    alike = [f for f in facts if 0 < counts["held_out"][f.id] < fact_quotas(len(f.questions))["held_out"]]
    for fact in alike:
        got, quota = counts["held_out"][fact.id], fact_quotas(len(fact.questions))["held_out"]
        yield str(
            fact.where.error(
                "questions",
                f"{fact.id!r} has {got} instead of {quota} held-out wordings, as the others share more than half of their "
                "words with taught ones; say some in other words",
            )
        )
    if MIN_HOUSE_FACTS <= len(facts) < GOOD_FACTS:
        yield f"{house.path}: rows: {len(facts)} facts; figures of fewer than {GOOD_FACTS} have wide intervals"


def row_advice(house: House) -> Iterator[str]:
    """Rows of the template that are still there, kinds that are missing, harmless rows that cannot be taught."""
    examples = [fact.id for fact in house.sheet.facts if fact.id.startswith(EXAMPLE_PREFIX)]
    if examples:
        yield f"{house.path}: id: {_ids(examples)} come from `house init`; replace them with facts of your house"
    kinds = {fact.kind for fact in house.sheet.facts}
    for kind in DECLINED_KINDS:
        if kind not in kinds:
            yield f"{house.path}: kind: no row of kind {kind}; the model does not learn to decline such questions"
    if "harmless" not in kinds:
        yield (
            f"{house.path}: kind: no row of kind harmless; write questions that sound unsafe and that your house answers, "
            "or the model may decline them"
        )
    mute = [fact.id for fact in house.sheet.facts if fact.kind == "harmless" and not fact.answers]
    if mute:
        yield f"{house.path}: answers: {_ids(mute)} (harmless) have none, so they are asked but not taught; write two"


def confusion_advice(house: House, judge: Judge) -> Iterator[str]:
    """Answers that would be right for another fact of the kind, so that the judge cannot tell the two apart."""
    facts = [fact for fact in house.sheet.facts if fact.is_house]
    texts = {fact.id: [(answer, Text(answer, house.language.negators)) for answer in fact.answers] for fact in facts}
    for fact in facts:
        for other in facts:
            if other is fact or other.kind != fact.kind:
                continue
            for answer, text in texts[other.id]:
                found = text.find_any(judge.forms[fact.id].right)
                if found and judge.judge(fact.id, fact.questions[0].messages(), answer).right:
                    yield _confusion(fact, other, answer, judge, text)
                    break


def _confusion(fact: Fact, other: Fact, answer: str, judge: Judge, text: Text) -> str:
    form = next(form.text for form in judge.forms[fact.id].right if text.find(form))
    return str(
        fact.where.error(
            "right",
            f"{form!r} of {fact.id!r} is also in an answer of {other.id!r} (row {other.where.line}: {answer!r}), "
            f"which the judge takes for right; lengthen the form, join two with &, or add words of {other.id!r} to `wrong`",
        )
    )


def own_answer_problems(house: House, judge: Judge) -> list[DataError]:
    """Answers that the judge does not find right. The sentences of house.toml are left to `sentence_problems`."""
    sentences = {(house.settings.sentence(kind),) for kind in DECLINED_KINDS}
    return answer_problems(Sheet(tuple(fact for fact in house.sheet.facts if fact.answers not in sentences)), judge)


def sentence_problems(house: House, judge: Judge) -> Iterator[str]:
    """Sentences of house.toml that the judge does not read as a decline."""
    for kind in DECLINED_KINDS:
        sentence = house.settings.sentence(kind)
        probe = next((fact for fact in house.sheet.facts if fact.kind == kind), None)
        if probe is not None and not judge.judge(probe.id, (), sentence).right:
            yield (
                f"{house.path.parent / 'house.toml'}: {kind}: {sentence!r} does not read as a decline, or claims something; "
                'write it like "I do not know that, please ask our team."'
            )


def _own_facts(house: House) -> Iterator[Fact]:
    return (fact for fact in house.sheet.facts if fact.is_house and not fact.id.startswith(BUNDLED_PREFIX))


def _part_counts(split: Split) -> dict[str, Counter[str]]:
    parts = {"taught": split.taught, "ranked": split.ranked, "held_out": split.held_out}
    return {part: Counter(entry.fact.id for entry in entries) for part, entries in parts.items()}


def _ids(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN_IDS} more" if len(names) > _SHOWN_IDS else ""
    return ", ".join(names[:_SHOWN_IDS]) + more
