from __future__ import annotations

import pytest

from pytest_finetune.core.text import encoded
from pytest_finetune.errors import UsageError


def test_text_is_utf_8() -> None:
    assert encoded("größte 日本 😀") == "größte 日本 😀".encode()


def test_half_a_character_is_shown_with_what_is_around_it() -> None:
    with pytest.raises(UsageError) as error:
        encoded(f"{'x' * 30} sch\udcf6n {'y' * 30}")
    assert str(error.value) == (
        f"the text holds '\\udcf6', half a character, in '{'x' * 16} sch\\udcf6n {'y' * 18}': write it as UTF-8"
    )
