"""load(): every form of data, as folders and archives, becomes the same splits."""

import pickle
from pathlib import Path

import numpy as np
import pytest
from made_data import (
    cifar_records,
    png,
    write_folder,
    write_mnist,
    write_tar,
    write_zip,
)

from chainrule.data import arrays, available, load
from chainrule.errors import DataError, OptionError


def sizes(splits):
    return [len(part) for _, part in splits.items()]


def everything(dataset):
    return dataset.read(np.arange(len(dataset)))


def test_the_digits_are_built_in_and_scaled_to_bytes():
    splits = load()
    assert sizes(splits) == [1294, 144, 359]
    assert splits.train.example_shape == (8, 8, 1)
    pixels = everything(splits.train)
    assert pixels.dtype == np.uint8
    assert (pixels.min(), pixels.max()) == (0, 255)
    counts = np.bincount(splits.test.targets)
    assert counts.min() >= 34
    assert counts.max() <= 37


def test_a_seed_gives_its_own_split_of_the_digits():
    first, again, other = (load(seed=seed).test for seed in (0, 0, 1))
    assert np.array_equal(everything(first), everything(again))
    assert not np.array_equal(everything(first), everything(other))


FORMS = {
    "folder": lambda members: write_folder("set", members),
    "zip": lambda members: write_zip("set.zip", members),
    "tar": lambda members: write_tar("set.tar", members),
    "tar.gz": lambda members: write_tar("set.tar.gz", members, "w:gz"),
    "tar.bz2": lambda members: write_tar("set.tar.bz2", members, "w:bz2"),
    "tar.xz": lambda members: write_tar("set.tar.xz", members, "w:xz"),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("wrapper", ["", "wrapper/"])
def test_class_folders_with_their_own_split(form, wrapper, members, pictures):
    wrapped = {wrapper + name: content for name, content in members.items()}
    splits = load(FORMS[form](wrapped))
    assert sizes(splits) == [21, 3, 6]
    assert splits.train.class_names == ("a", "b", "c")
    assert splits.test.sources[0] == wrapper + "test/a/09.png"
    for part in (splits.train, splits.validation, splits.test):
        numbers = [int(Path(name).stem) for name in part.sources]
        assert np.array_equal(everything(part), pictures[numbers])
        assert part.targets.tolist() == [n % 3 for n in numbers]


def test_class_folders_without_a_split_get_one(members):
    flat = {name.partition("/")[2]: content for name, content in members.items()}
    splits = load(write_zip("set.zip", flat), test=0.2, validation=0.25)
    assert sizes(splits) == [18, 6, 6]
    assert np.bincount(splits.test.targets).tolist() == [2, 2, 2]


def test_a_validation_folder_is_the_validation_part(members):
    renamed = {n.replace("test/", "val/"): c for n, c in members.items()}
    splits = load(write_folder("set", renamed), test=0.25)
    assert len(splits.validation) == 6
    assert len(splits.train) + len(splits.test) == 24


def test_the_second_load_reads_no_picture_again(members, tmp_path, monkeypatch):
    path = write_tar("set.tar.xz", members, "w:xz")
    first = load(path)
    monkeypatch.setattr("chainrule.data.images.decode", None)
    monkeypatch.setattr("chainrule.data.files._pack", None)
    again = load(path)
    assert np.array_equal(everything(first.train), everything(again.train))


def test_a_damaged_cache_is_made_again(members, tmp_path):
    path = write_tar("set.tar.xz", members, "w:xz")
    first = everything(load(path).train)
    for file in (tmp_path / "cache" / "pictures").iterdir():
        file.write_bytes(b"{")
    assert np.array_equal(everything(load(path).train), first)


def test_a_changed_archive_is_read_anew(members, pictures):
    path = write_zip("set.zip", members)
    load(path)
    members["train/a/00.png"] = png(np.zeros((12, 10, 3), np.uint8))
    splits = load(write_zip("set.zip", members), validation=0)
    row = list(splits.train.sources).index("train/a/00.png")
    assert not everything(splits.train)[row].any()


def test_data_too_large_for_the_cache_are_decoded_when_read(members, monkeypatch):
    path = write_zip("set.zip", members)
    cached = everything(load(path).train)
    monkeypatch.setattr("chainrule.data.images._MAX_CACHE_BYTES", 0)
    assert load(path).train.is_array  # an earlier cache is used all the same
    for file in Path("../cache/pictures").resolve().iterdir():
        file.unlink()
    streamed = load(path).train
    assert not streamed.is_array
    assert not list(Path("../cache/pictures").resolve().glob("*.pixels"))
    assert np.array_equal(everything(streamed), cached)


def test_large_files_are_decoded_in_threads_in_their_order(monkeypatch, members):
    monkeypatch.setattr("chainrule.data.images._SMALL_FILE_BYTES", 0)
    splits = load(write_folder("set", members))
    monkeypatch.setattr("chainrule.data.images._SMALL_FILE_BYTES", 1 << 30)
    for file in Path("../cache/pictures").resolve().iterdir():
        file.unlink()
    again = load(write_folder("set", members))
    assert np.array_equal(everything(splits.train), everything(again.train))


def test_unreadable_pictures_are_listed_skipped_or_fatal(members):
    members["train/a/00.png"] = members["train/a/00.png"][:100]
    members["train/b/01.png"] = b""
    path = write_zip("set.zip", members)
    listed = load(path, validation=0)
    assert len(listed.train) == 22
    assert listed.train.problems == [
        "set.zip: train/a/00.png: not a readable picture: image file is truncated",
        "set.zip: train/b/01.png: not a readable picture: an empty file",
    ]
    assert load(path, validation=0, unreadable="skip").train.problems == []
    with pytest.raises(DataError) as caught:
        load(path, unreadable="error")
    assert caught.value.what == "set.zip: 2 of 30 pictures cannot be read"


def test_size_and_channels_are_what_all_pictures_have(members):
    grey = {n: png(np.zeros((6, 7), np.uint8) + i) for i, n in enumerate(members)}
    assert load(write_zip("grey.zip", grey)).train.example_shape == (6, 7, 1)
    mixed = dict(grey)
    mixed["train/a/00.png"] = png(np.zeros((9, 9, 3), np.uint8))
    splits = load(write_zip("mixed.zip", mixed))
    assert splits.train.example_shape == (64, 64, 3)
    assert splits.train.picture_sizes == {"7×6": 29, "9×9": 1}
    chosen = load(write_zip("mixed.zip", mixed), size=(5, 4), channels=1)
    assert chosen.train.example_shape == (5, 4, 1)


def test_large_pictures_are_brought_to_64_by_64():
    big = png(np.zeros((300, 300), np.uint8))
    members = {f"{c}/{i}.png": big for c in "ab" for i in range(5)}
    assert load(write_folder("set", members)).train.example_shape == (64, 64, 1)


def test_litter_of_other_programs_is_no_class(members):
    members |= {"__MACOSX/train/a/._00.png": b"x", "train/a/.hidden.png": b"x"}
    members |= {"train/a/Thumbs.db": b"x", "notes.txt": b"x"}
    splits = load(write_zip("set.zip", members))
    assert sizes(splits) == [21, 3, 6]
    assert splits.train.problems == []


def test_pictures_outside_the_class_folders_are_listed(members):
    members["train/stray.png"] = members["train/a/00.png"]
    members["extra/a/1.png"] = members["train/a/00.png"]
    splits = load(write_zip("set.zip", members))
    assert splits.train.problems == [
        "extra/a/1.png: in no class folder, left out",
        "train/stray.png: in no class folder, left out",
    ]


def test_groups_are_found_in_file_names():
    rng = np.random.default_rng(0)
    members = {
        f"{label}/{person}-{i}.png": png(rng.integers(0, 255, (4, 4), np.uint8))
        for label in "ab"
        for person in ("ann", "bob", "cid", "dee", "eve")
        for i in range(3)
    }
    splits = load(write_zip("set.zip", members), group_by=r"(\w+)-\d", test=0.2)
    assert not set(splits.train.groups) & set(splits.test.groups)
    assert len(splits.test) == 6


@pytest.mark.parametrize("compress", [True, False])
def test_idx_folders_like_mnist(compress):
    folder = write_mnist("digits-of-mine", compress=compress)
    splits = load(folder)
    assert sizes(splits) == [36, 4, 10]
    assert splits.train.example_shape == (6, 5, 1)
    assert splits.train.name == "digits-of-mine"
    one_file = next(p for p in folder.iterdir() if "images" in p.name)
    assert sizes(load(one_file)) == [36, 4, 10]


def test_a_name_is_looked_for_in_the_data_folder(monkeypatch):
    Path("data").mkdir()
    write_mnist("data/mnist")
    write_mnist("data/mine")
    monkeypatch.setenv("CHAINRULE_DATA_DIR", "data")
    assert sizes(load("mnist")) == sizes(load("mine")) == [36, 4, 10]
    listed = {source.name: source for source in available()}
    assert list(listed) == ["digits", "mnist", "cifar10", "mine"]
    assert listed["mnist"].place == str(Path("data/mnist"))
    assert listed["cifar10"].place is None


def cifar_folder(root):
    for number in (1, 2):
        records = cifar_records(20, number)
        write_folder(root, {f"data_batch_{number}.bin": records.tobytes()})
    write_folder(root, {"test_batch.bin": cifar_records(10, 3).tobytes()})
    return Path(root)


def test_cifar_binary_batches_are_planes_turned_to_pixels():
    splits = load(cifar_folder("cifar"), validation=0)
    assert sizes(splits) == [40, 0, 10]
    assert splits.train.class_names[3] == "cat"
    records = cifar_records(20, 1)
    picture = everything(splits.train)[4]
    assert np.array_equal(picture[:, :, 1], records[4, 1025:2049].reshape(32, 32))
    assert splits.train.targets[:3].tolist() == [0, 1, 2]


@pytest.mark.parametrize("protocol", [2, 4])
def test_cifar_python_batches_and_their_archive(protocol):
    members = {}
    for name, seed in (("data_batch_1", 1), ("test_batch", 2)):
        records = cifar_records(20, seed)
        batch = {b"data": records[:, 1:].copy(), b"labels": records[:, 0].tolist()}
        content = pickle.dumps(batch, protocol)
        members[f"cifar-10-batches-py/{name}"] = content
    path = write_tar("cifar-10-python.tar.gz", members, "w:gz")
    splits = load(path, validation=0)
    binary = cifar_records(20, 1)[:, 1:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
    assert np.array_equal(everything(splits.train), binary)
    folder = write_folder("set", members)
    assert sizes(load(folder, validation=0)) == [20, 0, 20]


def test_npz_files_in_their_usual_forms(pictures):
    targets = np.arange(30) % 3
    np.savez("plain.npz", x=pictures, y=targets)
    assert sizes(load("plain.npz")) == [21, 3, 6]
    np.savez_compressed("packed.npz", images=pictures, labels=targets)
    assert np.array_equal(
        everything(load("packed.npz", validation=0).train),
        everything(load("plain.npz", validation=0).train),
    )
    np.savez(
        "parts.npz",
        train_images=pictures[:20],
        train_labels=targets[:20, None],
        val_images=pictures[20:25],
        val_labels=targets[20:25, None],
        test_images=np.asfortranarray(pictures[25:]),
        test_labels=targets[25:, None],
    )
    splits = load("parts.npz")
    assert sizes(splits) == [20, 5, 5]
    assert np.array_equal(everything(splits.test), pictures[25:])


def test_stored_npz_arrays_and_npy_folders_are_mapped(pictures):
    np.savez("plain.npz", x=pictures, y=np.arange(30) % 3)
    assert not load("plain.npz").train.is_in_memory
    Path("folder").mkdir()
    np.save("folder/x.npy", pictures)
    np.save("folder/y.npy", np.arange(30) % 3)
    np.save("folder/who.npy", np.arange(30) // 6)
    splits = load("folder", group_by="who")
    assert not splits.train.is_in_memory
    assert not set(splits.train.groups) & set(splits.test.groups)


def write_table(text, members, name="set"):
    root = write_folder(name, members)
    (root / "targets.csv").write_text(text)
    return root / "targets.csv"


def few(pictures):
    return {f"{i}.png": png(picture) for i, picture in enumerate(pictures[:10])}


def test_a_table_of_classes(pictures):
    rows = "".join(f"{i}.png,{'xy'[i % 2]}\n" for i in range(10))
    table = write_table("file,class\n" + rows, few(pictures))
    splits = load(table, validation=0)
    assert sizes(splits) == [8, 0, 2]
    assert splits.train.class_names == ("x", "y")


def test_a_table_of_labels_in_both_forms(pictures):
    joined = ["sky;sea", "sea", "", "sky|tree", "tree"] * 2
    rows = "".join(f"{i}.png,{labels}\n" for i, labels in enumerate(joined))
    table = write_table("file,labels\n" + rows, few(pictures))
    first = load(table, task="label", validation=0, test=0)
    assert first.train.class_names == ("sea", "sky", "tree")
    assert first.train.targets[:4].tolist() == [
        [1, 1, 0],
        [1, 0, 0],
        [0, 0, 0],
        [0, 1, 1],
    ]
    columns = "".join(
        f"{i}.png,{int('sea' in t)},{int('sky' in t)},{int('tree' in t)}\n"
        for i, t in enumerate(joined)
    )
    Path("wide.csv").write_text("file,sea,sky,tree\n" + columns)
    second = load("set", labels="wide.csv", task="label", validation=0, test=0)
    assert second.train.class_names == ("sea", "sky", "tree")
    assert np.array_equal(second.train.targets, first.train.targets)
    assert sizes(load("set", task="label")) == [7, 1, 2]


def test_a_table_of_numbers_beside_a_zip(pictures):
    rows = "".join(f"./{i}.png,{i / 2},{-i},p{i // 2}\n" for i in range(10))
    Path("numbers.csv").write_text("Image,width,height,who\n" + rows)
    path = write_zip("set.zip", few(pictures))
    splits = load(path, labels="numbers.csv", task="regress", group_by="who", test=0.2)
    assert splits.train.class_names is None
    assert splits.train.target_names == ("width", "height")
    assert not set(splits.train.groups) & set(splits.test.groups)
    name = splits.train.sources[0]
    assert splits.train.targets[0].tolist() == [int(name[0]) / 2, -int(name[0])]


def test_a_table_reads_only_the_pictures_that_it_names(pictures):
    members = few(pictures) | {"unnamed.png": b"damaged"}
    rows = "".join(f"{i}.png,{i % 2}\n" for i in range(10))
    table = write_table("file,class\n" + rows, members)
    assert load(table, unreadable="error").train.problems == []


def test_a_data_set_describes_itself():
    found = arrays(np.zeros((2, 3)), [0, 1])
    assert repr(found) == "<Dataset arrays: 2 × 3, 2 classes>"
    assert repr(found.subset([1])) == "<Dataset arrays: 1 × 3, 2 classes>"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"size": (4, 4)},
            "digits: size does not apply to this data set\n"
            "  got:      size=(4, 4)\n"
            "  expected: no size",
        ),
        (
            {"task": "regress"},
            "digits: task does not apply to this data set\n"
            "  got:      task='regress'\n"
            "  expected: task='classify'",
        ),
        (
            {"unreadable": "ignore"},
            "unknown choice for unreadable 'ignore'\n"
            "  got:      'ignore'\n"
            "  expected: one of error, list, skip",
        ),
        (
            {"channels": 4},
            "channels: not a number of channels\n"
            "  got:      4\n"
            "  expected: 1 (grey) or 3 (colour)",
        ),
    ],
)
def test_options_that_do_not_fit_are_refused(options, message):
    with pytest.raises(OptionError) as caught:
        load(**options)
    assert str(caught.value) == message


def test_mnist_has_its_published_counts(real_data):
    splits = load("mnist")
    assert sizes(splits) == [54_000, 6_000, 10_000]
    assert np.bincount(splits.test.targets)[:3].tolist() == [980, 1135, 1032]


def test_the_cifar_archive_is_read_in_place(real_data):
    path = real_data / "cifar10" / "cifar10-jpeg.tar.xz"
    if not path.exists():
        pytest.skip("no archive of CIFAR-10 among the real data")
    splits = load("cifar10")
    assert sizes(splits) == [45_000, 5_000, 10_000]
    assert np.bincount(splits.test.targets).tolist() == [1000] * 10
    assert splits.train.class_names[-1] == "truck"
