"""Downloads: mirrors in turn, checksums, and a clear message when offline."""

import functools
import hashlib
import http.server
import threading
from pathlib import Path

import numpy as np
import pytest
from made_data import write_mnist

from chainrule.data import available, load
from chainrule.data.download import KNOWN, KnownDataset
from chainrule.errors import DownloadError


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        """Say nothing on the terminal of the tests."""


@pytest.fixture
def server(monkeypatch):
    """A server on this machine that has the files of a small MNIST."""
    folder = write_mnist("served")
    handler = functools.partial(Quiet, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        thread = threading.Thread(target=running.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{running.server_port}/"
        running.shutdown()
        thread.join()


def known(mirrors, folder="served", **damaged):
    md5 = {
        p.name: hashlib.md5(p.read_bytes()).hexdigest() for p in Path(folder).iterdir()
    }
    return KnownDataset("mnist", "small", 50, 1000, md5 | damaged, tuple(mirrors))


def test_the_next_mirror_is_tried_and_the_cache_is_used_then(server, monkeypatch):
    mirrors = [server + "nowhere/", "http://127.0.0.1:1/", server]
    monkeypatch.setitem(KNOWN, "mnist", known(mirrors))
    assert {s.name: s.place for s in available()}["mnist"] is None
    splits = load("mnist")
    assert [len(part) for _, part in splits.items()] == [36, 4, 10]
    assert {s.name: s.place for s in available()}["mnist"].endswith("cache/mnist")
    monkeypatch.setitem(KNOWN, "mnist", known(["http://127.0.0.1:1/"]))
    again = load("mnist")
    assert np.array_equal(again.train.targets, splits.train.targets)


def test_a_damaged_download_is_refused_and_leaves_nothing(
    server, monkeypatch, tmp_path
):
    name = "t10k-images-idx3-ubyte.gz"
    monkeypatch.setitem(
        KNOWN, "mnist", known([server, "http://127.0.0.1:1/"], **{name: "0" * 32})
    )
    with pytest.raises(DownloadError) as caught:
        load("mnist")
    files = ", ".join(KNOWN["mnist"].files)
    folder = tmp_path / "cache" / "mnist"
    assert str(caught.value) == (
        f"mnist: no mirror could give {name!r}\n"
        f"  got:      {server}{name}: the file arrived damaged (its md5 differs)\n"
        f"            http://127.0.0.1:1/{name}: no connection (ConnectionError)\n"
        f"  expected: a connection, or the file in {str(folder)!r}\n"
        f"  try:      put {files} there, or into mnist/ in the folder that "
        "CHAINRULE_DATA_DIR names"
    )
    assert not (folder / name).exists()
    assert {s.name: s.place for s in available()}["mnist"] is None


def test_a_file_that_a_server_does_not_have_is_said_so(server, monkeypatch):
    monkeypatch.setitem(KNOWN, "mnist", known([server + "nowhere/"]))
    with pytest.raises(DownloadError) as caught:
        load("mnist")
    assert caught.value.got.endswith(": the server answered 404")
