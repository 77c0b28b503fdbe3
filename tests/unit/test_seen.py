"""The states of a site: an array where one is wanted, the commonest with examples, and pictures only when asked for."""

import numpy as np
import pytest

from layerscope._errors import DataError
from layerscope._seen import SeenStates, image_of
from tests.unit.measures.states import bits_of, table_of

PATTERNS = np.array([[5, 5, 1], [5, 1, 1], [5, 5, 5], [2, 5, 0]])
LABELS = np.array([7, 7, 3, 3])


def test_it_is_an_array() -> None:
    seen = SeenStates(table_of(PATTERNS, 3))
    assert seen.shape == (4, 3)
    assert len(seen) == 4
    np.testing.assert_array_equal(seen, bits_of(np.array([0, 1, 2, 5]), 3))
    np.testing.assert_array_equal(seen[1], [True, False, False])
    assert np.asarray(seen, np.float32).dtype == np.float32
    assert repr(seen) == "<4 different states of 3 units in 12 observations>"


def test_the_commonest() -> None:
    top = SeenStates(table_of(PATTERNS, 3, ids=np.array([40, 30, 20, 10]))).top(2)
    assert top.to_dict("list") == {
        "state": ["05", "01"], "fires": [2, 1], "observations": [7, 3], "share": [7 / 12, 3 / 12], "samples": [4, 2], "example": [10, 30],
    }  # fmt: skip
    assert len(SeenStates(table_of(PATTERNS, 3)).top()) == 4


def test_the_commonest_by_class() -> None:
    top = SeenStates(table_of(PATTERNS, 3, labels=LABELS)).top(2)
    assert top["class"].tolist() == [3, 7]
    assert top["class share"].tolist() == [4 / 7, 1.0]


def test_states_that_classes_share() -> None:
    seen = SeenStates(table_of(PATTERNS, 3, labels=LABELS, ids=np.array([40, 30, 20, 10])))
    assert seen.mixed().to_dict("records") == [
        {"state": "05", "observations": 7, "samples": 4, "classes": {3: 4, 7: 3}, "examples": {3: 10, 7: 30}}
    ]
    with pytest.raises(DataError, match="not counted by label"):
        SeenStates(table_of(PATTERNS, 3)).mixed()


def test_pictures_of_the_samples() -> None:
    images = np.arange(4 * 9, dtype=np.float32).reshape(4, 1, 3, 3)
    figure = SeenStates(table_of(PATTERNS, 3, labels=LABELS)).show((images, LABELS), 2)
    shown = [ax.get_images()[0].get_array() for ax in figure.axes if ax.get_images()]
    assert [ax.get_title() for ax in figure.axes if ax.get_images()] == ["id 2", "id 0", "id 0"]
    assert all(np.asarray(picture).shape == (3, 3) for picture in shown)
    assert len(SeenStates(table_of(PATTERNS, 3)).show(images, 3).axes) == 3


@pytest.mark.parametrize(
    ("item", "shape"),
    [
        (np.zeros((3, 5, 6)), (5, 6, 3)),
        (np.zeros((5, 4, 3)), (5, 4, 3)),
        ((np.ones((1, 6, 6)), 3), (6, 6)),
        ({"pixels": np.ones((6, 6, 1)), "label": 3}, (6, 6)),
    ],
)
def test_forms_of_images(item: object, shape: tuple[int, ...]) -> None:
    assert image_of([item], 0).shape == shape


def test_what_is_no_image() -> None:
    with pytest.raises(DataError, match=r"item 0 of shape \(7,\) is no image"):
        image_of([np.zeros(7)], 0)
    with pytest.raises(DataError, match="the data has no item 9"):
        image_of([np.zeros((3, 3))], 9)
    with pytest.raises(DataError, match="the data has no item 0"):
        image_of(iter([np.zeros((3, 3))]), 0)
