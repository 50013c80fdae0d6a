"""The words of written dates: months, weekdays and fillers of twenty languages, and abbreviations of time zones.

Every word is lower case and without accents or full stops, as `dates.py` compares them. A word that names different
months in two languages is omitted from both, so that no date is misread.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from functools import cache
from typing import Final

# One line per language; the forms of one month are separated by bars: nominative, genitive, usual abbreviations.
_MONTHS: Final[Mapping[str, str]] = {
    "en": "january|jan february|feb march|mar april|apr may june|jun july|jul august|aug september|sept|sep "
    "october|oct "
    "november|nov december|dec",
    "fr": "janvier|janv février|févr|fév|fevr mars avril|avr mai juin juillet|juil août septembre|sept octobre "
    "novembre "
    "décembre|déc",
    "de": "januar|jänner|jän februar|feber märz|mär|mrz april mai juni juli august september oktober|okt november "
    "dezember|dez",
    "es": "enero|ene febrero marzo abril|abr mayo junio julio agosto|ago septiembre|setiembre|set octubre noviembre "
    "diciembre|dic",
    "it": "gennaio|gen|genn febbraio|febbr marzo aprile maggio|mag|magg giugno|giu luglio|lug agosto "
    "settembre|sett ottobre|ott novembre dicembre",
    "pt": "janeiro fevereiro|fev março abril maio|mai junho julho agosto setembro outubro|out novembro dezembro",
    "nl": "januari februari maart|mrt april mei juni juli augustus september oktober november december",
    "sv": "januari februari mars april maj juni juli augusti september oktober november december",
    "da": "januar februar marts april maj juni juli august september oktober november december",
    "no": "januar februar mars april mai juni juli august september oktober november desember|des",
    "fi": "tammikuuta|tammikuu|tammi helmikuuta|helmikuu|helmi maaliskuuta|maaliskuu|maalis huhtikuuta|huhtikuu|huhti "
    "toukokuuta|toukokuu|touko kesäkuuta|kesäkuu|kesä heinäkuuta|heinäkuu|heinä elokuuta|elokuu|elo syyskuuta|syyskuu|"
    "syys lokakuuta|lokakuu|loka marraskuuta|marraskuu|marras joulukuuta|joulukuu|joulu",
    "pl": "stycznia|styczeń|sty lutego|luty|lut marca|marzec kwietnia|kwiecień|kwi maja|maj czerwca|czerwiec|cze "
    "lipca|lipiec|lip sierpnia|sierpień|sie września|wrzesień|wrz "
    "października|październik|paź listopada|listopad|lis grudnia|grudzień|gru",
    "cs": "ledna|leden|led února|únor|úno března|březen|bře dubna|duben|dub května|květen|kvě června|červen|čvn "
    "července|červenec|čvc srpna|srpen|srp září|zář října|říjen|říj listopadu|listopad prosince|prosinec|pro",
    "hu": "január február|febr március|márc április|ápr május|máj június|jún július|júl augusztus szeptember|szept "
    "október "
    "november december",
    "ro": "ianuarie|ian februarie martie aprilie mai|mai iunie|iun iulie|iul august septembrie octombrie noiembrie|noi "
    "decembrie",
    "tr": "ocak|oca şubat|şub mart nisan|nis mayıs|may haziran|haz temmuz|tem ağustos|ağu eylül|eyl ekim|eki kasım|kas "
    "aralık|ara",
    "id": "januari februari maret april mei juni juli agustus|agt|agu september oktober november desember",
    "ca": "gener febrer març abril maig juny juliol|jul agost setembre octubre novembre desembre",
    "ru": "января|январь|янв февраля|февраль|фев|февр марта|март|мар апреля|апрель|апр мая|май июня|июнь|июн "
    "июля|июль|июл "
    "августа|август|авг сентября|сентябрь|сен|сент октября|октябрь|окт ноября|ноябрь|ноя|нояб декабря|декабрь|дек",
    "uk": "січня|січень|січ лютого|лютий|лют березня|березень|бер квітня|квітень|квіт травня|травень|трав "
    "червня|червень|черв "
    "липня|липень|лип серпня|серпень|серп вересня|вересень|вер жовтня|жовтень|жовт листопада|листопад|лист "
    "грудня|грудень|груд",
    "el": "ιανουαρίου|ιανουάριος|ιαν φεβρουαρίου|φεβρουάριος|φεβ μαρτίου|μάρτιος|μαρ απριλίου|απρίλιος|απρ "
    "μαΐου|μάιος|μαι "
    "ιουνίου|ιούνιος|ιουν ιουλίου|ιούλιος|ιουλ αυγούστου|αύγουστος|αυγ σεπτεμβρίου|σεπτέμβριος|σεπ "
    "οκτωβρίου|οκτώβριος|οκτ "
    "νοεμβρίου|νοέμβριος|νοε δεκεμβρίου|δεκέμβριος|δεκ",
}
# A weekday adds nothing to the date, and many generators write a wrong one, so it is ignored.
_WEEKDAYS: Final = """
    monday mon tuesday tue tues wednesday wed weds thursday thu thur thurs friday fri saturday sat sunday sun
    lundi lun mardi mar mercredi mer jeudi jeu vendredi ven samedi sam dimanche dim
    montag mo dienstag di mittwoch mi donnerstag do freitag fr samstag sonnabend sa sonntag so
    lunes martes mie miercoles jueves jue viernes vie sabado sab domingo dom
    lunedi martedi mercoledi giovedi gio venerdi sabato domenica
    segunda terca quarta quinta sexta seg ter qua qui sex feira segunda-feira terca-feira quarta-feira quinta-feira sexta-feira
    maandag ma dinsdag woensdag wo donderdag vrijdag vr zaterdag za zondag zo
    mandag man tirsdag tir onsdag ons torsdag tor tors fredag fre lordag lor lordag sondag son
    mandag tisdag tis lordag lor sondag
    maanantai maanantaina tiistai tiistaina ti keskiviikko keskiviikkona ke torstai torstaina to perjantai perjantaina pe
    lauantai lauantaina la sunnuntai sunnuntaina su
    poniedzialek pon wtorek wto wt sroda sro sr czwartek czw piatek pia pt sobota sob niedziela nie niedz
    pondeli po utery ut streda st ctvrtek ct patek pa nedele ne
    hetfo kedd szerda csutortok pentek szombat vasarnap
    luni marti miercuri joi vineri sambata duminica
    pazartesi pzt sali sal carsamba car persembe per cuma cum cumartesi cmt pazar paz
    senin selasa rabu kamis jumat sabtu minggu dilluns dimarts dimecres dijous divendres dissabte diumenge
    понедельник пн вторник вт среда ср четверг чт пятница пт суббота сб воскресенье вс
    понеділок вівторок середа четвер пʼятниця п'ятниця субота неділя нд
    δευτερα δευ τριτη τρι τεταρτη τετ πεμπτη πεμ παρασκευη παρ σαββατο σαβ κυριακη κυρ
"""
_FILLERS: Final = """
    at on of the de del di do le la el den der am um uhr om kl klo o' o'clock a as à las alle ore h г года р року года. г.
    v ve saat dia el il um, à, kello hrs time
"""

_HOUR: Final = 60
#: Minutes east of UTC. RFC 822 defines the North American ones; the others have a single meaning or one clear majority.
ZONE_MINUTES: Final[Mapping[str, int]] = {
    "ut": 0,
    "utc": 0,
    "gmt": 0,
    "z": 0,
    "wet": 0,
    "west": _HOUR,
    "bst": _HOUR,
    "cet": _HOUR,
    "met": _HOUR,
    "mez": _HOUR,
    "cest": 2 * _HOUR,
    "mest": 2 * _HOUR,
    "mesz": 2 * _HOUR,
    "sast": 2 * _HOUR,
    "cat": 2 * _HOUR,
    "wat": _HOUR,
    "eat": 3 * _HOUR,
    "eet": 2 * _HOUR,
    "eest": 3 * _HOUR,
    "msk": 3 * _HOUR,
    "msd": 4 * _HOUR,
    "trt": 3 * _HOUR,
    "idt": 3 * _HOUR,
    "pkt": 5 * _HOUR,
    "npt": 5 * _HOUR + 45,
    "wib": 7 * _HOUR,
    "wita": 8 * _HOUR,
    "hkt": 8 * _HOUR,
    "sgt": 8 * _HOUR,
    "awst": 8 * _HOUR,
    "jst": 9 * _HOUR,
    "kst": 9 * _HOUR,
    "acst": 9 * _HOUR + 30,
    "acdt": 10 * _HOUR + 30,
    "aest": 10 * _HOUR,
    "aedt": 11 * _HOUR,
    "nzst": 12 * _HOUR,
    "nzdt": 13 * _HOUR,
    "brt": -3 * _HOUR,
    "nst": -3 * _HOUR - 30,
    "ndt": -2 * _HOUR - 30,
    "adt": -3 * _HOUR,
    "ast": -4 * _HOUR,
    "edt": -4 * _HOUR,
    "est": -5 * _HOUR,
    "cdt": -5 * _HOUR,
    "cst": -6 * _HOUR,
    "mdt": -6 * _HOUR,
    "mst": -7 * _HOUR,
    "pdt": -7 * _HOUR,
    "pst": -8 * _HOUR,
    "akdt": -8 * _HOUR,
    "akst": -9 * _HOUR,
    "hst": -10 * _HOUR,
}


def plain_word(word: str) -> str:
    """The word in lower case, without accents."""
    decomposed = unicodedata.normalize("NFKD", word.lower())
    return (
        "".join(letter for letter in decomposed if not unicodedata.combining(letter))
        .replace("ı", "i")
        .replace("ø", "o")
    )


@cache
def months() -> Mapping[str, int]:
    """Word → number of the month."""
    found: dict[str, set[int]] = {}
    for words in _MONTHS.values():
        for number, forms in enumerate(words.split(), start=1):
            for form in forms.split("|"):
                found.setdefault(plain_word(form), set()).add(number)
    return {word: min(numbers) for word, numbers in found.items() if len(numbers) == 1}


@cache
def ignored_words() -> frozenset[str]:
    """Weekdays and fillers: words that do not change a date. `mar` (mardi) and `paz` (Pazar) also name months."""
    return frozenset(map(plain_word, (_WEEKDAYS + _FILLERS).split()))
