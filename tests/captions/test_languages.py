import subprocess
import sys

import pytest

from pipeline.captions.languages import (
    check_languages,
    known_languages,
    language_of,
    other_language,
)
from pipeline.errors import ConfigError

TOLD = {
    "en": "a man is riding his bicycle through the rain",
    "de": "ein Mann fährt mit dem Fahrrad durch den Regen",
    "fr": "un homme fait du vélo sous la pluie avec son chien",
    "es": "un hombre montando en bicicleta bajo la lluvia de la mañana",
    "it": "un uomo che va in bicicletta sotto la pioggia della notte",
    "pt": "um homem andando de bicicleta na chuva com o cachorro não muito grande",
    "nl": "een man rijdt op zijn fiets door de regen met een hond",
    "pl": "mężczyzna jedzie na rowerze w deszczu",
    "cs": "muž jede na kole v dešti a vedle něj běží pes",
    "tr": "yağmurda bisiklete binen bir adam ve köpeği",
    "vi": "người đàn ông đạp xe dưới mưa",
    "ru": "мужчина едет на велосипеде под дождём, и его собака бежит рядом",
    "uk": "чоловік їде на велосипеді під дощем",
    "el": "ένας άνδρας κάνει ποδήλατο στη βροχή",
    "ar": "رجل يركب دراجة تحت المطر",
    "fa": "مردی که زیر باران دوچرخه سواری می‌کند",
    "he": "איש רוכב על אופניים בגשם",
    "zh": "一个男人在雨中骑自行车",
    "ja": "雨の中で自転車に乗る男性",
    "ko": "비 오는 날 자전거를 타는 남자",
    "th": "ผู้ชายขี่จักรยานกลางสายฝน",
}
NOT_TOLD = [
    "",
    "a",
    "12345",
    "!!!",
    "kimono",
    "red star",
    "Mona Lisa",
    "Nike Air Max 90",
    "t-shirt",
]
ENGLISH = [
    "a photo of a hat", "a photo of shorts", "croissant and espresso", "turquoise cross", "90/90",
    "Burj Khalifa, Dubai", "Café de Flore terrace", "a heart in pink", "Adductor/Groin",
    "Volkswagen Golf GTI", "piñata at a party", "RED DRESS", "pad thai with prawns",
    "Side Jackknife", "IKEA Billy",
]  # fmt: skip


@pytest.mark.parametrize("language", TOLD)
def test_a_sentence_tells_its_language(language: str) -> None:
    assert language_of([TOLD[language]]) == [language]


def test_what_is_too_short_is_not_told() -> None:
    assert language_of(NOT_TOLD) == [None] * len(NOT_TOLD)


def test_english_with_foreign_names_is_kept() -> None:
    assert not any(other_language(ENGLISH, keep=["en"]))


def test_other_languages_go_and_what_is_not_told_stays() -> None:
    captions = [TOLD["de"], TOLD["en"], TOLD["ru"], "kimono", ""]
    assert other_language(captions, keep=["en"]) == [True, False, True, False, False]
    assert other_language(captions, keep=["de", "ru"]) == [False, True, False, False, False]


def test_an_unknown_code_is_told_with_the_known_ones() -> None:
    check_languages(["en", "zh", "he"])
    with pytest.raises(ConfigError, match=r"`clean.languages` holds 'EN': known ISO 639-1 .*\ben"):
        check_languages(["de", "EN"])


def test_codes_are_of_two_letters() -> None:
    assert len(known_languages()) > 100
    assert all(len(code) == 2 and code.islower() for code in known_languages())


def test_the_identifier_is_loaded_only_where_it_is_asked() -> None:
    code = "import sys, pipeline.captions.junk; sys.exit('py3langid' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
