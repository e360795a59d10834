"""MIM-1: text in every charset, and in what is none."""

import pytest

from delivery.mime.charsets import codec_for, decode

LABELS = {
    "utf-8": "utf-8",
    '"utf-8"': "utf-8",
    "'UTF8'": "utf-8",
    "utf-8;": "utf-8",
    "us-ascii": "utf-8",
    "ansi_x3.4-1968": "utf-8",
    "ISO-8859-1": "cp1252",
    "iso8859_1": "cp1252",
    "latin1": "cp1252",
    "windows-1252": "cp1252",
    "Windows1251": "cp1251",
    "win-1251": "cp1251",
    "cp-850": "cp850",
    "x-cp1250": "cp1250",
    "x-sjis": "cp932",
    "gb2312": "gb18030",
    "gbk": "gb18030",
    "ks_c_5601-1987": "cp949",
    "unicode-1-1-utf-7": "utf-7",
    "iso-2022-jp-2": "iso-2022-jp",
    "iso-8859-8-i": "iso8859-8",
    "macintosh": "mac-roman",
    "koi8-r": "koi8-r",
    "iso-8859-15": "iso8859-15",
    "nope-8": None,
    "x-unknown": None,
    "rot13": None,
    "zlib": None,
    "base64": None,
    "hex": None,
    "bz2": None,
    "idna": None,
    "punycode": None,
    "undefined": None,
    "unicode_escape": None,
    "\x00": None,
    "utf-8\x00": "utf-8",
    "": None,
    "a" * 10_000: None,
    "../../etc/passwd": None,
    "é": None,
}


@pytest.mark.parametrize(("label", "codec"), LABELS.items(), ids=[repr(k[:20]) for k in LABELS])
def test_labels_stand_for_what_senders_mean(label, codec):
    found = codec_for(label)
    assert (found or "").replace("_", "-") == (codec or "").replace("_", "-")


TEXTS = [
    ("é".encode(), "utf-8", "é", True),
    (b"\xef\xbb\xbfa", "utf-8", "a", True),
    (b"caf\xe9", "utf-8", "café", False),
    (b"caf\xc3\xa9 \xff", "utf-8", "café �", False),
    ("é".encode(), "us-ascii", "é", True),
    (b"\x93quoted\x94", "iso-8859-1", "“quoted”", True),
    (b"\x81", "iso-8859-1", "\x81", True),
    ("é".encode(), "nope-8", "é", False),
    (b"\xe9", "nope-8", "é", False),
    (b"\xe9", "", "é", False),
    (b"", "utf-8", "", True),
    ("中文€".encode("gb18030"), "gb2312", "中文€", True),
    ("中".encode(), "gb2312", "中", False),
    ("①髙".encode("cp932"), "shift_jis", "①髙", True),
    (b"\x1b$B$9$_\x1b(B.", "iso-2022-jp", "すみ.", True),
    (b"\x1b$B-!\x1b(B", "iso-2022-jp", "①", True),
    (b"\x1b$B|b\x1b(B", "iso-2022-jp", "髙", True),
    (b"\x1b$B$9\x1b(I6E\x1b(J\\\x1b(B", "iso-2022-jp", "すｶﾅ", None),
    (b"\x1b$B$9$_\nabc", "iso-2022-jp", None, None),
    (b"\x1b$B$9$\x1b(B", "iso-2022-jp", None, None),
    ("テスト".encode("cp932"), "iso-2022-jp", "テスト", False),
    ("テスト".encode("euc_jp"), "iso-2022-jp", None, False),
    (b"\xff" * 3, "iso-2022-jp", None, False),
    (b"\x1b$B%F%9%H\x1b(B", "", "テスト", True),
    (b"\x1b$(D0!\x1b(B\x1b$B-!\x1b(B", "iso-2022-jp", "丂①", True),
    (b"+AOk-", "utf-7", "é", True),
    (b"+2AA-", "utf-7", "�", None),
    (b"+//////", "utf-7", None, None),
    ("é".encode("utf-16"), "utf-16", "é", True),
    (b"abc", "utf-16", None, False),
    (b"\x00\xd8", "utf-16-le", None, False),
    (b"\xff\xff\xff\xff", "utf-32", None, False),
    (b"\x1b$)C\x0e\x21", "iso-2022-kr", None, None),
    (b"\xff", "hz", None, False),
]


@pytest.mark.parametrize(("data", "label", "text", "sure"), TEXTS)
def test_octets_become_text(data, label, text, sure):
    found, was_sure = decode(data, label)
    found.encode("utf-8")
    if text is not None:
        assert found.startswith(text)
    if sure is not None:
        assert was_sure is sure


def test_every_octet_in_every_charset_is_read_without_raising():
    every = bytes(range(256)) * 2
    for label in [*LABELS, "iso2022_kr", "hz", "big5", "johab", "utf-32", "cp037", "tis-620", "euc-jp"]:
        for data in (every, every[:128], every[128:255], b"\x1b$B" + every[:128], b"~{" + every):
            decode(data, label)[0].encode("utf-8")
