"""Bodies are encrypted at rest, and keys change without rewriting one: STO-4."""

import io
import os
import shutil

import pytest
from structlog.testing import capture_logs

from accounts.ids import uuid7
from delivery import sealed, store
from delivery.exceptions import BodyNotFound, StoreUnavailable
from delivery.tests.test_store import Bytes

ONE, TWO = "MDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDA=", "MTExMTExMTExMTExMTExMTExMTExMTExMTExMTExMTE="
LETTER = b"Received: by mx.example\r\nSubject: secret plan\r\n\r\nNobody must read this.\r\n" * 20


@pytest.fixture
def place(settings, tmp_path):
    settings.STORAGE_KEYS = [ONE]
    location = {"location": str(tmp_path / "messages")}
    backend = {"BACKEND": "delivery.storage.DurableFileSystemStorage", "OPTIONS": location}
    settings.STORAGES = {**settings.STORAGES, "messages": backend}
    return tmp_path / "messages"


@pytest.fixture
def key():
    return store.key_for(uuid7())


def everything_on_disk(place):
    return b"".join(path.read_bytes() for path in place.rglob("*") if path.is_file())


def put_together(count=3):
    keys = store.keys_for([(uuid7(), len(LETTER)) for _ in range(count)])
    assert store.put_many([(key, Bytes(LETTER)) for key in keys]) == [None] * count
    return keys


def test_nothing_of_a_body_can_be_read_on_the_disk(place, key):
    store.put(key, io.BytesIO(LETTER))
    together = put_together()
    large = store.key_for(uuid7())
    assert store.put_many([(large, Bytes(LETTER * 300))]) == [None]
    assert b"secret plan" not in everything_on_disk(place)
    assert [store.read(each) for each in (key, *together)] == [LETTER] * 4
    with store.open(large) as stream:
        assert stream.read() == LETTER * 300


def test_bodies_from_before_encryption_and_under_older_keys_stay_readable(settings, place):
    kept = {}
    for keys in ([], [ONE], [TWO, ONE], []):
        settings.STORAGE_KEYS = keys
        alone = store.key_for(uuid7())
        store.put(alone, io.BytesIO(LETTER))
        kept[tuple(keys), "alone"] = alone
        kept[tuple(keys), "together"] = put_together()[1]
        settings.STORAGE_KEYS = [TWO, ONE]
        for each in kept.values():
            assert store.read(each) == LETTER
            with store.open(each) as stream:
                assert stream.read() == LETTER


@pytest.mark.parametrize("keys", [[], [TWO]])
@pytest.mark.parametrize("packed", [False, True])
def test_a_missing_key_is_a_fault_of_ours_that_passes_and_is_told_of(settings, place, key, keys, packed):
    store.put(key, io.BytesIO(LETTER))
    key = put_together()[0] if packed else key
    settings.STORAGE_KEYS = keys
    key_id = sealed.Key.parse(ONE).id.hex()
    for operation in (store.read, store.open):
        with capture_logs() as logs, pytest.raises(sealed.UnknownKey, match=key_id) as caught:
            operation(key)
        assert isinstance(caught.value, StoreUnavailable)
        assert [(line["event"], line["key"], line["key_id"]) for line in logs] == [
            ("body cannot be decrypted", key, key_id)
        ]
        assert ONE not in str(logs)
    settings.STORAGE_KEYS = [TWO, ONE]
    assert store.read(key) == LETTER


def test_a_body_put_in_the_place_of_another_is_refused(place):
    first, second = (store.key_for(uuid7()) for _ in range(2))
    store.put(first, io.BytesIO(LETTER))
    store.put(second, io.BytesIO(b"other" + LETTER))
    shutil.copy(place / first, place / second)
    with pytest.raises(sealed.Broken):
        store.read(second)
    assert store.read(first) == LETTER


def test_a_body_cut_off_on_the_disk_is_never_read_as_a_whole_one(place, key):
    assert store.put_many([(key, Bytes(LETTER * 300))]) == [None]
    os.truncate(place / key, (place / key).stat().st_size - 100)
    with pytest.raises(sealed.Broken):
        store.read(key)
    with store.open(key) as stream, pytest.raises(sealed.Broken):
        stream.read()


@pytest.mark.parametrize("then", [[ONE], [TWO, ONE], []])
@pytest.mark.parametrize("before", [[], [ONE]])
def test_a_repeat_with_the_same_octets_is_no_other_body_whatever_the_keys_were(settings, place, key, before, then):
    settings.STORAGE_KEYS = before
    keys = store.keys_for([(uuid7(), len(LETTER)) for _ in range(3)])
    items = [(each, Bytes(LETTER)) for each in (key, *keys)]
    others = [(each, Bytes(LETTER[:-1] + b"?")) for each in (key, *keys)]
    assert store.put_many(items) == [None] * 4
    settings.STORAGE_KEYS = then
    if before and not then:  # nobody can tell whether it is the same
        assert all(isinstance(error, StoreUnavailable) for error in store.put_many(items))
        return
    stored = everything_on_disk(place)
    assert store.put_many(items) == [None] * 4
    assert all(isinstance(error, FileExistsError) for error in store.put_many(others))
    assert everything_on_disk(place) == stored


def test_what_is_not_there_is_not_there(place, key):
    with pytest.raises(BodyNotFound):
        store.read(key)
    with pytest.raises(BodyNotFound):
        store.open(key)


def test_what_looks_encrypted_cannot_begin_a_message():
    head = sealed.seal(b"", [sealed.Key.parse(ONE)], kind=sealed.BODY)
    assert head[0] == 0  # no octet of a field name (RFC 5322 §2.2); a listener refuses it anywhere (SMTP-10)
