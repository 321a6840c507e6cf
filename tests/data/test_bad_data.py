"""Every kind of bad input gives one clear error, with this text."""

import gzip
import io
import os
import pickle
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from made_data import (
    cifar_records,
    idx,
    png,
    write_folder,
    write_mnist,
    write_tar,
    write_zip,
)
from PIL import Image

from chainrule.data import list_pictures, load, read_picture
from chainrule.errors import ChainruleError, DataError, FileError


def some_pictures(count=12):
    rng = np.random.default_rng(0)
    return [png(rng.integers(0, 256, (6, 5, 3), np.uint8)) for _ in range(count)]


PICTURES = some_pictures()
MEMBERS = {f"{'ab'[i % 2]}/{i}.png": content for i, content in enumerate(PICTURES)}
TRAIN = {f"train/{name}": content for name, content in MEMBERS.items()}


def cut(path, size):
    path.write_bytes(path.read_bytes()[:size])
    return path


def mnist(**files):
    """A small MNIST with other contents in some of its files."""
    folder = write_mnist("mnist-like", compress=False)
    for name, content in files.items():
        (
            folder / f"train-{name}-idx{'3' if name == 'images' else '1'}-ubyte"
        ).write_bytes(content)
    return folder


def cifar(content, name="data_batch_1.bin"):
    return write_folder("cifar", {name: content})


def npz(**arrays):
    np.savez("set.npz", **arrays)
    return Path("set.npz")


def table(text):
    """Options for a folder of six pictures and a table with this text."""
    write_folder("set", {f"{i}.png": PICTURES[i] for i in range(6)})
    Path("t.csv").write_bytes(text.encode("latin-1"))
    return "set"


def promising_npy():
    """A .npy header of 10 TB, and hardly anything behind it."""
    file = io.BytesIO()
    header = {"descr": "|u1", "fortran_order": False, "shape": (10**7, 1000, 1000)}
    np.lib.format.write_array_header_1_0(file, header)
    return file.getvalue() + bytes(100)


def promising_npz():
    with zipfile.ZipFile("set.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x.npy", promising_npy())
        archive.writestr("y.npy", promising_npy())
    return Path("set.npz")


def empty_folder():
    Path("nothing").mkdir()
    return "nothing"


def empty_class():
    root = write_folder("set", MEMBERS)
    (root / "c").mkdir()
    return root


def flipped_archive():
    path = write_tar("set.tar.gz", MEMBERS, "w:gz")
    content = bytearray(path.read_bytes())
    content[-6] ^= 255  # inside gzip's own checksum
    path.write_bytes(content)
    return path


def encrypted_zip():
    path = write_zip("set.zip", MEMBERS)
    content = bytearray(path.read_bytes())
    start = 0
    while (start := content.find(b"PK\x01\x02", start + 1)) > 0:
        content[start + 8] |= 1  # the flag that says so
    path.write_bytes(content)
    return path


def missing_labels():
    folder = mnist()
    (folder / "train-labels-idx1-ubyte").unlink()
    return folder


def misnamed():
    Path("pictures").mkdir()
    return "pictres"


class Evil:
    """Runs a command when an ordinary unpickler meets it."""

    def __reduce__(self):
        return os.system, ("touch hacked",)


HEADER_OF_10_TB = struct.pack(">BBBBIII", 0, 0, 8, 3, 10**6, 1000, 10_000)
IMAGES = idx(np.zeros((40, 6, 5)))
ARCHIVE_END = (
    "  expected: a whole zip, tar, tar.gz, tar.bz2 or tar.xz archive\n"
    "  try:      fetch or make the archive again"
)
CUT_STREAM = (
    "  got:      Compressed file ended before the end-of-stream marker was reached\n"
)
CLIMBS = (
    "  expected: names below the archive's own folder\n"
    "  try:      do not trust this archive"
)
PROMISED = "does not have the length that its header promises\n"
BAD_CIFAR = cifar_records(10)
BAD_CIFAR[3, 0] = 12

CASES = {
    "a wrong path": (
        misnamed,
        {},
        "no data at 'pictres'\n"
        "  got:      nothing at this path\n"
        "  expected: a folder, an archive, a .npz or .csv file, or one of digits, "
        "mnist, cifar10\n"
        "  try:      did you mean 'pictures'?",
    ),
    "a wrong name": (
        lambda: "mnst",
        {},
        "no data at 'mnst'\n"
        "  got:      nothing at this path\n"
        "  expected: a folder, an archive, a .npz or .csv file, or one of digits, "
        "mnist, cifar10\n"
        "  try:      did you mean 'mnist'?",
    ),
    "an unknown file": (
        lambda: write_folder("set", {"x.dat": b""}) / "x.dat",
        {},
        "'set/x.dat' is no data set\n"
        "  got:      a file ending in '.dat'\n"
        "  expected: a folder, an archive (.zip, .tar, .tar.gz, .tar.xz), .npz or .csv",
    ),
    "an empty folder": (
        empty_folder,
        {},
        "'nothing' is empty\n"
        "  got:      a folder without files\n"
        "  expected: class folders, IDX files, CIFAR-10 batches, arrays or an archive",
    ),
    "a folder without pictures": (
        lambda: write_folder("set", {"a/1.txt": b"x", "b/2.txt": b"x"}),
        {},
        "no pictures in 'set'\n"
        "  got:      3 folders and no file with a picture's ending\n"
        "  expected: one folder of pictures for each class",
    ),
    "one class only": (
        lambda: write_folder("set", {n: c for n, c in MEMBERS.items() if n[0] == "a"}),
        {},
        "set: one class only\n"
        "  got:      6 examples, all of class 'a'\n"
        "  expected: at least two classes to tell apart",
    ),
    "one example of one class": (
        lambda: write_folder(
            "set", {"train/a/1.png": PICTURES[0], "test/a/2.png": PICTURES[1]}
        ),
        {},
        "set: one class only\n"
        "  got:      1 example, all of class 'a'\n"
        "  expected: at least two classes to tell apart",
    ),
    "no class folders": (
        lambda: write_folder("set", {n[2:]: c for n, c in MEMBERS.items()}),
        {},
        "'set': pictures, but no class folders\n"
        "  got:      12 pictures, such as '0.png'\n"
        "  expected: one folder of pictures for each class\n"
        "  try:      or a CSV file that names each picture and its label",
    ),
    "an empty class folder": (
        empty_class,
        {},
        "set: class folder 'c' has no pictures\n"
        "  got:      0 pictures\n"
        "  expected: at least one picture in each class folder\n"
        "  try:      delete the folder if the class is not wanted",
    ),
    "a class that is tested but not trained": (
        lambda: write_folder("set", TRAIN | {"test/z/1.png": PICTURES[0]}),
        {},
        "'set': class 'z' is in test/ but not in train/\n"
        "  got:      z\n"
        "  expected: the classes of train/: a, b",
    ),
    "a class without a readable picture": (
        lambda: write_folder(
            "set", MEMBERS | {"c/1.png": b"", "c/2.png": PICTURES[0][:60]}
        ),
        {},
        "'set': no picture of class 'c' can be read\n"
        "  got:      set: c/1.png: not a readable picture: an empty file\n"
        "            set: c/2.png: not a readable picture: image file is truncated\n"
        "  expected: at least one readable picture in each class",
    ),
    "a truncated PNG": (
        lambda: write_folder("set", MEMBERS | {"a/0.png": PICTURES[0][:-30]}),
        {"unreadable": "error"},
        "set: 1 of 12 pictures cannot be read\n"
        "  got:      set: a/0.png: not a readable picture: image file is truncated\n"
        "  expected: picture files that are whole\n"
        '  try:      unreadable="list" leaves them out',
    ),
    "no readable picture": (
        lambda: write_folder("set", {"a/1.png": b"x", "b/2.png": b"x"}),
        {},
        "set: 2 of 2 pictures cannot be read\n"
        "  got:      set: a/1.png: not a readable picture: no known picture format\n"
        "            set: b/2.png: not a readable picture: no known picture format\n"
        "  expected: picture files that are whole",
    ),
    "a truncated zip": (
        lambda: cut(write_zip("set.zip", MEMBERS), 500),
        {},
        "'set.zip' is damaged or cut short\n  got:      File is not a zip file\n"
        + ARCHIVE_END,
    ),
    "an encrypted zip": (
        encrypted_zip,
        {},
        "'set.zip' is encrypted\n"
        "  got:      'a/0.png' needs a password\n"
        "  expected: an archive that can be read without one\n"
        "  try:      unpack it yourself and give the folder",
    ),
    "a truncated tar": (
        lambda: cut(write_tar("set.tar", MEMBERS), 2048),
        {},
        "'set.tar' is damaged or cut short\n"
        "  got:      no end mark after the last member\n" + ARCHIVE_END,
    ),
    "a truncated tar.gz": (
        lambda: cut(write_tar("set.tar.gz", MEMBERS, "w:gz"), 900),
        {},
        "'set.tar.gz' is damaged or cut short\n" + CUT_STREAM + ARCHIVE_END,
    ),
    "a truncated tar.xz": (
        lambda: cut(write_tar("set.tar.xz", MEMBERS, "w:xz"), 900),
        {},
        "'set.tar.xz' is damaged or cut short\n" + CUT_STREAM + ARCHIVE_END,
    ),
    "a file that is no archive": (
        lambda: write_folder("set", {"x.tar.xz": b"not a tar"}),
        {},
        "'set/x.tar.xz' is damaged or cut short\n  got:      truncated header\n"
        + ARCHIVE_END,
    ),
    "a zip member that climbs out": (
        lambda: write_zip("set.zip", MEMBERS | {"../../etc/x.png": PICTURES[0]}),
        {},
        "'set.zip' has a member that climbs out of its folder\n"
        "  got:      '../../etc/x.png'\n" + CLIMBS,
    ),
    "a tar member that climbs out": (
        lambda: write_tar("set.tar.gz", MEMBERS | {"/etc/x.png": PICTURES[0]}, "w:gz"),
        {},
        "'set.tar.gz' has a member that climbs out of its folder\n"
        "  got:      '/etc/x.png'\n" + CLIMBS,
    ),
    "a tar member with a drive": (
        lambda: write_tar("set.tar", MEMBERS | {"C:\\x.png": PICTURES[0]}),
        {},
        "'set.tar' has a member that climbs out of its folder\n"
        "  got:      'C:\\\\x.png'\n" + CLIMBS,
    ),
    "an IDX header of 10 TB": (
        lambda: mnist(images=HEADER_OF_10_TB + bytes(50)),
        {},
        "'mnist-like/train-images-idx3-ubyte' " + PROMISED + "  got:      66 bytes\n"
        "  expected: 10,000,000,000,016 bytes for 1000000 × 1000 × 10000\n"
        "  try:      fetch the file again",
    ),
    "a gzipped IDX header of 10 TB": (
        lambda: mnist(images=gzip.compress(HEADER_OF_10_TB + bytes(50), mtime=0)),
        {},
        "'mnist-like/train-images-idx3-ubyte' "
        + PROMISED
        + "  got:      at most 40,248 bytes\n"
        "  expected: 10,000,000,000,016 bytes for 1000000 × 1000 × 10000\n"
        "  try:      fetch the file again",
    ),
    "a truncated IDX file": (
        lambda: mnist(images=IMAGES[:-7]),
        {},
        "'mnist-like/train-images-idx3-ubyte' " + PROMISED + "  got:      1,209 bytes\n"
        "  expected: 1,216 bytes for 40 × 6 × 5\n"
        "  try:      fetch the file again",
    ),
    "an IDX file that ends in its header": (
        lambda: mnist(images=IMAGES[:9]),
        {},
        "'mnist-like/train-images-idx3-ubyte' ends inside its header\n"
        "  got:      9 bytes\n"
        "  expected: 16 bytes of header for 3 axes\n"
        "  try:      fetch the file again",
    ),
    "a web page in place of an IDX file": (
        lambda: mnist(images=b"<html>Forbidden</html>"),
        {},
        "'mnist-like/train-images-idx3-ubyte' is not an IDX file\n"
        "  got:      it begins with 3c 68 74 6d\n"
        "  expected: 00 00, a type from 08 to 0e, and the number of axes",
    ),
    "a truncated gzip IDX file": (
        lambda: mnist(images=gzip.compress(IMAGES)[:-9]),
        {},
        "'mnist-like/train-images-idx3-ubyte' is damaged or cut short\n"
        + CUT_STREAM
        + "  expected: a whole gzip file\n"
        "  try:      fetch the file again",
    ),
    "an IDX file of other length": (
        lambda: mnist(labels=idx(np.zeros(39))),
        {},
        "mnist-like: inputs and targets have different lengths\n"
        "  got:      40 inputs, 39 targets\n"
        "  expected: one target for each input",
    ),
    "an IDX file without its partner": (
        missing_labels,
        {},
        "'mnist-like': an IDX file is missing\n"
        "  got:      t10k-images-idx3-ubyte, t10k-labels-idx1-ubyte, "
        "train-images-idx3-ubyte\n"
        "  expected: the train labels too",
    ),
    "a truncated CIFAR-10 batch": (
        lambda: cifar(BAD_CIFAR.tobytes()[:-5]),
        {},
        "cifar: data_batch_1.bin: cut short, or not CIFAR-10\n"
        "  got:      30,725 bytes\n"
        "  expected: whole records of 3,073 bytes\n"
        "  try:      fetch the file again",
    ),
    "a CIFAR-10 label over 9": (
        lambda: cifar(BAD_CIFAR.tobytes()),
        {},
        "cifar: data_batch_1.bin: labels out of range\n"
        "  got:      label 12 in record 3\n"
        "  expected: integers from 0 to 9",
    ),
    "a pickle that runs a command": (
        lambda: cifar(pickle.dumps({b"data": Evil(), b"labels": [1]}), "data_batch_1"),
        {},
        "cifar: data_batch_1: a pickle that asks for more than arrays\n"
        f"  got:      {os.system.__module__}.system\n"
        "  expected: arrays of bytes, lists and texts\n"
        "  try:      do not trust this file; use the binary version",
    ),
    "a truncated pickle": (
        lambda: cifar(pickle.dumps({b"labels": [1] * 10}, 2)[:-3], "data_batch_1"),
        {},
        "cifar: data_batch_1: not a Python batch of CIFAR-10\n"
        "  got:      Ran out of input\n"
        "  expected: a pickled dictionary with data and labels\n"
        "  try:      fetch the file again",
    ),
    "arrays of unknown names": (
        lambda: npz(a=np.zeros(3)),
        {},
        "'set.npz': no pair of arrays that is known\n"
        "  got:      a\n"
        "  expected: x and y, or images and labels; x_train … x_test for two parts\n"
        "  try:      np.savez(path, x=images, y=labels)",
    ),
    "arrays of objects": (
        lambda: npz(x=np.array([{}, {}], object), y=np.array([0, 1])),
        {},
        "'set.npz' cannot be read as arrays\n"
        "  got:      Python objects, which could run code, in place of numbers\n"
        "  expected: numbers as np.save or np.savez writes them\n"
        "  try:      make the file again; object arrays are not read",
    ),
    "arrays of different lengths": (
        lambda: npz(x=np.zeros((3, 2)), y=np.array([0, 1])),
        {},
        "set.npz: inputs and targets have different lengths\n"
        "  got:      3 inputs, 2 targets\n"
        "  expected: one target for each input",
    ),
    "NaN in the data": (
        lambda: npz(x=np.array([[0, np.nan], [1, 2]]), y=np.array([0, 1])),
        {},
        "set.npz: NaN or infinity in the inputs\n"
        "  got:      nan in example 0 at (1,)\n"
        "  expected: finite numbers\n"
        "  try:      leave the example out, or put a number there",
    ),
    "labels out of range": (
        lambda: npz(x=np.zeros((2, 2)), y=np.array([0, 70_000])),
        {},
        "set.npz: labels out of range\n"
        "  got:      label 70000 at example 1\n"
        "  expected: integers from 0 to 999\n"
        "  try:      number them with np.unique(labels, return_inverse=True)",
    ),
    "a truncated npz": (
        lambda: cut(npz(x=np.zeros((2, 2)), y=np.array([0, 1])), 300),
        {},
        "'set.npz' cannot be read as arrays\n"
        "  got:      File is not a zip file\n"
        "  expected: numbers as np.save or np.savez writes them\n"
        "  try:      make the file again; object arrays are not read",
    ),
    "an npz header of 10 TB": (
        promising_npz,
        {},
        "'set.npz': array 'x.npy' " + PROMISED + "  got:      228 bytes\n"
        "  expected: 10,000,000,000,128 bytes for 10000000 × 1000 × 1000\n"
        "  try:      make the file again",
    ),
    "an npy header of 10 TB": (
        lambda: write_folder("set", {"x.npy": promising_npy(), "y.npy": b""}),
        {},
        "'set/x.npy' cannot be read as arrays\n"
        "  got:      mmap length is greater than file size\n"
        "  expected: numbers as np.save or np.savez writes them\n"
        "  try:      make the file again; object arrays are not read",
    ),
    "a group array that is not there": (
        lambda: npz(x=np.zeros((2, 2)), y=np.array([0, 1])),
        {"group_by": "who"},
        "unknown array for group_by 'who'\n  got:      'who'\n  expected: one of x, y",
    ),
    "a table that names missing files": (
        lambda: table("file,class\n0.png,a\n9.png,b\n8.png,b\n"),
        {"labels": "t.csv"},
        "'t.csv' names pictures that are not there\n"
        "  got:      '9.png', '8.png'\n"
        "  expected: paths inside 'set', such as '0.png'",
    ),
    "a table with a word for a number": (
        lambda: table("file,size\n0.png,1\n1.png,two\n"),
        {"labels": "t.csv", "task": "regress"},
        "'t.csv', row 2: not a number\n"
        "  got:      'two' in column 'size'\n"
        "  expected: a number\n"
        "  try:      a column of names can be left out, or be group_by",
    ),
    "a table with NaN": (
        lambda: table("file,size\n0.png,1\n1.png,nan\n"),
        {"labels": "t.csv", "task": "regress"},
        "t.csv: NaN or infinity in the targets\n"
        "  got:      nan at example 1, column 0\n"
        "  expected: finite numbers that float32 can hold\n"
        "  try:      leave the example out, or put a number there",
    ),
    "a table with ragged rows": (
        lambda: table("file,class\n0.png,1\n1.png\n"),
        {"labels": "t.csv"},
        "'t.csv', line 3: not as many values as columns\n"
        "  got:      1 value\n"
        "  expected: 2: file, class",
    ),
    "a table without rows": (
        lambda: table("file,class\n"),
        {"labels": "t.csv"},
        "'t.csv' has no rows\n"
        "  got:      1 line\n"
        "  expected: a line of column names, and a line for each picture",
    ),
    "a table without targets": (
        lambda: table("file\n0.png\n"),
        {"labels": "t.csv"},
        "'t.csv': no column of targets\n"
        "  got:      file\n"
        "  expected: a column of files and at least one of targets",
    ),
    "a table with a column twice": (
        lambda: table("file,a,a\n0.png,1,1\n"),
        {"labels": "t.csv", "task": "label"},
        "'t.csv': two columns of one name\n"
        "  got:      file, a, a\n"
        "  expected: a different name for each column",
    ),
    "a label of 2": (
        lambda: table("file,a,b\n0.png,1,2\n1.png,0,1\n"),
        {"labels": "t.csv", "task": "label"},
        "'t.csv', row 1: a label is neither 0 nor 1\n"
        "  got:      2 in column 'b'\n"
        "  expected: 0 or 1 in each label's column\n"
        '  try:      task="regress" learns numbers',
    ),
    "several columns for one class": (
        lambda: table("file,a,b\n0.png,1,2\n"),
        {"labels": "t.csv"},
        "'t.csv': several columns where one class is expected\n"
        "  got:      a, b\n"
        "  expected: a column of files and one of classes\n"
        '  try:      task="label" takes several labels, task="regress" numbers',
    ),
    "no labels at all": (
        lambda: table("file,labels\n0.png,\n1.png,\n"),
        {"labels": "t.csv", "task": "label"},
        "'t.csv': no picture has a label\n"
        "  got:      2 rows, without a label\n"
        "  expected: labels joined by ; or |",
    ),
    "a table with a broken quote": (
        lambda: table('file,class\n"0.png,1\n'),
        {"labels": "t.csv"},
        "'t.csv' is not a CSV file\n"
        "  got:      unexpected end of data\n"
        "  expected: rows of values joined by commas, in UTF-8",
    ),
    "a table in another encoding": (
        lambda: table("file,class\n\xff,1\n"),
        {"labels": "t.csv"},
        "'t.csv' is not a CSV file\n"
        "  got:      'utf-8' codec can't decode byte 0xff in position 11: "
        "invalid start byte\n"
        "  expected: rows of values joined by commas, in UTF-8",
    ),
    "a table that is not there": (
        lambda: table("file,class\n0.png,1\n"),
        {"labels": "nope.csv"},
        "cannot read 'nope.csv'\n"
        "  got:      No such file or directory\n"
        "  expected: a CSV file",
    ),
    "class folders for labels": (
        lambda: write_folder("set", MEMBERS),
        {"task": "label"},
        "'set': folders say classes only\n"
        "  got:      task='label'\n"
        "  expected: task='classify', or a CSV file of pictures and their targets\n"
        "  try:      labels='targets.csv'",
    ),
    "a pattern that is none": (
        lambda: write_folder("set", MEMBERS),
        {"group_by": "("},
        "group_by: not a regular expression\n"
        "  got:      '(': missing ), unterminated subpattern at position 0\n"
        r"  expected: a pattern that finds the group in a path, such as '(\w+)_\d+'",
    ),
    "a picture without a group": (
        lambda: write_folder("set", MEMBERS),
        {"group_by": "z"},
        "group_by: a picture belongs to no group\n"
        "  got:      'a/0.png'\n"
        "  expected: a path in which 'z' is found",
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_bad_data_get_one_clear_error(name):
    make, options, message = CASES[name]
    source = make()
    with pytest.raises(ChainruleError) as caught:
        load(source, **options)
    assert str(caught.value) == message
    assert not Path("hacked").exists()


@pytest.mark.skipif(os.name == "nt", reason="Windows has other links and no such pipes")
def test_a_link_to_nowhere_is_listed_and_a_pipe_is_not_waited_for():
    folder = write_folder("set", MEMBERS)
    (folder / "a" / "link.png").symlink_to("nowhere.png")
    os.mkfifo(folder / "b" / "pipe.png")
    splits = load(folder)
    assert sum(len(part) for _, part in splits.items()) == len(MEMBERS)
    assert splits.train.problems == [
        "cannot read 'set/a/link.png': No such file or directory"
    ]


def test_the_nearest_name_is_of_the_file_not_of_its_long_path():
    with pytest.raises(FileError) as caught:
        load(write_folder("a_folder_of_a_long_name", {"x.png": b""}) / "mnist.csv")
    assert caught.value.hint == "did you mean 'mnist'?"
    with pytest.raises(FileError) as caught:
        load(Path("a_folder_of_a_long_name") / "quite_different")
    assert caught.value.hint is None


def test_nothing_half_written_stays_in_the_cache_after_a_damaged_archive():
    path = cut(write_tar("set.tar.xz", MEMBERS, "w:xz"), 900)
    with pytest.raises(DataError):
        load(path)
    assert list(Path("../cache/pictures").resolve().iterdir()) == []


def test_an_archive_that_unpacks_to_too_much_is_refused(monkeypatch):
    monkeypatch.setattr("chainrule.data.files._room", lambda *_: 500)
    path = write_tar("set.tar", MEMBERS)
    path = Path("set.tar.gz")
    path.write_bytes(gzip.compress(Path("set.tar").read_bytes(), mtime=0))
    size = len(PICTURES[0])
    total = -(-501 // size) * size
    with pytest.raises(DataError) as caught:
        load(path)
    assert str(caught.value) == (
        "'set.tar.gz' unpacks to more than is safe\n"
        f"  got:      over {total:,} bytes from {path.stat().st_size:,}\n"
        "  expected: at most 500 bytes\n"
        "  try:      if you trust it, unpack it yourself and give the folder, or set "
        "CHAINRULE_CACHE_DIR to a disk with more room"
    )


def test_a_gzip_bomb_of_an_idx_file_is_refused(monkeypatch):
    monkeypatch.setattr("chainrule.data.idx._MAX_GZIP_BYTES", 1000)
    with pytest.raises(DataError) as caught:
        load(mnist(images=gzip.compress(IMAGES)))
    assert str(caught.value) == (
        "'mnist-like/train-images-idx3-ubyte' unpacks to more than is safe\n"
        "  got:      1,200 bytes\n"
        "  expected: at most 1,000 bytes\n"
        "  try:      if you trust it, gunzip it: raw files may be any size"
    )


def test_a_full_disk_while_caching_is_one_clear_error(monkeypatch, tmp_path):
    def full(*_):
        raise OSError(28, "No space left on device")

    path = write_folder("set", MEMBERS)
    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(FileError) as caught:
        load(path)
    file = str(caught.value).splitlines()[0].removeprefix("cannot write ")
    assert Path(file).parent == tmp_path / "cache" / "pictures"
    assert str(caught.value) == (
        f"cannot write {file}\n"
        "  got:      No space left on device\n"
        "  expected: a folder that can be written, with room on its disk\n"
        "  try:      set CHAINRULE_CACHE_DIR to another folder"
    )
    assert list((tmp_path / "cache" / "pictures").iterdir()) == []


def bomb():
    file = io.BytesIO()
    Image.new("1", (10_000, 10_000)).save(file, "PNG")
    return file.getvalue()


def test_a_decompression_bomb_is_refused():
    Path("bomb.png").write_bytes(bomb())
    with pytest.raises(DataError) as caught:
        read_picture("bomb.png", (8, 8), 1)
    assert str(caught.value) == (
        "bomb.png: a picture too large to open safely\n"
        "  got:      more pixels than the limit\n"
        "  expected: at most 89,478,485 pixels\n"
        "  try:      make it smaller with another program, if you trust it"
    )


def test_a_bomb_in_a_data_set_is_left_out():
    path = write_zip("set.zip", MEMBERS | {"a/bomb.png": bomb()})
    assert load(path).train.problems == [
        "set.zip: a/bomb.png: a picture too large to open safely: "
        "more pixels than the limit"
    ]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: read_picture("nope.png", (8, 8), 1),
            "cannot read 'nope.png'\n"
            "  got:      No such file or directory\n"
            "  expected: a picture file",
        ),
        (
            lambda: read_picture(
                write_folder("set", MEMBERS) / "a/0.png", (8, 8), 1, crop=(0, 0, 9, 2)
            ),
            "set/a/0.png: the crop is not inside the picture\n"
            "  got:      x=0, y=0, width=9, height=2\n"
            "  expected: a rectangle inside 5 × 6 pixels",
        ),
        (
            lambda: list_pictures(empty_folder()),
            "no pictures in 'nothing'\n"
            "  got:      no file with a picture's ending\n"
            "  expected: files such as .png or .jpg",
        ),
        (
            lambda: list_pictures("nowhere"),
            "no folder 'nowhere'\n"
            "  got:      nothing at this path\n"
            "  expected: a folder of pictures",
        ),
    ],
)
def test_bad_pictures_get_one_clear_error(call, message):
    with pytest.raises(ChainruleError) as caught:
        call()
    assert str(caught.value) == message


def damage(content, edits, length):
    damaged = bytearray(content)
    for place, value in edits:
        damaged[place % len(damaged)] = value
    return bytes(damaged[:length])


def originals():
    file = io.BytesIO()
    np.savez_compressed(file, x=np.zeros((12, 3, 3), np.uint8), y=np.arange(12) % 3)
    stored = io.BytesIO()
    np.savez(stored, x=np.zeros((12, 3, 3), np.uint8), y=np.arange(12) % 3)
    write_tar("o.tar", MEMBERS)
    write_tar("o.tar.xz", MEMBERS, "w:xz")
    write_zip("o.zip", MEMBERS)
    records = cifar_records(20)
    batch = {b"data": records[:, 1:], b"labels": records[:, 0].tolist()}
    return {
        "mnist-like/train-images-idx3-ubyte": IMAGES,
        "mnist-like/train-labels-idx1-ubyte": gzip.compress(idx(np.arange(40) % 4)),
        "packed.npz": file.getvalue(),
        "stored.npz": stored.getvalue(),
        "cifar/data_batch_1.bin": records.tobytes(),
        "cifar2/data_batch_1": pickle.dumps(batch, 2),
        "set.tar": Path("o.tar").read_bytes(),
        "set.tar.xz": Path("o.tar.xz").read_bytes(),
        "set.zip": Path("o.zip").read_bytes(),
    }


FORMS = [
    "mnist-like/train-images-idx3-ubyte",
    "mnist-like/train-labels-idx1-ubyte",
    "packed.npz",
    "stored.npz",
    "cifar/data_batch_1.bin",
    "cifar2/data_batch_1",
    "set.tar",
    "set.tar.xz",
    "set.zip",
]


@pytest.mark.parametrize("form", FORMS)
def test_random_damage_never_gives_anything_but_our_own_errors(form):
    write_mnist("mnist-like", compress=False)
    content = originals()[form]
    path = Path(form)
    path.parent.mkdir(exist_ok=True)

    @settings(
        deadline=None,
        max_examples=40,
        database=None,
        derandomize=True,
        suppress_health_check=[HealthCheck.function_scoped_fixture],
    )
    @given(
        edits=st.lists(
            st.tuples(st.integers(0, 5000), st.integers(0, 255)), max_size=3
        ),
        length=st.integers(0, len(content)) | st.just(len(content)),
    )
    def attempt(edits, length):
        path.write_bytes(damage(content, edits, length))
        try:
            splits = load(
                path if path.suffix in (".npz", ".zip", ".tar", ".xz") else path.parent
            )
            for _, part in splits.items():
                part.read(np.arange(len(part)))
        except ChainruleError:
            pass

    attempt()
