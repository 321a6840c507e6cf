"""Pairs of damaged and undamaged pictures, from arrays and folders of any sizes."""

import numpy as np
import pytest
from made_data import png, write_folder, write_zip

import chainrule as cr
from chainrule.data import Keys, Loader
from chainrule.data.corruptions import parse_corruptions
from chainrule.data.damaged import DamagedPictures
from chainrule.data.patches import Patches
from chainrule.data.photos import read_photos
from chainrule.errors import DataError, OptionError

SIZES = [(40, 60), (33, 50), (90, 35)]


@pytest.fixture
def photos():
    """Pictures of three sizes, by name."""
    rng = np.random.default_rng(0)
    return {
        f"{'abc'[i]}.png": rng.integers(0, 256, (*size, 3), dtype=np.uint8)
        for i, size in enumerate(SIZES)
    }


def folder_of(path, photos, prefix=""):
    return write_folder(path, {prefix + name: png(x) for name, x in photos.items()})


# ----------------------------------------------------------------------------- patches


def test_an_epoch_of_patches_shows_about_as_many_pixels_as_there_are():
    patches = Patches(SIZES, 16)
    pixels = sum(h * w for h, w in SIZES)
    assert len(patches) * 16**2 == pytest.approx(pixels, rel=0.1)


def test_patches_lie_everywhere_and_are_turned_in_all_eight_ways():
    patches = Patches([(12, 9)], 8)
    assert len(patches) == 2
    seen, symmetries = np.zeros((12, 9), bool), set()
    for epoch in range(200):
        for patch in patches.at(Keys(0, epoch, np.arange(2))):
            seen[patch.top : patch.top + 8, patch.left : patch.left + 8] = True
            symmetries.add(patch.symmetry)
    assert seen.all()
    assert symmetries == set(range(8))


def test_the_eight_ways_are_different_and_undo_no_pixel():
    (patch,) = Patches([(5, 5)], 5).at(Keys(0, 0, np.arange(1)))
    picture = np.arange(25).reshape(5, 5)
    ways = {patch._replace(symmetry=s).of(picture).tobytes() for s in range(8)}
    assert len(ways) == 8
    assert all(sorted(np.frombuffer(w, picture.dtype)) == [*range(25)] for w in ways)


def test_pictures_smaller_than_a_patch_are_told():
    with pytest.raises(DataError) as error:
        Patches(SIZES, 36)
    assert str(error.value) == (
        "pictures that are smaller than a patch\n"
        "  got:      2 pictures, one of 50×33\n"
        "  expected: at least 36×36 pixels\n"
        "  try:      patch=33, or leave them out"
    )


def test_pictures_without_room_for_a_patch_are_left_out_and_listed(tmp_path, photos):
    base = read_photos(folder_of(tmp_path / "photos", photos))["train"]
    chain = parse_corruptions(["noise:gaussian:1"])
    pairs = DamagedPictures(base, chain, patch=34)
    assert pairs.problems == ["b.png: smaller than a patch (50×33)"]
    assert not base.problems
    with pytest.raises(DataError) as error:
        DamagedPictures(base, chain, patch=64)
    assert str(error.value) == (
        "photos: pictures that are smaller than a patch\n"
        "  got:      3 pictures, the largest of 60×40\n"
        "  expected: at least 64×64 pixels\n"
        "  try:      a smaller patch: 40"
    )


# ------------------------------------------------------------------------------- pairs


def test_pairs_are_the_picture_and_what_is_left_of_it():
    digits = cr.data.load("digits").train
    chain = parse_corruptions(["mask:boxes:3"])

    def both(damaged):
        return np.concatenate([damaged.pictures, damaged.lost], -1, dtype=np.float32)

    pairs = DamagedPictures(digits, chain, as_inputs=both, tells_lost=True)
    assert pairs.example_shape == (8, 8, 2)
    indices = np.array([5, 9, 11])
    inputs, targets = pairs.pairs(indices, Keys(0, 1, indices))
    np.testing.assert_array_equal(targets[..., :1], digits.read(indices))
    np.testing.assert_array_equal(inputs[..., 1], targets[..., 1])
    assert (targets[..., 1].sum(axis=(1, 2)) == 9).all()
    expected = np.where(inputs[..., 1:] > 0, 0, targets[..., :1])
    np.testing.assert_array_equal(inputs[..., :1], expected)


def test_every_epoch_damages_anew_and_an_evaluation_always_alike():
    digits = cr.data.load("digits").train
    noisy = DamagedPictures(digits, parse_corruptions(["noise:gaussian:25"]))
    loader = Loader(noisy, 16, shuffle=False, seed=1)
    first, again, second = (loader.batch(epoch, 0).inputs for epoch in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, second)
    (truth, damaged), (_, alone) = noisy.damaged([0, 1, 2]), noisy.damaged([1])
    np.testing.assert_array_equal(damaged.pictures[1], alone.pictures[0])
    np.testing.assert_array_equal(truth, digits.read(np.arange(3)))


def test_pictures_are_augmented_before_they_are_damaged():
    digits = cr.data.load("digits").train
    chain = parse_corruptions(["mask:box:4"])
    flipped = DamagedPictures(digits, chain, augment=cr.data.parse("flip"))
    indices = np.arange(40)
    inputs, targets = flipped.pairs(indices, Keys(0, 1, indices))
    plain = digits.read(indices)
    is_flipped = (targets != plain).any(axis=(1, 2, 3))
    assert 10 < is_flipped.sum() < 30
    np.testing.assert_array_equal(targets[is_flipped], plain[is_flipped][:, :, ::-1])
    assert not inputs[:, 2:6, 2:6].any()


def test_patches_of_photographs_are_parts_of_them(tmp_path, photos):
    base = cr.data.load(
        folder_of(tmp_path / "photos", photos), task="restore", test=0.34
    ).train
    pairs = DamagedPictures(base, parse_corruptions(["noise:gaussian:0"]), patch=16)
    indices = np.arange(len(pairs))
    keys = Keys(0, 3, indices)
    _, targets = pairs.pairs(indices, keys)
    assert targets.shape == (len(pairs), 16, 16, 3)
    for target, patch in zip(targets, pairs.patches.at(keys), strict=True):
        np.testing.assert_array_equal(target, patch.of(base.picture(patch.picture)))


# ------------------------------------------------------------- pictures of their sizes


def test_photographs_keep_their_sizes_and_are_decoded_once(
    tmp_path, photos, monkeypatch
):
    folder = folder_of(tmp_path / "photos", photos)
    for _ in range(2):
        splits = cr.data.load(folder, task="restore", test=0.34, validation=0.34)
        found = {}
        for _, part in splits.items():
            assert not part.has_one_size
            for i in range(len(part)):
                found[part.sources[i]] = part.picture(i)
                assert part.picture_shape(i) == part.picture(i).shape
        for name, picture in photos.items():
            np.testing.assert_array_equal(found[name], picture)
        # The second time nothing is decoded.
        monkeypatch.setattr("chainrule.data.photos.decode", None)


def test_the_parts_of_a_split_are_kept_inside_an_archive_with_a_folder_around(
    tmp_path, photos
):
    a, b, c = photos
    members = {
        f"all/train/x/{a}": png(photos[a]),
        f"all/train/{b}": png(photos[b]),
        f"all/test/{c}": png(photos[c]),
        "all/other/d.png": png(photos[c]),
    }
    splits = cr.data.load(
        write_zip(tmp_path / "photos.zip", members), task="restore", validation=0.5
    )
    assert {p.rsplit("/")[-1] for p in splits.test.sources} == {c}
    assert len(splits.train) == len(splits.validation) == 1
    assert any("all/other/d.png" in problem for problem in splits.train.problems)


def test_near_duplicates_are_found_whatever_their_size(tmp_path, photos):
    from PIL import Image

    large = Image.fromarray(photos["a.png"]).resize(
        (600, 400), Image.Resampling.BICUBIC
    )
    photos = {**photos, "again.png": np.asarray(large)}
    # Noise has no likeness once it is made smaller; this one has shapes.
    photos = {n: np.sort(x, axis=1) * (x > 60) for n, x in photos.items()}
    photos["again.png"] = np.asarray(
        Image.fromarray(photos["a.png"]).resize((600, 400), Image.Resampling.BICUBIC)
    )
    splits = cr.data.load(
        folder_of(tmp_path / "photos", photos), task="restore", test=0.5
    )
    health = cr.data.health(splits)
    pairs = {frozenset(pair) for d in health.duplicates for pair in d.examples}
    assert frozenset({"a.png", "again.png"}) in pairs
    assert "which they keep" in "\n".join(health.lines())


def test_broken_pictures_are_listed_and_left_out(tmp_path, photos):
    folder = folder_of(tmp_path / "photos", photos)
    whole = (folder / "a.png").read_bytes()
    (folder / "broken.png").write_bytes(whole[: len(whole) // 2])
    (folder / "none.png").write_bytes(b"no picture")
    splits = cr.data.load(folder, task="restore", test=0.34)
    assert sum(len(part) for _, part in splits.items()) == 3
    assert {p.partition(":")[0].rsplit(" ")[-1] for p in splits.train.problems}
    assert len(splits.train.problems) == 2
    with pytest.raises(DataError, match="2 of 5 pictures cannot be read"):
        cr.data.load(folder, task="restore", unreadable="error")


def test_with_a_size_pictures_are_brought_to_it(tmp_path, photos):
    splits = cr.data.load(
        folder_of(tmp_path / "photos", photos),
        task="restore", size=(16, 20), channels=1, test=0.34,
    )  # fmt: skip
    assert splits.train.has_one_size
    assert splits.train.example_shape == (16, 20, 1)


def test_arrays_need_no_labels_and_tables_mean_nothing(tmp_path, pictures):
    np.savez(tmp_path / "arrays.npz", images=pictures)
    splits = cr.data.load(tmp_path / "arrays.npz", task="restore")
    assert splits.train.example_shape == (12, 10, 3)
    (tmp_path / "table.csv").write_text("file,label\na.png,1\n")
    with pytest.raises(OptionError, match="a table says what pictures show"):
        cr.data.load(tmp_path / "table.csv", task="restore")
