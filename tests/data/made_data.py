"""Writers of small data sets in every form."""

import gzip
import io
import struct
import tarfile
import zipfile
from pathlib import Path

import numpy as np
from PIL import Image


def png(array):
    file = io.BytesIO()
    Image.fromarray(array).save(file, "PNG")
    return file.getvalue()


def write_folder(root, members):
    for name, content in members.items():
        path = Path(root, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return Path(root)


def write_zip(path, members):
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return Path(path)


def write_tar(path, members, mode="w"):
    with tarfile.open(path, mode) as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return Path(path)


def idx(array):
    """The bytes of an IDX file of bytes."""
    header = struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape)
    return header + np.ascontiguousarray(array, np.uint8).tobytes()


def write_mnist(root, num_train=40, num_test=10, *, compress=True):
    """A folder like MNIST's, smaller."""
    rng = np.random.default_rng(1)
    Path(root).mkdir()
    for part, count in (("train", num_train), ("t10k", num_test)):
        files = {
            f"{part}-images-idx3-ubyte": rng.integers(0, 256, (count, 6, 5)),
            f"{part}-labels-idx1-ubyte": np.arange(count) % 4,
        }
        for name, array in files.items():
            content = idx(array)
            if compress:
                Path(root, name + ".gz").write_bytes(gzip.compress(content, mtime=0))
            else:
                Path(root, name).write_bytes(content)
    return Path(root)


def cifar_records(count, seed=0):
    """Binary records of CIFAR-10: a label, then three planes."""
    rng = np.random.default_rng(seed)
    records = rng.integers(0, 256, (count, 3073), dtype=np.uint8)
    records[:, 0] = np.arange(count) % 10
    return records
