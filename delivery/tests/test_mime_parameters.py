"""Content-Type and Content-Disposition parameters (RFC 2045, 2183, 2231) as real mail writes them."""

import pytest

from delivery.mime.parameters import parse

VALUES = [
    ("text/plain", "text/plain", {}),
    ("TEXT/Plain; Charset=UTF-8", "text/plain", {"charset": "UTF-8"}),
    ('text/plain; charset="utf-8"', "text/plain", {"charset": "utf-8"}),
    ("text/plain; charset=us-ascii (plain)", "text/plain", {"charset": "us-ascii"}),
    ("text/plain (comment)", "text/plain", {}),
    ("text/plain charset=utf-8", "text/plain", {"charset": "utf-8"}),
    ("text/plain; charset=utf-8 name=x", "text/plain", {"charset": "utf-8", "name": "x"}),
    ("charset=utf-8", "", {"charset": "utf-8"}),
    ('a/b; name="semi;colon"; x=y', "a/b", {"name": "semi;colon", "x": "y"}),
    (r'a/b; name="q\"uo\\te"', "a/b", {"name": r'q"uo\te'}),
    (r'a/b; name="C:\temp\x.txt"', "a/b", {"name": r"C:\temp\x.txt"}),
    ('a/b; name="open', "a/b", {"name": "open"}),
    ('a/b; name="x"junk; y=z', "a/b", {"name": "x", "y": "z"}),
    ("a/b; name=two words (1).txt; y=z", "a/b", {"name": "two words (1).txt", "y": "z"}),
    ("a/b;; ;name = x ;", "a/b", {"name": "x"}),
    ("a/b; junk; =x; name=y", "a/b", {"name": "y"}),
    ("a/b; name=x; name=y", "a/b", {"name": "x"}),
    ('a/b; boundary="=?utf-8?q?x?="', "a/b", {"boundary": "=?utf-8?q?x?="}),
    ('a/b; boundary="with blanks in it"', "a/b", {"boundary": "with blanks in it"}),
    ("a/b; name==?utf-8?q?caf=C3=A9?=", "a/b", {"name": "café"}),
    ('a/b; name="=?utf-8?q?caf=C3=A9?="', "a/b", {"name": "café"}),
    ("a/b; name*=utf-8''caf%C3%A9", "a/b", {"name": "café"}),
    ("a/b; name*=\"utf-8''caf%C3%A9\"", "a/b", {"name": "café"}),
    ("a/b; name*=iso-8859-1'en'caf%E9", "a/b", {"name": "café"}),
    ("a/b; name*=caf%C3%A9", "a/b", {"name": "café"}),
    ("a/b; name*=nope'en'caf%C3%A9", "a/b", {"name": "café"}),
    ("a/b; name*0=one; name*1=two", "a/b", {"name": "onetwo"}),
    ("a/b; name*1=two; name*0=one", "a/b", {"name": "onetwo"}),
    ("a/b; name*0*=utf-8''caf%C3; name*1*=%A9; name*2=.txt", "a/b", {"name": "café.txt"}),
    ('a/b; name*0="caf"; name*1*=%C3%A9', "a/b", {"name": "café"}),
    ("a/b; name=plain; name*=utf-8''caf%C3%A9", "a/b", {"name": "café"}),
    ("a/b; name*=utf-8''caf%C3%A9; name*0=zero", "a/b", {"name": "café"}),
    ("a/b; name*1*=x; name*1=y", "a/b", {"name": "x"}),
    ("a/b; name*1=x; name*7=y", "a/b", {"name": "xy"}),
    ("a/b; name*x=y", "a/b", {"name*x": "y"}),
    ("a/b; name*99999999999=y", "a/b", {"name*99999999999": "y"}),
    ("a/b; name*=utf-8''a%0D%0Ab", "a/b", {"name": "a b"}),
    ("a/b; name*=utf-8''100%", "a/b", {"name": "100%"}),
    ("", "", {}),
    (";", "", {}),
    ("=", "", {}),
]


@pytest.mark.parametrize(("value", "main", "parameters"), VALUES)
def test_values_with_parameters(value, main, parameters):
    assert parse(value) == (main, parameters)
