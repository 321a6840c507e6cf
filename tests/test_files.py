"""Files appear whole or not at all."""

import os

import pytest

from chainrule.errors import DataError, FileError
from chainrule.files import remove_leftovers, whole_file, write_atomically


def test_a_file_is_replaced_whole_and_gets_the_usual_permissions(tmp_path):
    path = tmp_path / "a.txt"
    write_atomically(path, "first")
    write_atomically(path, "second")
    usual = tmp_path / "usual"
    usual.write_text("")
    assert path.read_text() == "second"
    assert path.stat().st_mode == usual.stat().st_mode
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.txt", "usual"]


@pytest.mark.parametrize(
    "error", [DataError("bad", got="x", expected="y"), FileError("unreadable", got="x",
    expected="y"), KeyError("k")]
)  # fmt: skip
def test_what_goes_wrong_in_the_block_is_told_as_it_is(tmp_path, error):
    path = tmp_path / "a"
    path.write_text("earlier")

    def write_half():
        with whole_file(path, expected="room", hint="none") as file:
            file.write(b"half")
            raise error

    with pytest.raises(type(error)) as caught:
        write_half()
    assert caught.value is error
    assert [p.name for p in tmp_path.iterdir()] == ["a"]
    assert path.read_text() == "earlier"


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(FileError) as caught:
        write_atomically(tmp_path / "none" / "a", b"12345")
    assert str(caught.value) == (
        f"cannot write {tmp_path / 'none' / 'a'}\n"
        f"  got:      {os.strerror(2)}\n"
        "  expected: a writable folder with 5 bytes free\n"
        "  try:      free some space or choose another folder; "
        "earlier files are unharmed"
    )


def test_leftovers_of_a_killed_process_are_removed(tmp_path):
    with whole_file(tmp_path / "a", expected="room", hint="none"):
        (leftover,) = tmp_path.iterdir()
        remove_leftovers(tmp_path)
        assert not leftover.exists()
        leftover.touch()
