"""Segmenting: from pictures and label maps to label maps of new pictures."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from sklearn.metrics import jaccard_score

import chainrule as cr
from chainrule import data, tasks
from chainrule.cli import main
from chainrule.errors import DataError, OptionError, ShapeError
from chainrule.tasks import Settings
from chainrule.training.metrics import confusion_matrix, intersection_over_union

RNG = np.random.default_rng(0)
Array = np.ndarray[Any, Any]
COLOURS = np.array([[60, 60, 60], [200, 60, 60], [60, 200, 60]])


def scene(height: int, width: int) -> tuple[Array, Array]:
    """Two squares, one red and one green, on grey; the green one may hide the red."""
    labels = np.zeros((height, width), np.uint8)
    for number in (1, 2):
        top, left = RNG.integers(0, height - 10), RNG.integers(0, width - 10)
        labels[top : top + 10, left : left + 10] = number
    noise = RNG.normal(0, 20, (height, width, 3))
    picture = np.clip(COLOURS[labels] + noise, 0, 255).astype(np.uint8)
    labels[0] = 255  # what nobody has looked at
    return picture, labels


def write_scenes(root: Path, count: int) -> Path:
    for i in range(count):
        picture, labels = scene(*RNG.integers(24, 40, 2).tolist())
        for kind, pixels in (("images", picture), ("labels", labels)):
            (root / kind).mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(root / kind / f"{i}.png")
    (root / "classes.txt").write_text("ground\nred\ngreen\n")
    return root


@pytest.fixture(scope="module")
def scenes() -> tuple[Array, Array]:
    pairs = [scene(24, 24) for _ in range(120)]
    pictures, labels = zip(*pairs, strict=True)
    return np.stack(pictures), np.stack(labels)


@pytest.fixture(scope="module")
def model(scenes: tuple[Array, Array]) -> tasks.Segmenter:
    return cr.fit(
        *scenes, task="segment", width=8, depth=1, epochs=12, lr=0.01, batch_size=16
    )


def test_a_users_folder_trains_and_new_pictures_get_label_maps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CHAINRULE_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    write_scenes(tmp_path / "places", 30)
    words = "train places --task segment --model unet --width 4 --depth 1 --patch 16"
    assert main([*words.split(), "--epochs", "2", "--out", "run", "--json"]) == 0
    results = json.loads(capsys.readouterr().out)
    assert main(["evaluate", "run", "--json"]) == 0
    scores = json.loads(capsys.readouterr().out)
    assert set(scores["iou"]) == {"ground", "red", "green"}
    assert scores["mean_iou"] == results["mean_iou"]
    assert scores["pixel_accuracy"] == results["pixel_accuracy"]
    page = (tmp_path / "run" / "report.html").read_text()
    assert ">IoU</th>" in page
    assert page.count('alt="images/') == 4 * 6, "four pictures of each of six scenes"
    picture, _ = scene(60, 70)
    Image.fromarray(picture).save("new.jpg", quality=95)
    assert main(["predict", "run", "new.jpg", "--json"]) == 0
    (told,) = json.loads(capsys.readouterr().out)["predictions"]
    assert told["label_map"] == "new-labels.png"
    assert sum(told["shares"].values()) == pytest.approx(1)
    with Image.open("new-labels.png") as image:
        assert image.size == (70, 60)
        assert image.mode == "P"
    assert main(["predict", "run", "new.jpg"]) == 0
    assert "new-labels.png" in capsys.readouterr().out
    assert main(["predict", "run", "new.jpg", "--crop", "0,0,4,4"]) == 2


def test_colours_are_learned(
    model: tasks.Segmenter, scenes: tuple[Array, Array]
) -> None:
    scores = model.evaluate(data.arrays(*scenes, task="segment"))
    assert scores["mean_iou"] > 0.9
    assert scores["pixel_accuracy"] > 0.95
    predicted = np.stack([model.segment(picture) for picture in scenes[0]])
    labels = scenes[1]
    counts = labels != 255
    expected = jaccard_score(labels[counts], predicted[counts], average=None)
    np.testing.assert_allclose(list(scores["iou"].values()), expected)
    assert scores["mean_iou"] == pytest.approx(expected.mean())


def test_a_large_picture_is_segmented_in_tiles_as_it_is_whole(
    model: tasks.Segmenter, monkeypatch: pytest.MonkeyPatch
) -> None:
    from chainrule.restoration import tiles

    picture, _ = scene(131, 170)
    whole = model.outputs(picture[None])[0].argmax(axis=-1)
    monkeypatch.setattr(tiles, "_USUAL_SIDE", 48)
    found = model.segment(picture)
    assert found.dtype == np.uint8
    assert (found == whole).mean() > 0.9999, "but for ties"


def test_the_model_file_keeps_what_the_task_is(
    model: tasks.Segmenter, tmp_path: Path, scenes: tuple[Array, Array]
) -> None:
    model.save(tmp_path / "model.safetensors")
    again = tasks.load(tmp_path / "model.safetensors")
    assert again.task == model.task
    np.testing.assert_array_equal(
        again.segment(scenes[0][0]), model.segment(scenes[0][0])
    )


@pytest.mark.parametrize("name", ["mlp", "encoder_decoder"])
def test_every_model_that_takes_pictures_segments(
    name: str, scenes: tuple[Array, Array]
) -> None:
    found = cr.fit(*scenes, task="segment", model=name, epochs=1)
    assert found.segment(scenes[0][0]).shape == (24, 24)
    assert found.segment(np.tile(scenes[0][0], (2, 3, 1))).shape == (48, 72)


def test_classes_can_be_weighted_and_one_can_be_left_out(
    scenes: tuple[Array, Array],
) -> None:
    dataset = data.arrays(*scenes, task="segment")
    splits = data.Splits(dataset, dataset, dataset)

    def task_of(**options: Any) -> Any:
        settings = tasks.resolve(Settings(task="segment", **options), splits)
        return tasks.prepare(settings, splits).task

    assert task_of().class_weights == ()
    counts = np.bincount(scenes[1][scenes[1] != 255])
    balanced = task_of(class_weights="balanced").class_weights
    np.testing.assert_allclose(balanced, counts.sum() / (3 * counts), rtol=1e-3)
    assert task_of(class_weights="balanced", ignore_label=0).class_weights[0] == 0
    assert task_of(class_weights="1,2,0.5").class_weights == (1, 2, 0.5)
    model = cr.fit(dataset, task="segment", width=4, depth=1, epochs=1, ignore_label=2)
    assert model.evaluate(dataset)["iou"]["2"] in (None, 0.0)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"class_weights": "1,2"}, "not a weight for each class"),
        ({"class_weights": "1,2,-1"}, "not a weight for each class"),
        ({"class_weights": "many"}, "not a weight for each class"),
        ({"ignore_label": 256}, "no number of a label map"),
        ({"corruption": ("noise:gaussian:5",)}, "means nothing to the task segment"),
        ({"tta": 2, "augment": "flip"}, "means nothing to the task segment"),
        ({"augment": "rotate:5"}, "pixels without a class"),
        ({"loss": "squared"}, "unknown loss for task segment"),
        ({"model": "dncnn"}, "adds its outputs to a picture"),
    ],
)
def test_options_that_do_not_fit_are_refused(
    options: dict[str, Any], told: str, scenes: tuple[Array, Array]
) -> None:
    with pytest.raises(OptionError, match=told):
        cr.fit(*scenes, task="segment", **options)


def test_other_pictures_and_other_classes_are_refused(
    model: tasks.Segmenter, scenes: tuple[Array, Array]
) -> None:
    with pytest.raises(ShapeError, match="not a picture of the model's channels"):
        model.segment(scenes[0][0][..., :2])
    others = data.arrays(*scenes, task="segment", class_names=("sky", "earth", "water"))
    with pytest.raises(DataError, match="other classes"):
        model.evaluate(others)
    with pytest.raises(OptionError, match="class_weights"):
        cr.fit(scenes[0], scenes[1][:, 1, 1], class_weights="1,2,3", epochs=1)


def test_intersection_over_union_is_scikit_learns() -> None:
    labels, predicted = RNG.integers(0, 5, (2, 400))
    found = intersection_over_union(confusion_matrix(predicted, labels, 7))
    expected = jaccard_score(labels, predicted, average=None)
    np.testing.assert_allclose(found[:5], expected)
    assert np.isnan(found[5:]).all(), "classes that do not occur"
