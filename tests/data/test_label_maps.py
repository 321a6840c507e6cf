"""Pairs of pictures and label maps: what is read, and what is told instead."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from chainrule import data
from chainrule.data import Keys
from chainrule.data.label_maps import (
    LabelledPictures,
    class_colours,
    read_label_map,
    write_label_map,
)
from chainrule.errors import DataError, OptionError

RNG = np.random.default_rng(0)
Array = np.ndarray[Any, Any]


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHAINRULE_CACHE_DIR", str(tmp_path / "cache"))


def save(path: Path, pixels: Array) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def pair(root: Path, key: str, size: tuple[int, int], classes: int = 3) -> Array:
    """A picture whose red is its class, and its label map; the label map."""
    labels = RNG.integers(0, classes, size).astype(np.uint8)
    picture = np.stack([40 * labels, *RNG.integers(0, 255, (2, *size))], axis=-1)
    save(root / "images" / f"{key}.png", picture.astype(np.uint8))
    save(root / "labels" / f"{key}.png", labels)
    return labels


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "data"
    # The endings decide how files sort, and not the names: "a" is before "a-b".
    for key in ("a", "a-b", "a-c", "street/b", "street/c"):
        pair(root, key, (RNG.integers(20, 40), RNG.integers(20, 40)))
    return root


def test_every_picture_meets_its_own_label_map(folder: Path) -> None:
    Image.open(folder / "images/a.png").save(folder / "images/a.bmp")
    (folder / "images/a.png").unlink()
    splits = data.load(folder, task="segment", validation=0.2, test=0.2)
    found = {
        source
        for _, part in splits.items()
        for i, source in enumerate(part.sources or ())
        if (part.picture(i)[..., 0] == 40 * part.label_map(i)).all()
    }
    assert len(found) == 5
    assert splits.train.class_names == ("0", "1", "2")
    assert not splits.train.has_one_size


@pytest.mark.parametrize("part_first", [True, False])
def test_parts_are_above_or_below_the_two_folders(
    tmp_path: Path, part_first: bool
) -> None:
    for part, count in (("train", 3), ("val", 2), ("test", 1)):
        for i in range(count):
            labels = pair(tmp_path / "made", f"{i}", (20, 20 + i))
            for kind in ("images", "labels"):
                inner = (part, kind) if part_first else (kind, part)
                target = tmp_path / "data" / "/".join(inner) / f"{i}.png"
                target.parent.mkdir(parents=True, exist_ok=True)
                (tmp_path / "made" / kind / f"{i}.png").rename(target)
            assert labels.shape == (20, 20 + i)
    (tmp_path / "data/classes.txt").write_text("ground\nwall\n\nsky\nnever seen\n")
    splits = data.load(tmp_path / "data", task="segment")
    assert [len(part) for _, part in splits.items()] == [3, 2, 1]
    assert splits.test.class_names == ("ground", "wall", "sky", "never seen")
    assert splits.train.targets.tolist() == [[1, 1, 1, 0]] * 3


@pytest.mark.parametrize("form", ["grey", "palette", "two colours", "16 bits"])
def test_numbers_are_read_whatever_form_they_have(tmp_path: Path, form: str) -> None:
    labels = RNG.integers(0, 2, (5, 7)).astype(np.uint8)
    image = Image.fromarray(labels)
    if form == "palette":
        image.putpalette(class_colours(256).tobytes())
        assert image.mode == "P"
    if form == "two colours":
        image = Image.fromarray(labels.astype(bool))
    if form == "16 bits":
        image = Image.fromarray(labels.astype(np.uint16))
    image.save(tmp_path / "a.png")
    content = (tmp_path / "a.png").read_bytes()
    np.testing.assert_array_equal(read_label_map(content, "a.png"), labels)


def test_a_label_map_that_is_written_is_read_again(tmp_path: Path) -> None:
    labels = RNG.integers(0, 256, (9, 4)).astype(np.uint8)
    write_label_map(tmp_path / "a.png", labels)
    content = (tmp_path / "a.png").read_bytes()
    np.testing.assert_array_equal(read_label_map(content, "a.png"), labels)
    colours = np.asarray(Image.open(tmp_path / "a.png").convert("RGB"))
    np.testing.assert_array_equal(colours, class_colours(256)[labels])
    assert len(np.unique(class_colours(256), axis=0)) == 256


# ------------------------------------------------------------------------- refusals


def test_pairs_that_do_not_match_are_told(folder: Path) -> None:
    (folder / "labels/street/b.png").unlink()
    with pytest.raises(DataError, match="1 file in images/ without a partner") as told:
        data.load(folder, task="segment")
    assert told.value.got == "street/b"
    (folder / "images/street/b.png").unlink()
    save(folder / "labels/a.bmp", np.zeros((3, 3), np.uint8))
    with pytest.raises(DataError, match="two files for one place"):
        data.load(folder, task="segment")
    (folder / "labels/a.bmp").unlink()
    save(folder / "labels/a.png", np.zeros((3, 4), np.uint8))
    with pytest.raises(DataError, match=r"a\.png: the label map has another size"):
        data.load(folder, task="segment")


def test_what_is_no_label_map_is_told(folder: Path) -> None:
    picture = np.asarray(Image.open(folder / "images/a.png"))
    save(folder / "labels/a.png", picture)
    found = data.load(folder, task="segment")
    assert len(found.train.problems) == 1, "the others are learned from"
    assert "pixels of the form RGB" in found.train.problems[0]
    with pytest.raises(DataError, match="no label map"):
        read_label_map(jpeg(), "a.jpg")
    Image.fromarray(np.full((3, 3), 300, np.uint16)).save(folder / "b.png")
    with pytest.raises(DataError, match="no label map") as told:
        read_label_map((folder / "b.png").read_bytes(), "b.png")
    assert "300" in told.value.got


def jpeg() -> bytes:
    import io

    buffer = io.BytesIO()
    Image.new("L", (8, 8)).save(buffer, "JPEG")
    return buffer.getvalue()


def test_a_class_without_a_name_and_folders_of_other_kinds_are_told(
    folder: Path, tmp_path: Path
) -> None:
    (folder / "classes.txt").write_text("ground\nwall\n")
    with pytest.raises(DataError, match="a class without a name"):
        data.load(folder, task="segment")
    save(tmp_path / "other" / "cat" / "a.png", np.zeros((3, 3), np.uint8))
    with pytest.raises(DataError, match="no pairs of pictures and label maps"):
        data.load(tmp_path / "other", task="segment")
    with pytest.raises(OptionError, match="keep their sizes"):
        data.load(folder, task="segment", size=(8, 8))
    with pytest.raises(OptionError, match="does not apply"):
        data.load("digits", task="segment")
    with pytest.raises(DataError, match="no label maps"):
        data.load("digits").train.label_map(0)


@pytest.mark.parametrize(
    ("labels", "told"),
    [
        (np.zeros((4, 8)), "no label maps"),
        (np.zeros((4, 8, 8)), "no label maps"),
        (np.full((4, 8, 8), -1), "numbers that are no classes"),
        (np.zeros((4, 8, 9), np.uint8), "another size than the pictures"),
        (np.full((4, 8, 8), 255), "no pixel has a class"),
    ],
)
def test_arrays_that_are_no_label_maps_are_told(labels: Array, told: str) -> None:
    with pytest.raises(DataError, match=told):
        data.arrays(np.zeros((4, 8, 8), np.uint8), labels, task="segment")


# ------------------------------------------------------------------------- examples


def test_a_patch_and_its_labels_are_cut_and_moved_together(folder: Path) -> None:
    base = data.load(folder, task="segment").train
    augment = data.parse("shift:3,flip,brightness:0.0")
    examples = LabelledPictures(base, patch=16, augment=augment, ignore_label=2)
    indices = np.arange(len(examples))
    pictures, labels = examples.pairs(indices, Keys(0, 1, indices))
    assert pictures.shape == (len(examples), 16, 16, 3)
    assert labels.dtype == np.uint8
    expected = np.where(pictures[..., 0] == 80, 255, pictures[..., 0] // 40)
    np.testing.assert_array_equal(labels, expected)
    again, _ = examples.pairs(indices, Keys(0, 1, indices))
    other, _ = examples.pairs(indices, Keys(0, 2, indices))
    assert (again == pictures).all()
    assert (other != pictures).any()
    one, _ = examples.pairs(indices[3:4], Keys(0, 1, indices[3:4]))
    np.testing.assert_array_equal(one[0], pictures[3])


@pytest.mark.parametrize("augment", ["rotate:10", "crop:2", "cutout:4"])
def test_augmentation_that_leaves_pixels_without_a_class_is_refused(
    folder: Path, augment: str
) -> None:
    base = data.load(folder, task="segment").train
    with pytest.raises(OptionError, match="pixels without a class"):
        LabelledPictures(base, patch=16, augment=data.parse(augment))
