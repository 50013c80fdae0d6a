"""Text encodings by the labels in documents, decoded as browsers do.

Source: WHATWG Encoding Standard, https://encoding.spec.whatwg.org/ (labels and decoders). A label often stands for a
larger encoding than its name says: gb2312 is decoded as GB 18030, shift_jis as Microsoft's code page 932, iso-8859-1 as
windows-1252. Python codecs not listed here are never used: some of them take quadratic time.
"""

from __future__ import annotations

import codecs
import re
from functools import cache
from typing import Final

# Python's codec, then its labels. Where several codecs are possible, the one that decodes most is listed.
_LABELS: Final = """
utf-8: unicode-1-1-utf-8 unicode11utf8 unicode20utf8 utf-8 utf8 x-unicode20utf8
utf-16: utf-16 unicode csunicode iso-10646-ucs-2 ucs-2
utf-16-le: utf-16le unicodefeff
utf-16-be: utf-16be unicodefffe
utf-32: utf-32
cp866: 866 cp866 csibm866 ibm866
cp437: cp437 ibm437
cp850: cp850 ibm850
cp852: cp852 ibm852
cp874: dos-874 iso-8859-11 iso8859-11 iso885911 tis-620 windows-874
cp1250: cp1250 windows-1250 x-cp1250
cp1251: cp1251 windows-1251 x-cp1251
cp1252: ansi_x3.4-1968 ascii cp1252 cp819 csisolatin1 ibm819 iso-8859-1 iso-ir-100 iso8859-1 iso88591 iso_8859-1
cp1252: iso_8859-1:1987 l1 latin1 latin-1 us-ascii windows-1252 x-cp1252
cp1253: cp1253 windows-1253 x-cp1253
cp1254: cp1254 csisolatin5 iso-8859-9 iso-ir-148 iso8859-9 iso88599 iso_8859-9 iso_8859-9:1989 l5 latin5 windows-1254 x-cp1254
cp1255: cp1255 windows-1255 x-cp1255
cp1256: cp1256 windows-1256 x-cp1256
cp1257: cp1257 windows-1257 x-cp1257
cp1258: cp1258 windows-1258 x-cp1258
iso8859-2: csisolatin2 iso-8859-2 iso-ir-101 iso8859-2 iso88592 iso_8859-2 iso_8859-2:1987 l2 latin2
iso8859-3: csisolatin3 iso-8859-3 iso-ir-109 iso8859-3 iso88593 iso_8859-3 iso_8859-3:1988 l3 latin3
iso8859-4: csisolatin4 iso-8859-4 iso-ir-110 iso8859-4 iso88594 iso_8859-4 iso_8859-4:1988 l4 latin4
iso8859-5: csisolatincyrillic cyrillic iso-8859-5 iso-ir-144 iso8859-5 iso88595 iso_8859-5 iso_8859-5:1988
iso8859-6: arabic asmo-708 csiso88596e csiso88596i csisolatinarabic ecma-114 iso-8859-6 iso-8859-6-e iso-8859-6-i iso-ir-127
iso8859-6: iso8859-6 iso88596 iso_8859-6 iso_8859-6:1987
iso8859-7: csisolatingreek ecma-118 elot_928 greek greek8 iso-8859-7 iso-ir-126 iso8859-7 iso88597 iso_8859-7
iso8859-7: iso_8859-7:1987 sun_eu_greek
iso8859-8: csiso88598e csisolatinhebrew hebrew iso-8859-8 iso-8859-8-e iso-ir-138 iso8859-8 iso88598 iso_8859-8
iso8859-8: iso_8859-8:1988 visual csiso88598i iso-8859-8-i logical
iso8859-10: csisolatin6 iso-8859-10 iso-ir-157 iso8859-10 iso885910 l6 latin6
iso8859-13: iso-8859-13 iso8859-13 iso885913
iso8859-14: iso-8859-14 iso8859-14 iso885914
iso8859-15: csisolatin9 iso-8859-15 iso8859-15 iso885915 iso_8859-15 l9
iso8859-16: iso-8859-16
koi8-r: cskoi8r koi koi8 koi8-r koi8_r
koi8-u: koi8-ru koi8-u
mac-roman: csmacintosh mac macintosh x-mac-roman
mac-cyrillic: x-mac-cyrillic x-mac-ukrainian
gb18030: gb18030 chinese csgb2312 csiso58gb231280 gb2312 gb_2312 gb_2312-80 gbk iso-ir-58 x-gbk cp936 windows-936
big5hkscs: big5 big5-hkscs cn-big5 csbig5 x-x-big5 cp950 windows-950
euc_jp: cseucpkdfmtjapanese euc-jp x-euc-jp eucjp
iso2022_jp_ext: csiso2022jp iso-2022-jp
cp932: csshiftjis ms932 ms_kanji shift-jis shift_jis sjis windows-31j x-sjis cp932
cp949: cseuckr csksc56011987 euc-kr iso-ir-149 korean ks_c_5601-1987 ks_c_5601-1989 ksc5601 ksc_5601 windows-949 cp949 euckr uhc
"""
#: Encodings with more than one byte per character, whose texts can be valid UTF-8 by chance.
_WIDE: Final = frozenset({"gb18030", "big5hkscs", "euc_jp", "iso2022_jp_ext", "cp932", "cp949"})
#: From this many non-ASCII characters on, a text is not valid UTF-8 by chance.
_CONVINCING: Final = 8
_BOMS: Final = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
#: Stands for a byte that cannot be decoded: half of a surrogate pair, which no text contains and UTF-8 cannot encode.
LOST: Final = "\udcff"
_AS_BROWSERS: Final = "everindex.as-browsers"


@cache
def _codecs() -> dict[str, str]:
    found: dict[str, str] = {}
    for line in _LABELS.strip().splitlines():
        codec, _, labels = line.partition(": ")
        found.update(dict.fromkeys(labels.split(), codec))
    return found


def codec_of(label: str) -> str | None:
    """Python's codec for a label, ignoring case; None for one that browsers do not know either."""
    return _codecs().get(label.strip().lower())


def codec_of_bytes(head: bytes) -> str | None:
    """The codec that the first bytes show by a byte order mark, or by the zeros of UTF-16 without one; None otherwise."""
    for mark, codec in _BOMS:
        if head.startswith(mark):
            return codec
    start = head[:64]
    even, odd = start[0::2], start[1::2]
    if len(start) >= 4 and any(even) and not any(odd) and all(even):
        return "utf-16-le"
    if len(start) >= 4 and any(odd) and not any(even) and all(odd[: len(even)]):
        return "utf-16-be"
    return None


def decode_text(data: bytes, declared: str | None) -> tuple[str, bool]:
    """The text of a document, and whether bytes were lost (replaced by U+FFFD).

    `declared` is the document's own label. Unmistakable UTF-8 wins over it: such a document was converted without
    changing the declaration. A document labelled UTF-8 or not at all that has no valid UTF-8 anywhere is read as
    windows-1252, as browsers do.
    """
    shown = codec_of_bytes(data)
    codec = shown or codec_of(declared or "") or "utf-8"
    if shown is None and codec.startswith(("utf-16", "utf-32")):
        codec = "utf-8"  # its declaration could be read, so it is not
    if codec not in ("utf-8", shown) and _is_utf8(data, is_wide=codec in _WIDE):
        codec = "utf-8"
    elif codec == "utf-8" and shown is None and not data.isascii() and not _BESIDE_ASCII_VALID.search(data):
        codec = "cp1252"
    try:
        return data.decode(codec).removeprefix("\ufeff"), False
    except UnicodeDecodeError:
        text = data.decode(codec, _AS_BROWSERS)
        return text.replace(LOST, "\ufffd").removeprefix("\ufeff"), LOST in text


def incremental_decoder(codec: str) -> codecs.IncrementalDecoder:
    """A decoder that writes LOST for bytes that it cannot decode. Never raises."""
    return codecs.getincrementaldecoder(codec)(_AS_BROWSERS)


#: One non-ASCII character in valid UTF-8.
_BESIDE_ASCII_VALID = re.compile(
    rb"[\xc2-\xdf][\x80-\xbf]|\xe0[\xa0-\xbf][\x80-\xbf]|[\xe1-\xef][\x80-\xbf]{2}|\xf0[\x90-\xbf][\x80-\xbf]{2}"
    rb"|[\xf1-\xf3][\x80-\xbf]{3}|\xf4[\x80-\x8f][\x80-\xbf]{2}"
)


def _is_utf8(data: bytes, *, is_wide: bool) -> bool:
    """Whether bytes with another declared encoding are unmistakably UTF-8."""
    if data.isascii():
        return False
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return not is_wide or sum(not letter.isascii() for letter in text) >= _CONVINCING


def _as_browsers(error: UnicodeError) -> tuple[str, int]:
    """Decodes what browsers decode and Python's codecs do not: C1 controls in code pages, NEC's row 13 in EUC-JP."""
    if not isinstance(error, UnicodeDecodeError):
        raise error
    data, start = error.object, error.start
    if error.encoding in ("euc_jp", "euc-jp"):
        pair = data[start : start + 2]
        if len(pair) == 2 and min(pair) >= 0xA1:
            try:
                return _of_jis_row(pair), start + 2
            except UnicodeDecodeError:
                return LOST, start + 2
    if error.encoding.startswith(("cp125", "charmap", "cp874")) and 0x80 <= data[start] <= 0x9F:
        return chr(data[start]), start + 1
    return LOST, max(error.end, start + 1)


def _of_jis_row(pair: bytes) -> str:
    """Decodes two bytes of EUC-JP through code page 932, which has the rows that Microsoft and NEC added."""
    row, cell = pair[0] - 0xA1, pair[1] - 0xA1
    lead = row // 2 + (0x81 if row < 62 else 0xC1)
    trail = cell + 0x9F if row % 2 else cell + 0x40 + (cell >= 63)
    return bytes((lead, trail)).decode("cp932")


codecs.register_error(_AS_BROWSERS, _as_browsers)
