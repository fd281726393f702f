"""Prefix trees: what sequences begin with alike stands once, and each keeps its own path."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from b4g.trees import forest, plant

SEQUENCES = st.lists(st.lists(st.integers(0, 3), min_size=1, max_size=12), min_size=1, max_size=8)


@given(SEQUENCES)
def test_each_path_spells_its_sequence_and_sees_nothing_else(sequences: list[list[int]]) -> None:
    tree = plant(sequences)
    for sequence, path in zip(sequences, tree.paths, strict=True):
        assert tree.ids[0, path].tolist() == sequence
        assert tree.positions[0, path].tolist() == list(range(len(sequence)))
        for depth, place in enumerate(path):
            assert tree.mask[0, 0, place].nonzero().flatten().tolist() == sorted(path[: depth + 1])


@given(SEQUENCES)
def test_a_tree_has_one_token_for_each_beginning(sequences: list[list[int]]) -> None:
    beginnings = {tuple(sequence[:length]) for sequence in sequences for length in range(1, len(sequence) + 1)}
    assert plant(sequences).ids.shape == (1, len(beginnings))


@given(SEQUENCES, st.integers(1, 20))
def test_a_forest_holds_every_sequence_once_in_trees_that_are_small_enough(
    sequences: list[list[int]], most: int
) -> None:
    ordered = sorted(sequences)
    trees = list(forest(ordered, most))
    assert [place for places in trees for place in places] == list(range(len(ordered)))
    for places in trees:
        size = plant([ordered[place] for place in places]).ids.shape[1]
        assert size <= most or len(places) == 1


def test_neighbours_that_fit_share_a_tree() -> None:
    assert list(forest([[1, 2, 3], [1, 2, 4], [1, 2, 5], [9]], 5)) == [[0, 1, 2], [3]]


@pytest.mark.parametrize("most", [1, 2])
def test_a_sequence_longer_than_a_tree_may_be_stands_alone(most: int) -> None:
    assert list(forest([[1, 2, 3], [1, 2, 3, 4]], most)) == [[0], [1]]
