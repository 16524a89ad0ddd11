"""Every term of the page has one name in each language."""

from __future__ import annotations

import re

import pytest

from gptj_demo.texts import Text, catalogue

# A term of the English texts, and the stem of its translation. Stems, because Arabic words change
# with number, case and possessive: تتمة, تتمتان, تتمات, تتمتها.
ARABIC = {
    r"branch|branches": "فرع|فروع",
    r"caret": "مؤشر",
    r"cell": "خلي[ةت]|خلايا",
    r"column": "عمود|أعمد",
    r"completion": "تتم[ةات]",
    r"context": "سياق",
    r"continuation": "تتم[ةات]",
    r"control": "عنصر|عناصر",
    r"editor": "محرر",
    r"filter": "مرشح",
    r"gpu": r"معالج\w* (ال)?رسومي",
    r"link": "رابط|روابط",
    r"log-probability|log-probabilities": "لوغاريتم",
    r"memory": "ذاكر[ةت]",
    r"node": "عقد",
    r"note": "ملاحظ",
    r"penalty|penalties": "عقوب",
    r"placeholder": "خان[ةا]",
    r"playground": "ساحة (ال)?تجارب",
    r"preset": "جاهز",
    r"probability|probabilities": "احتمال",
    r"prompt": "تمهيدي",
    r"replay": "إعادة التوليد",
    r"row": "صف",
    r"scaffold": "هيكل|هياكل",
    r"seed": "بذر",
    r"server": "خادم",
    r"session": "جلس[ةا]",
    r"template": "قالب|قوالب",
    r"temperature": "حرارة",
    r"token": "رمز|رموز",
    r"tree": "شجر",
    r"undo": "تراجع",
    r"visitor": "زائر|زوار",
    r"vocabulary": "مفردات",
}
DIACRITICS = re.compile("[\u064b-\u0652\u0640]")
NO_WORDS = re.compile(r"<[^>]*>|\{\w+\}|\w*_\w*")  # tags, values, and names in code


def forms(text: Text) -> list[str]:
    return [text] if isinstance(text, str) else list(text.values())


def has_term(term: str, text: Text) -> bool:
    pattern = rf"(?<![\w-])({term})s?\b"
    return any(re.search(pattern, NO_WORDS.sub("", form), re.IGNORECASE) for form in forms(text))


@pytest.mark.parametrize("term", ARABIC)
def test_a_term_has_one_arabic_name(term: str) -> None:
    arabic = catalogue("ar")
    texts = [key for key, text in catalogue("en").items() if has_term(term, text)]
    assert texts, "no text has this term: remove it from the glossary"
    other = {
        key: form
        for key in texts
        for form in forms(arabic[key])
        if not re.search(ARABIC[term], DIACRITICS.sub("", form))
    }
    assert not other
