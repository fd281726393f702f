import json
import os
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from b4g import keys
from b4g.errors import KeyFileError
from b4g.hashing import rng

GOOD: dict[str, Any] = {"b4g_key": 1, "words": ["amber", "kettle"], "salt": "00ff", "bits": 20.0}


def _write(path: Path, content: Any, mode: int = 0o600) -> Path:
    path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    path.chmod(mode)
    return path


def test_a_new_key_file_can_be_read_by_its_owner_alone(tmp_path: Path) -> None:
    old = os.umask(0)
    try:
        keys.generate(tmp_path / "deep" / "my.key")
    finally:
        os.umask(old)
    assert stat.S_IMODE((tmp_path / "deep" / "my.key").stat().st_mode) == 0o600


def test_a_generated_key_is_read_back_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "my.key"
    key = keys.generate(path, words=4)
    assert keys.read(str(path)) == key
    assert len(set(key.words)) == 4
    assert set(key.words) <= set(keys.word_list())
    assert key.bits == pytest.approx(39.99, abs=0.01)
    assert not key.public


def test_two_generated_keys_differ(tmp_path: Path) -> None:
    one, other = keys.generate(tmp_path / "a"), keys.generate(tmp_path / "b")
    assert (one.text, one.salt) != (other.text, other.salt)


def test_a_secret_of_the_owners_keeps_its_words_and_claims_no_entropy(tmp_path: Path) -> None:
    key = keys.generate(tmp_path / "my.key", text="  Correct  horse\nÄpfel 東京 ")
    assert key.words == ("Correct", "horse", "Äpfel", "東京")
    assert key.bits is None


def test_a_key_is_never_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "my.key"
    keys.generate(path)
    before = path.read_bytes()
    with pytest.raises(KeyFileError, match=r"my\.key exists; a key is never overwritten"):
        keys.generate(path)
    assert path.read_bytes() == before


def test_a_link_that_leads_nowhere_is_not_written_through(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "target")
    with pytest.raises(KeyFileError, match="never overwritten"):
        keys.generate(tmp_path / "link")
    assert not (tmp_path / "target").exists()


def test_a_place_that_cannot_be_written_is_named_with_the_reason(tmp_path: Path) -> None:
    with pytest.raises(KeyFileError, match="can't be written: File name too long"):
        keys.generate(tmp_path / ("x" * 300))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"words": 0}, "a key has 1 to 16 words, not 0"),
        ({"words": 17}, "a key has 1 to 16 words, not 17"),
        ({"text": " \n"}, "a secret text has 1 to 64 words, not 0"),
        ({"text": "word " * 65}, "a secret text has 1 to 64 words, not 65"),
    ],
)
def test_a_key_of_no_size_or_too_large_is_not_made(options: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(KeyFileError, match=message):
        keys.generate(tmp_path / "my.key", **options)
    assert not (tmp_path / "my.key").exists()


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o777])
def test_a_key_file_that_others_can_read_is_refused_with_the_command_that_mends_it(mode: int, tmp_path: Path) -> None:
    path = _write(tmp_path / "my.key", GOOD, mode)
    with pytest.raises(KeyFileError, match=rf"can be read by others\. Type: chmod 600 {path}"):
        keys.read(str(path))


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"\xff\xfe",
        b"[" * 100_000,
        [],
        "amber kettle",
        {},
        {**GOOD, "words": "amber"},
        {**GOOD, "words": 7},
        {**GOOD, "words": ["amber", 7]},
        {**GOOD, "words": ["amber kettle"]},
        {**GOOD, "words": ["amber", ""]},
        {**GOOD, "bits": "many"},
        {key: value for key, value in GOOD.items() if key != "salt"},
    ],
)
def test_a_malformed_key_file_is_refused_and_nothing_of_it_is_repeated(content: Any, tmp_path: Path) -> None:
    path = _write(tmp_path / "my.key", content)
    with pytest.raises(KeyFileError, match=r"my\.key is no key file \(\w+\)\. Make one with: b4g keygen") as caught:
        keys.read(str(path))
    assert "amber" not in str(caught.value)


def test_a_key_file_of_another_format_is_refused_with_both_formats(tmp_path: Path) -> None:
    path = _write(tmp_path / "my.key", {**GOOD, "b4g_key": 2})
    with pytest.raises(KeyFileError, match="of format 2; this b4g reads format 1"):
        keys.read(str(path))


@pytest.mark.parametrize("count", [0, 65])
def test_a_key_file_with_no_words_or_too_many_is_refused(count: int, tmp_path: Path) -> None:
    path = _write(tmp_path / "my.key", {**GOOD, "words": ["amber"] * count})
    with pytest.raises(KeyFileError, match=f"holds a key of {count} words"):
        keys.read(str(path))


@pytest.mark.parametrize("reference", ["nowhere.key", "", "x" * 5000, "nul\0byte"])
def test_a_reference_to_no_file_says_how_to_make_one(
    reference: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(KeyFileError, match="b4g keygen"):
        keys.read(reference)


def test_a_folder_is_no_key_file(tmp_path: Path) -> None:
    with pytest.raises(KeyFileError, match="is no file"):
        keys.read(str(tmp_path))


def test_a_key_file_that_cannot_be_opened_is_named_with_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = _write(tmp_path / "my.key", GOOD)

    def refuse(*_: object) -> str:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_text", refuse)
    with pytest.raises(KeyFileError, match="can't be read: Permission denied"):
        keys.read(str(path))


def test_a_key_file_that_changed_is_read_anew(tmp_path: Path) -> None:
    path = _write(tmp_path / "my.key", GOOD)
    os.utime(path, ns=(1, 1))
    assert keys.read(str(path)).text == "amber kettle"
    _write(path, {**GOOD, "words": ["otter"]})
    assert keys.read(str(path)).text == "otter"


def test_repr_and_str_never_show_the_words_or_the_salt(tmp_path: Path) -> None:
    key = keys.read(str(_write(tmp_path / "my.key", GOOD)))
    for shown in (repr(key), str(key), f"{key}", repr([key]), f"{key!r:>200}"):
        assert not any(secret in shown for secret in (*key.words, key.salt))


def test_a_tag_tells_keys_apart_and_hangs_on_the_salt() -> None:
    key = keys.draw(3, rng("one"))
    other_salt = keys.Key(key.words, "00", key.bits)
    other_words = keys.Key(key.words[::-1], key.salt, key.bits)
    assert len({key.tag, other_salt.tag, other_words.tag}) == 3
    assert len(key.tag) == 12


def test_a_public_key_is_pinned_for_ever() -> None:
    key = keys.read("public:safety")
    assert key.tag == "6d45f0c98db9"
    assert key.public
    assert len(key.words) == 3


def test_public_keys_are_the_same_in_another_process() -> None:
    code = "from b4g import keys; print(keys.read('public:style').tag, keys.read('public:style@7', 5).tag)"
    told = subprocess.run(
        [sys.executable, "-c", code], env={"PYTHONHASHSEED": "9"}, check=True, capture_output=True, text=True
    ).stdout.split()
    assert told == [keys.read("public:style").tag, keys.read("public:style@7", 5).tag]


def test_public_keys_differ_by_name_seed_and_size() -> None:
    references = [("public:a", 3), ("public:b", 3), ("public:a@1", 3), ("public:a@2", 3), ("public:a", 4)]
    assert len({keys.read(*reference).text for reference in references}) == len(references)


def test_a_seed_replaces_the_one_before_and_leaves_a_key_file_alone() -> None:
    assert keys.with_seed("public:a", 1) == "public:a@1"
    assert keys.with_seed(keys.with_seed("public:a", 1), 2) == "public:a@2"
    assert keys.with_seed("my@home.key", 1) == "my@home.key"


def test_the_word_list_has_1024_distinct_plain_words() -> None:
    words = keys.word_list()
    assert len(words) == len(set(words)) == 1024
    assert all(word.isascii() and word.isalpha() and word.islower() for word in words)


@given(st.integers(1, 16), st.integers())
def test_a_drawn_key_has_distinct_words_and_ten_bits_a_word_less_the_repeats(count: int, seed: int) -> None:
    key = keys.draw(count, rng(seed))
    assert len(set(key.words)) == count
    assert key.bits is not None
    assert 10 * count - 0.2 < key.bits <= 10 * count


def test_redaction_knows_no_letter_case_and_no_spacing() -> None:
    hidden = ("amber kettle",)
    assert keys.redact("say AMBER Kettle, amber\n kettle!", hidden) == "say [secret], [secret]!"
    assert keys.redact("an amber cup", hidden) == "an amber cup"


def test_redaction_takes_the_longer_secret_first_and_no_empty_one() -> None:
    assert keys.redact("amber kettle amber", ("amber", "amber kettle", "", " ")) == "[secret] [secret]"
    assert keys.redact("amber", ()) == "amber"


def test_a_letter_that_grows_in_lower_case_moves_no_redaction() -> None:
    assert keys.redact("İİİ amber kettle.", ("amber kettle",)) == "İİİ [secret]."


def test_a_secret_that_is_part_of_the_mark_or_of_a_pattern_is_redacted_once() -> None:
    assert keys.redact("a.c secret abc", ("secret", "a.c")) == "[secret] [secret] abc"


@given(st.text(max_size=20), st.text(max_size=20), st.sampled_from(["Amber kettle", "otter", "a.b *c"]), st.booleans())
def test_no_secret_outlives_redaction(head: str, tail: str, secret: str, upper: bool) -> None:
    told = keys.redact(head + (secret.upper() if upper else secret) + tail, (secret,))
    assert secret.lower() not in told.lower()
    assert keys.REDACTED in told
