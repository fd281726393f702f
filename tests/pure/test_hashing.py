import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from b4g.hashing import canonical, digest, file_digest, rng

_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=8,
)


@given(st.dictionaries(st.text(), _JSON, min_size=2, max_size=5))
def test_the_order_of_keys_does_not_change_a_digest(fields: dict[str, object]) -> None:
    assert digest(fields) == digest(dict(reversed(fields.items())))


@given(_JSON, _JSON)
def test_values_with_other_json_text_have_another_digest(one: object, other: object) -> None:
    assert (digest(one, 64) == digest(other, 64)) == (canonical(one) == canonical(other))


def test_a_digest_is_the_start_of_the_sha256_of_the_canonical_text() -> None:
    assert canonical({"b": [1, "ü"], "a": None}) == '{"a":null,"b":[1,"ü"]}'
    assert digest("abc") == "6cc43f858fbb7633"  # sha256 of "abc" in quotes
    assert len(digest("abc", 12)) == 12


def test_nan_has_no_canonical_text() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        canonical(float("nan"))


def test_a_file_digest_is_that_of_its_bytes(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"abc")
    assert file_digest(path) == "ba7816bf8f01cfea"
    assert file_digest(path, 64).startswith(file_digest(path))


def test_a_generator_depends_on_its_parts_and_on_nothing_else() -> None:
    first = [rng("rows", 1).random() for _ in range(3)]
    assert first == [first[0]] * 3
    assert len({rng("rows", 1).random(), rng("rows", 2).random(), rng("row", "s1").random()}) == 3


def test_a_generator_draws_the_same_in_another_process_under_another_hash_seed() -> None:
    code = "from b4g.hashing import rng; print(rng('rows', 3).getrandbits(64))"
    drawn = {
        subprocess.run(
            [sys.executable, "-c", code], env={"PYTHONHASHSEED": seed}, check=True, capture_output=True
        ).stdout
        for seed in ("0", "77")
    }
    assert drawn == {f"{rng('rows', 3).getrandbits(64)}\n".encode()}
