"""Encryption of what must be readable again: PRV-12."""

import pytest

from accounts import crypto

KEY_ONE, KEY_TWO = "A" * 43 + "=", "B" * 42 + "A="


@pytest.mark.parametrize("value", [{"password": "sesame", "port": 587}, [], "", None, "ü☂", {"deep": [1, {"x": None}]}])
def test_what_was_encrypted_comes_back_and_cannot_be_read_meanwhile(value):
    token = crypto.encrypt(value)
    assert "sesame" not in token
    assert crypto.decrypt(token) == value


def test_the_same_value_never_looks_the_same_twice():
    assert crypto.encrypt("sesame") != crypto.encrypt("sesame")


def test_all_keys_open_and_the_first_one_closes(settings):
    settings.CREDENTIAL_KEYS = [KEY_ONE]
    token = crypto.encrypt("sesame")
    settings.CREDENTIAL_KEYS = [KEY_TWO, KEY_ONE]
    assert crypto.decrypt(token) == "sesame"
    token = crypto.encrypt("sesame")
    settings.CREDENTIAL_KEYS = [KEY_TWO]
    assert crypto.decrypt(token) == "sesame"


@pytest.mark.parametrize("broken", ["", "nonsense", "gAAAAA"])
def test_what_no_key_opens_says_so_without_the_value(settings, broken):
    with pytest.raises(crypto.DecryptionError) as caught:
        crypto.decrypt(broken)
    assert "CREDENTIAL_KEYS" in str(caught.value)


def test_a_changed_token_is_refused(settings):
    token = crypto.encrypt("sesame")
    with pytest.raises(crypto.DecryptionError):
        crypto.decrypt(token[:-4] + ("AAA=" if token[-4:] != "AAA=" else "BBB="))


def test_keyed_hashes_differ_by_key_and_name_the_current_one_first(settings):
    settings.CREDENTIAL_KEYS = [KEY_ONE]
    (one,) = crypto.keyed_hashes("secret")
    settings.CREDENTIAL_KEYS = [KEY_TWO, KEY_ONE]
    two, again = crypto.keyed_hashes("secret")
    assert again == one != two
    assert crypto.keyed_hashes("other") != [two, one]


def test_an_empty_field_stays_empty():
    field = crypto.EncryptedJSONField()
    assert field.get_prep_value(None) is None
    assert field.from_db_value(None, None, None) is None
    assert field.to_python(None) is None
    assert field.to_python({"a": 1}) == {"a": 1}
    assert field.to_python(field.get_prep_value({"a": 1})) == {"a": 1}
