"""Who is named where (PRV-3): tables for the services that read recipients from lists."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from providers.base import Mailbox
from providers.envelope import Limits, address, ascii_address, groups, same
from providers.exceptions import Unsupported

DEMANDING = Limits(total=50)  # Resend, Mailjet, Brevo: To is required
RELAXED = Limits(total=50, to_required=False)  # Postmark
APART = Limits(total=50, apart=True)  # SendGrid, Mandrill


ALONE = "To: shows only the recipient himself"
NO_TO, NO_CC = "To: 1 of 1 not shown", "Cc: 1 of 1 not shown"


def boxes(text):
    """`A:a@x b@x` is Mailbox("A", "a@x"), Mailbox("", "b@x")."""
    pairs = (word.rpartition(":") for word in text.split())
    return tuple(Mailbox(name, found) for name, _, found in pairs)


def written(found):
    return [
        " ".join(f"{box.name}:{box.address}".lstrip(":") for box in part) for part in (found.to, found.cc, found.bcc)
    ]


@pytest.mark.parametrize(
    ("to", "cc", "recipients", "expected", "lost"),
    [
        # header and envelope agree
        ("A:a@x.test", "", "a@x.test", ["A:a@x.test", "", ""], ()),
        ("A:a@x.test", "B:b@x.test", "a@x.test b@x.test", ["A:a@x.test", "B:b@x.test", ""], ()),
        # the order is the header's, not the envelope's
        ("a@x.test b@x.test", "", "b@x.test a@x.test", ["a@x.test b@x.test", "", ""], ()),
        # a recipient in no header is a blind copy
        ("a@x.test", "", "a@x.test z@x.test", ["a@x.test", "", "z@x.test"], ()),
        # a header address outside the envelope is not mailed
        ("a@x.test b@x.test", "c@x.test", "a@x.test", ["a@x.test", "", ""], ("To: 1 of 2 not shown", NO_CC)),
        # domains compare without case, local parts too; the envelope's spelling is used
        ("A:a@X.TEST", "", "a@x.test", ["A:a@x.test", "", ""], ()),
        ("A:Anna@x.test", "", "anna@X.test", ["A:anna@X.test", "", ""], ()),
        # duplicates go, the first place and a display name stay
        ("a@x.test A:A@x.test", "a@x.test", "a@x.test", ["A:a@x.test", "", ""], ()),
        ("a@x.test", "", "a@x.test A@X.test", ["a@x.test", "", ""], ()),
        ("a@x.test", "b@x.test a@x.test", "a@x.test b@x.test", ["a@x.test", "b@x.test", ""], ()),
        # only Cc is visible: it is promoted
        ("", "c@x.test", "c@x.test", ["c@x.test", "", ""], ("Cc: shown as To",)),
        ("t@x.test", "c@x.test", "c@x.test", ["c@x.test", "", ""], ("To: 1 of 1 not shown", "Cc: shown as To")),
        ("", "c@x.test", "c@x.test z@x.test", ["c@x.test", "", "z@x.test"], ("Cc: shown as To",)),
        # one blind copy alone sees himself
        ("", "", "z@x.test", ["z@x.test", "", ""], (ALONE,)),
        ("list@x.test", "", "z@x.test", ["z@x.test", "", ""], (NO_TO, ALONE)),
        # internationalised domains
        ("A:a@bücher.example", "", "a@xn--bcher-kva.example", ["A:a@xn--bcher-kva.example", "", ""], ()),
        ("a@xn--bcher-kva.example", "", "a@BÜCHER.example", ["a@xn--bcher-kva.example", "", ""], ()),
    ],
)  # fmt: skip
def test_lists_of_one_call(to, cc, recipients, expected, lost):
    found = address(boxes(to), boxes(cc), recipients.split(), DEMANDING)
    assert (written(found), found.lost, found.apart) == (expected, lost, False)


def test_a_service_without_need_of_to_gets_cc_and_bcc_as_they_are():
    found = address((), boxes("c@x.test"), ["c@x.test", "z@x.test"], RELAXED)
    assert (written(found), found.lost) == (["", "c@x.test", "z@x.test"], ())
    assert written(address((), (), ["y@x.test", "z@x.test"], RELAXED)) == ["", "", "y@x.test z@x.test"]


def test_blind_copies_alone_get_a_copy_each_where_one_call_can_say_that():
    found = address((), (), ["y@x.test", "z@x.test"], APART)
    assert (written(found), found.apart) == (["y@x.test z@x.test", "", ""], True)


def test_blind_copies_alone_are_never_shown_to_each_other():
    with pytest.raises(Unsupported) as caught:
        address((), (), ["y@x.test", "z@x.test"], DEMANDING)
    assert caught.value.code == "needs_split"


@pytest.mark.parametrize(
    ("limits", "to", "cc", "recipients", "expected"),
    [
        (DEMANDING, "a@x b@x", "c@x", "a@x b@x c@x z@x", ["a@x b@x c@x z@x"]),
        (DEMANDING, "", "", "y@x z@x", ["y@x", "z@x"]),
        (RELAXED, "", "", "y@x z@x", ["y@x z@x"]),
        (APART, "", "", "y@x z@x", ["y@x z@x"]),
        # visible first, blind ones fill up, the rest alone or together
        (Limits(total=3), "a@x b@x", "", "a@x b@x w@x y@x z@x", ["a@x b@x w@x", "y@x", "z@x"]),
        (Limits(total=3, apart=True), "a@x b@x", "", "a@x b@x w@x y@x z@x", ["a@x b@x w@x", "y@x z@x"]),
        (Limits(total=3, to_required=False), "a@x b@x", "", "a@x b@x w@x y@x z@x", ["a@x b@x w@x", "y@x z@x"]),
        # too many visible ones
        (Limits(total=2), "a@x b@x c@x", "", "a@x b@x c@x", ["a@x b@x", "c@x"]),
        (Limits(total=2), "a@x b@x", "c@x d@x e@x", "a@x b@x c@x d@x e@x", ["a@x b@x", "c@x d@x", "e@x"]),
        # limits for each list, as MailerSend has them
        (Limits(total=7, to=5, cc=1, bcc=1), "a@x", "c@x d@x", "a@x c@x d@x y@x z@x", ["a@x c@x y@x", "d@x z@x"]),
        # two spellings of one mailbox share a call
        (DEMANDING, "a@x", "", "a@x A@X", ["a@x A@X"]),
        # an address the service cannot write goes alone, so that only it goes elsewhere
        (DEMANDING, "a@x jörg@x", "", "a@x jörg@x", ["a@x", "jörg@x"]),
        (Limits(total=50, utf8_local_part=True), "a@x jörg@x", "", "a@x jörg@x", ["a@x jörg@x"]),
        # header addresses outside the envelope play no part
        (DEMANDING, "q@x", "r@x", "z@x", ["z@x"]),
    ],
)  # fmt: skip
def test_groups_of_a_message(limits, to, cc, recipients, expected):
    assert groups(boxes(to), boxes(cc), recipients.split(), limits) == [tuple(group.split()) for group in expected]


_ADDRESS = st.sampled_from(
    [f"{name}@{domain}" for name in ("a", "A", "b", "c", "d", "e") for domain in ("x.test", "Y.test")]
)
_LISTS = st.lists(_ADDRESS.map(lambda found: Mailbox("", found)), max_size=8)
_LIMITS = st.builds(
    Limits,
    total=st.integers(2, 6),
    to=st.none() | st.integers(1, 3),
    cc=st.none() | st.integers(1, 3),
    bcc=st.none() | st.integers(1, 3),
    to_required=st.booleans(),
    apart=st.booleans(),
)


@given(_LISTS, _LISTS, st.lists(_ADDRESS, min_size=1, max_size=12, unique=True), _LIMITS)
def test_every_recipient_is_mailed_once_within_the_limits_and_no_blind_copy_is_shown(to, cc, recipients, limits):
    cut = groups(to, cc, recipients, limits)
    assert sorted(r for group in cut for r in group) == sorted(recipients)
    visible = {same(box.address) for box in (*to, *cc)}
    mailed = []
    for group in cut:
        found = address(to, cc, group, limits)
        mailed += [same(box.address) for box in found.all]
        assert len(found.all) <= limits.total
        assert len(found.to) <= (limits.to or limits.total)
        assert len(found.cc) <= (limits.cc or limits.total)
        assert len(found.bcc) <= (limits.bcc or limits.total)
        assert found.to or not limits.to_required
        if not found.apart and len(found.all) > 1:
            assert {same(box.address) for box in found.to + found.cc} <= visible
    assert sorted(mailed) == sorted({same(recipient) for recipient in recipients})


def test_a_domain_without_ascii_form_is_not_supported():
    with pytest.raises(Unsupported) as caught:
        ascii_address("a@☃☃.example..ü")
    assert caught.value.code == "bad_domain"
    assert same("a@☃☃.example..ü") == "a@☃☃.example..ü"
