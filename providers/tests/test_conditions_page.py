"""docs/routing-conditions.md says what there is, and its examples work (RTE-1)."""

import json
import re
from pathlib import Path

import pytest

from providers import conditions

PAGE = (Path(__file__).resolve().parents[2] / "docs/routing-conditions.md").read_text()
ROWS = {
    field: (set(re.findall(r"`(\w+)`", keys)), json.loads(example))
    for field, keys, example in re.findall(r"^\| `(\w+)` \| (.+?) \| `(\{.+?\})` \|", PAGE, re.MULTILINE)
}


def test_every_field_is_on_the_page_and_no_other():
    assert tuple(ROWS) == conditions.FIELDS


@pytest.mark.parametrize("field", conditions.FIELDS)
def test_an_example_is_of_its_field_has_the_keys_of_its_row_and_is_taken(field):
    keys, example = ROWS[field]
    assert example["field"] == field
    assert set(example) == {"field", *keys}
    conditions.validate([example])


@pytest.mark.parametrize("field", conditions.FIELDS)
def test_a_field_takes_no_keys_but_those_of_its_row(field):
    keys, example = ROWS[field]
    with pytest.raises(conditions.ValidationError) as caught:
        conditions.validate([{**example, "extra": 1}])
    (text,) = caught.value.messages
    assert f"{field} takes the keys " in text
    assert keys == set(re.findall(r"\w+", text.partition("takes the keys ")[2].removesuffix(" only")))


def test_the_long_example_is_taken():
    (block,) = re.findall(r"```json\n(.+?)```", PAGE, re.DOTALL)
    conditions.validate(json.loads(block))
