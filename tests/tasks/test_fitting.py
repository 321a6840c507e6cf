"""Learning from arrays, and what the labels of other arrays then mean."""

import numpy as np
import pytest

import chainrule as cr
from chainrule.errors import ChainruleError, DataError, OptionError

RNG = np.random.default_rng(0)
LABELS = np.arange(60) % 2
IMAGES = RNG.integers(0, 60, (60, 6, 6), dtype=np.uint8)
IMAGES[LABELS == 1, :, 3:] += 150
NAMES = np.array(["dark", "light"])[LABELS]


def fit(images=IMAGES, labels=LABELS, **options):
    return cr.fit(
        images, labels, **{"hidden": (16,), "epochs": 40, "seed": 0} | options
    )


def test_names_of_classes_mean_the_same_in_evaluation_as_in_training():
    model = fit(labels=NAMES)
    only_light = LABELS == 1
    scores = cr.evaluate(model, IMAGES[only_light], NAMES[only_light])
    assert scores["accuracy"] == 1
    with pytest.raises(DataError) as error:
        cr.evaluate(model, IMAGES, np.where(LABELS, "grey", "dark"))
    assert str(error.value) == (
        "arrays: a target is none of the classes\n"
        "  got:      'grey' at example 1\n"
        "  expected: one of dark, light"
    )


def test_names_of_classes_mean_the_same_in_the_validation_pair():
    only_light = LABELS == 1
    held_out = (IMAGES[only_light], NAMES[only_light])
    model = fit(labels=NAMES, validation=held_out)
    assert cr.evaluate(model, *held_out)["accuracy"] == 1


def test_a_data_set_of_other_classes_is_not_scored():
    model = fit(labels=NAMES)
    renamed = cr.data.arrays(IMAGES, np.where(LABELS, "a light one", "dark"))
    with pytest.raises(DataError) as error:
        cr.evaluate(model, renamed)
    assert str(error.value) == (
        "arrays: other classes than those that the model has learned\n"
        "  got:      a light one, dark\n"
        "  expected: dark, light\n"
        "  try:      were class folders renamed, added or removed since it was trained?"
    )
    assert cr.evaluate(model, cr.data.arrays(IMAGES, LABELS))["accuracy"] == 1


def test_nothing_cannot_be_evaluated():
    with pytest.raises(DataError, match="nothing to evaluate"):
        cr.evaluate(fit(), IMAGES[:0], LABELS[:0])


def test_a_grey_picture_needs_no_axis_of_channels():
    model = fit(images=IMAGES / 255)
    assert [model.predict(x / 255).classes[0][0] for x in IMAGES[:2]] == ["0", "1"]


def test_a_model_of_numbers_takes_no_pixels(tmp_path):
    file = tmp_path / "model.safetensors"
    fit(images=IMAGES / 255).save(file)
    with pytest.raises(DataError) as error:
        cr.load(file).predict("picture.png")
    assert str(error.value) == (
        "predict: the model was trained on numbers, not on pixels\n"
        "  got:      a picture\n"
        "  expected: an array of shape (6, 6, 1), scaled like the training data\n"
        "  try:      train on uint8 pixels of 0 to 255 to predict pictures"
    )


def test_a_model_of_pixels_takes_no_other_scale():
    with pytest.raises(DataError, match="not a picture"):
        fit().predict(IMAGES[0, :, :, None] / 255)


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        ((IMAGES,), {}, "images without labels"),
        (("photos/",), {}, "images without labels"),
        (([[1, 2], [3]], [0, 1]), {}, "arrays: inputs of unequal lengths"),
        ((IMAGES, LABELS), {"validation": 0}, "no examples for validation"),
        ((IMAGES, LABELS), {"validation": None}, "fit: validation is no data"),
        ((IMAGES, LABELS), {"size": (3, 3)}, "fit: size is an option of runs"),
        ((IMAGES, LABELS), {"freeze": ("network",)}, "option freeze: nothing is left"),
    ],
)
def test_what_cannot_be_learned_from_is_one_clear_error(arguments, options, message):
    with pytest.raises(ChainruleError, match=message):
        cr.fit(*arguments, epochs=1, **options)


def test_options_may_be_numbers_of_numpy():
    model = fit(epochs=np.int64(2), lr=np.float32(0.01), hidden=np.array([4]))
    assert model.architecture.hidden == (4,)
    with pytest.raises(OptionError, match="option epochs: wrong kind"):
        fit(epochs=np.float64(2))
