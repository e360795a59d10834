"""Octets to text for any charset label a message may carry, without ever raising.

Labels are read as mail programs and the WHATWG Encoding standard read them: a label stands for the superset that
senders mean by it (ISO-8859-1 is windows-1252, GB2312 is GB18030, Shift_JIS is CP932).
"""

import codecs
import re
from functools import lru_cache

from delivery.mime.limits import FAULTS

_WORD = re.compile(r"[a-z0-9][a-z0-9_.:()+-]{0,63}")

# Keys hold letters and digits only, so that "ISO_8859-1", "iso8859-1" and "ISO-8859-1" are one label.
_SUPERSETS = {
    "usascii": "utf-8",
    "ascii": "utf-8",
    "ansix341968": "utf-8",
    "ansix341986": "utf-8",
    "iso646us": "utf-8",
    "7bit": "utf-8",
    "8bit": "utf-8",
    "unicode11utf8": "utf-8",
    "utf8mb4": "utf-8",
    "cp65001": "utf-8",
    "unicode11utf7": "utf-7",
    "unicode20utf7": "utf-7",
    "unicode": "utf-16",
    "ucs2": "utf-16",
    "iso10646ucs2": "utf-16",
    "latin1": "cp1252",
    "l1": "cp1252",
    "iso88591": "cp1252",
    "88591": "cp1252",
    "cp819": "cp1252",
    "ansi": "cp1252",
    "xansi": "cp1252",
    "iso88599": "cp1254",
    "latin5": "cp1254",
    "iso885911": "cp874",
    "tis620": "cp874",
    "iso88598i": "iso8859_8",
    "iso88598e": "iso8859_8",
    "iso88596i": "iso8859_6",
    "iso88596e": "iso8859_6",
    "gb2312": "gb18030",
    "gb231280": "gb18030",
    "csgb2312": "gb18030",
    "euccn": "gb18030",
    "gbk": "gb18030",
    "xgbk": "gb18030",
    "cp936": "gb18030",
    "windows936": "gb18030",
    "big5": "cp950",
    "big5eten": "cp950",
    "xbig5": "cp950",
    "big5hkscs": "big5hkscs",
    "sjis": "cp932",
    "xsjis": "cp932",
    "shiftjis": "cp932",
    "mskanji": "cp932",
    "windows31j": "cp932",
    "cswindows31j": "cp932",
    "eucjp": "euc_jp",
    "xeucjp": "euc_jp",
    "euckr": "cp949",
    "ksc5601": "cp949",
    "ksc56011987": "cp949",
    "ksc56011989": "cp949",
    "windows949": "cp949",
    "xwindows949": "cp949",
    "korean": "cp949",
    "macintosh": "mac_roman",
    "mac": "mac_roman",
    "xmacroman": "mac_roman",
    "xmaccyrillic": "mac_cyrillic",
    "xmacce": "mac_latin2",
    "koi8": "koi8_r",
    "xkoi8r": "koi8_r",
}

_ISO_2022_JP = re.compile(r"(cs)?iso2022jp(1|2|3|ext|ms|2004)?|cp5022[01]|jis|xjis|iso2022jp.*")

# What Python calls an encoding and is safe and linear to decode. Not here: its byte-to-byte codecs (zlib, rot13 …),
# idna and punycode (quadratic), and the escapes.
_CODECS = frozenset(
    """
    ascii utf-8 utf-7 utf-16 utf-16-be utf-16-le utf-32 utf-32-be utf-32-le big5 big5hkscs gb2312 gbk gb18030 hz
    euc_jp euc_jis_2004 euc_jisx0213 euc_kr johab shift_jis shift_jis_2004 shift_jisx0213 iso2022_kr koi8-r koi8-t
    koi8-u kz1048 ptcp154 tis-620 hp-roman8 mac-roman mac-cyrillic mac-greek mac-iceland mac-latin2 mac-turkish
    mac-croatian mac-romanian mac-arabic mac-farsi
    cp037 cp273 cp424 cp437 cp500 cp720 cp737 cp775 cp850 cp852 cp855 cp856 cp857 cp858 cp860 cp861 cp862 cp863 cp864
    cp865 cp866 cp869 cp874 cp875 cp932 cp949 cp950 cp1006 cp1026 cp1125 cp1140 cp1250 cp1251 cp1252 cp1253 cp1254
    cp1255 cp1256 cp1257 cp1258 iso8859-1 iso8859-2 iso8859-3 iso8859-4 iso8859-5 iso8859-6 iso8859-7 iso8859-8
    iso8859-9 iso8859-10 iso8859-11 iso8859-13 iso8859-14 iso8859-15 iso8859-16
    """.split()  # noqa: SIM905 - a table is easier to check than 90 quoted strings
)

_SURROGATE = re.compile("[\ud800-\udfff]")
_UTF8_SEQUENCE = re.compile(rb"[\xc2-\xdf][\x80-\xbf]|[\xe0-\xef][\x80-\xbf]{2}|[\xf0-\xf4][\x80-\xbf]{3}")
_JIS_ESCAPE = re.compile(rb"\x1b(\([BJIH]|\$[@B]|\$\([D@B]|&@\x1b\$B)")
_MAX_JIS_REPAIR = 1 << 19
"""Octets of one ISO-2022-JP text that are mended character by character."""


def codec_for(label: str) -> str | None:
    """The Python codec a charset label stands for, None when the label is unknown or not a charset."""
    found = _WORD.search(label.lower())
    return _codec_named(found.group()) if found else None


@lru_cache(maxsize=256)  # of the short word in it: whoever writes a label may make it as long as a field
def _codec_named(name: str) -> str | None:
    key = re.sub(r"[^a-z0-9]", "", name)
    if _ISO_2022_JP.fullmatch(key):
        return "iso-2022-jp"
    if key in _SUPERSETS:
        return _SUPERSETS[key]
    windows = re.fullmatch(r"(?:x?windows|win|x?cp|ibm|dos|msdos)(\d{2,5})", key)
    for candidate in (f"cp{windows.group(1)}" if windows else "", name, name.removeprefix("x-"), key):
        try:
            codec = codecs.lookup(candidate).name if candidate else ""
        except (LookupError, ValueError):
            continue
        if codec in _CODECS:
            return codec
    return None


def decode(data: bytes, label: str) -> tuple[str, bool]:
    """Text of `data` in the charset named by `label` ("" when none was named), and whether it was read for certain.

    Never raises and never yields lone surrogates. Without a usable label: UTF-8 when it is valid UTF-8, else
    ISO-2022-JP when it has its escapes, else windows-1252.
    """
    codec = codec_for(label) if label else None
    if codec is None:
        text, sure = _guess(data)
        return text, sure and not label
    if codec == "utf-8":
        return _decode_utf8(data)
    if codec == "iso-2022-jp":
        return _decode_iso_2022_jp(data)
    if codec == "cp1252":
        return data.decode("cp1252", "latin1_holes"), True
    return _decode_strictly(data, codec)


def _decode_strictly(data: bytes, codec: str) -> tuple[str, bool]:
    try:
        return _clean(data.decode(codec)), True
    except FAULTS:  # not only UnicodeError: some codecs trip over their input
        pass
    try:
        return data.decode("utf-8"), False
    except UnicodeError:
        pass
    try:
        return _clean(data.decode(codec, "replace")), False
    except FAULTS:
        return _guess(data)[0], False


def _decode_utf8(data: bytes) -> tuple[str, bool]:
    try:
        return data.decode("utf-8").removeprefix("\ufeff"), True
    except UnicodeError:
        pass
    if _UTF8_SEQUENCE.search(data):
        return data.decode("utf-8", "replace"), False
    return _guess(data)[0], False


def _guess(data: bytes) -> tuple[str, bool]:
    if b"\x1b$" in data and data.isascii():
        return _decode_iso_2022_jp(data)
    try:
        return data.decode("utf-8").removeprefix("\ufeff"), True
    except UnicodeError:
        return data.decode("cp1252", "latin1_holes"), False


def _decode_iso_2022_jp(data: bytes) -> tuple[str, bool]:
    """ISO-2022-JP as it is sent: Python's strictest codec first, then with the vendor characters it refuses."""
    if not data.isascii():
        return _guess_japanese(data)
    try:
        return data.decode("iso2022_jp_ext"), True
    except UnicodeError:
        pass
    if len(data) > _MAX_JIS_REPAIR:
        return data.decode("iso2022_jp_ext", "replace"), False
    # Each run between escapes is moved to the code page it is a shifted form of: NEC row 13, IBM extensions.
    pieces = _JIS_ESCAPE.split(data)
    text = [pieces[0].decode("ascii")]
    for escape, run in zip(pieces[1::2], pieces[2::2], strict=True):
        text.append(_decode_jis_run(escape, run))
    joined = "".join(text)
    return joined, "\ufffd" not in joined


def _decode_jis_run(escape: bytes, run: bytes) -> str:
    if escape == b"(I":
        return run.translate(_HIGH_BIT).decode("cp932", "replace")
    if escape.startswith(b"("):
        return run.decode("ascii")
    out: list[str] = []
    # An unfinished run ends with its line: RFC 1468 says every line ends in ASCII.
    for number, line in enumerate(re.split(rb"(\r?\n)", run)):
        if number % 2:
            out.append(line.decode("ascii"))
        elif escape == b"$(D":
            out.append(re.sub(rb"(..)", b"\x8f\\1", line.translate(_HIGH_BIT)).decode("euc_jp", "replace"))
        else:
            shifted = b"".join([_to_shift_jis(line[i : i + 2]) for i in range(0, len(line), 2)])
            out.append(shifted.decode("cp932", "replace"))
    return "".join(out)


_HIGH_BIT = bytes(b | 0x80 if 0x21 <= b <= 0x7E else b for b in range(256))


def _to_shift_jis(pair: bytes) -> bytes:
    """One JIS X 0208 character (two octets 0x21–0x7E) in Shift_JIS; anything else unchanged."""
    if len(pair) != 2 or not (0x21 <= pair[0] <= 0x7E and 0x21 <= pair[1] <= 0x7E):
        return pair
    row, cell = pair
    lead = (row + 1) // 2 + (0x70 if row < 0x5F else 0xB0)
    trail = cell + 0x7E if row % 2 == 0 else cell + (0x20 if cell >= 0x60 else 0x1F)
    return bytes((lead, trail))


def _guess_japanese(data: bytes) -> tuple[str, bool]:
    for codec in ("utf-8", "cp932", "euc_jp"):
        try:
            return data.decode(codec), False
        except UnicodeError:
            continue
    return data.decode("cp932", "replace"), False


def _clean(text: str) -> str:
    """UTF-7 and UTF-16 can spell lone surrogates, which no JSON body and no database takes."""
    return _SURROGATE.sub("\ufffd", text)


def _latin1_holes(error: UnicodeError) -> tuple[str, int]:
    """windows-1252 leaves five octets undefined; they stand for the control characters of ISO-8859-1."""
    if not isinstance(error, UnicodeDecodeError):
        raise error
    return error.object[error.start : error.end].decode("latin-1"), error.end


codecs.register_error("latin1_holes", _latin1_holes)
