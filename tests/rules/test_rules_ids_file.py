"""`ids.txt`: ids and urls in the forms that people paste."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from furnisync.errors import ConfigError
from furnisync.images.ids_file import read_ids


def read(tmp_path, content):
    path = tmp_path / "ids.txt"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return read_ids(path)


ID = 1234567890
GOOD = [
    f"{ID}",
    f"  {ID}\t",
    f"{ID} # the blue one",
    f"{ID}#note",
    f"https://www.etsy.com/listing/{ID}",
    f"http://www.etsy.com/listing/{ID}",
    f"https://etsy.com/listing/{ID}/",
    f"www.etsy.com/listing/{ID}/mid-century-chair",
    f"etsy.com/listing/{ID}?ref=shop_home",
    f"https://m.etsy.com/listing/{ID}",
    f"https://www.etsy.com/uk/listing/{ID}/stuhl",
    f"https://www.etsy.com/de-en/listing/{ID}/stuhl?click_key=a%3Ab&click_sum=1",
    f"https://www.etsy.com/de/listing/{ID}/st%C3%BChle-aus-eiche",
    f"https://www.etsy.com/listing/{ID}/möbel?x=1#reviews",
    f"https://www.etsy.com/listing/{ID}#reviews",
    f"https://www.etsy.com/listing/{ID}/a?note=a#b",
    f"HTTPS://WWW.ETSY.COM/listing/{ID}",
    f"https://MyShop.etsy.com/listing/{ID}/a",
    f"https://www.etsy.com/your/shops/me/listing/{ID}",
    f"<https://www.etsy.com/listing/{ID}/chair>",
    f'"{ID}"',
    f"{ID},",
]
WRONG = [
    "chair",
    "0",
    "-5",
    "12.5",
    "1e9",
    "007",
    f"{ID} {ID}",
    "1\u0661\u0662",  # digits, but of another script
    str(2**63),
    "1" * 40,
    f"https://www.etsy.com/listing/{2**64}/chair",
    "https://www.etsy.com/listing/",
    "https://www.etsy.com/listing/abc",
    "https://www.etsy.com/shop/SomeShop",
    f"https://www.example.com/listing/{ID}",
    f"https://etsy.com.example.com/listing/{ID}",
    f"https://notetsy.com/listing/{ID}",
    f"ftp://www.etsy.com/listing/{ID}",
    f"https://www.etsy.com/listing/{ID}chair",
]


@pytest.mark.parametrize("line", GOOD)
def test_these_are_understood(tmp_path, line):
    assert read(tmp_path, line).ids == (ID,)


@pytest.mark.parametrize("line", WRONG)
def test_these_are_named_and_the_rest_is_done(tmp_path, line):
    found = read(tmp_path, f"{ID}\n{line}\n7\n")
    assert found.ids == (ID, 7)
    assert found.wrong_lines == (2,)
    assert "line 2" in found.complaint(tmp_path / "ids.txt")


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_files_of_all_systems(tmp_path, end):
    lines = ["\ufeff# mine", "", f"{ID}", "   ", "7", f"{ID}", "nothing", "8"]
    found = read(tmp_path, end.join(lines))
    assert found.ids == (ID, 7, 8)
    assert found.wrong_lines == (7,)


def test_an_odd_character_does_not_shift_the_line_numbers(tmp_path):
    """Editors count lines by line feeds only."""
    found = read(tmp_path, "# a\x0bb\x0cc\u2028d\x85e\n7\nwrong\n")
    assert found.ids == (7,)
    assert found.wrong_lines == (3,)


def test_many_wrong_lines_are_not_all_named(tmp_path):
    found = read(tmp_path, "7\n" + "wrong\n" * 25)
    assert found.complaint(tmp_path / "ids.txt").endswith("9, 10, 11 and 15 more")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "contains no listing ID or URL"),
        ("# none\n\n", "contains no listing ID or URL"),
        ("chair\n", "line 1: write one ID"),
        (b"\xff\xfe1\x002\x00", "no UTF-8 text"),
        (b"\x89PNG\r\n\x1a\n", "no UTF-8 text"),
    ],
)
def test_nothing_to_do_is_an_error_in_one_sentence(tmp_path, content, words):
    with pytest.raises(ConfigError) as told:
        read(tmp_path, content)
    assert words in str(told.value)
    assert str(tmp_path / "ids.txt") in str(told.value)
    assert "\n" not in str(told.value)


@pytest.mark.parametrize("make", [lambda path: None, lambda path: path.mkdir()])
def test_a_file_that_cannot_be_read_is_told(tmp_path, make):
    make(tmp_path / "ids.txt")
    with pytest.raises(ConfigError, match="cannot be read"):
        read_ids(tmp_path / "ids.txt")


words = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\n\r"), max_size=30)


@given(st.lists(st.one_of(st.integers(1, 2**63 - 1), words), max_size=30))
@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_whatever_stands_there_ids_are_found_and_fit(tmp_path, entries):
    found = read(tmp_path, "\n".join(map(str, [1, *entries])))
    wanted = {one for one in entries if isinstance(one, int)} | {1}
    assert wanted <= set(found.ids)
    assert len(set(found.ids)) == len(found.ids)
    assert all(0 < one < 2**63 for one in found.ids)
    assert all(1 < line <= len(entries) + 1 for line in found.wrong_lines)
