"""Native code on disk: kept whole, trusted only where it is the user's own."""

import os
import stat
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

pytest.importorskip("llvmlite", reason="native code needs llvmlite")

from chainrule.compiler import cache
from chainrule.compiler.cache import Entry
from chainrule.compiler.host import TARGETS, host_target
from chainrule.errors import OptionError

ENTRY = Entry(b"\x7fELF" + bytes(range(256)) * 3, {"kernels": ["cr_a"], "bytes": 7})
KEY = "5" * 64  # stored without looking through the folder
SWEEPING_KEY = "0" * 64  # stored and looked through

posix_only = pytest.mark.skipif(os.name == "nt", reason="Windows has no such modes")


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """An empty cache folder of this test's own."""
    monkeypatch.setenv("CHAINRULE_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.delenv("CHAINRULE_CACHE", raising=False)
    monkeypatch.setattr(cache, "_last_failure", "")
    return tmp_path / "cache" / "native"


def keys(count):
    return [f"5{number:063x}" for number in range(count)]


# What is kept comes back.


def test_what_was_stored_is_loaded_by_its_key_only(folder):
    assert cache.load(KEY) is None
    cache.store(KEY, ENTRY)
    assert cache.load(KEY) == ENTRY
    assert cache.load("6" * 64) is None
    assert cache.status() == f"cache: {folder}"


def test_an_entry_may_be_empty():
    cache.store(KEY, Entry(b"", {}))
    assert cache.load(KEY) == Entry(b"", {})


def test_storing_again_replaces():
    cache.store(KEY, ENTRY)
    cache.store(KEY, Entry(b"other", {"more": None}))
    assert cache.load(KEY) == Entry(b"other", {"more": None})


def test_another_process_finds_the_entry():
    name = cache.key(host_target(), "a graph")
    cache.store(name, ENTRY)
    script = (
        "from chainrule.compiler import cache\n"
        "from chainrule.compiler.host import host_target\n"
        "print(cache.load(cache.key(host_target(), 'a graph')).code.hex())"
    )
    printed = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    ).stdout
    assert bytes.fromhex(printed) == ENTRY.code


def test_clear_deletes_every_entry_and_says_how_many(folder):
    for name in keys(3):
        cache.store(name, ENTRY)
    (folder / ".left.tmp").write_bytes(b"by a killed process")
    (folder / "notes.txt").write_text("not ours")
    assert cache.clear() == 3
    assert os.listdir(folder) == ["notes.txt"]
    assert cache.clear() == 0


# The key holds all that code depends on.


def test_keys_differ_by_every_part_and_where_parts_meet():
    target = host_target()
    parts = [("ab",), ("a", "b"), ("b", "a"), ("ab", ""), ("", "ab"), ('a", "b',), ()]
    assert len({cache.key(target, *p) for p in parts}) == len(parts)
    assert cache.key(target, "a", "b") == cache.key(target, "a", "b")


def test_keys_differ_by_target():
    assert len({cache.key(t, "a graph") for t in TARGETS.values()}) == len(TARGETS)


@pytest.mark.parametrize(
    "function",
    ["get_host_cpu_name", "get_process_triple", "llvmlite", "llvm", "source"],
)
def test_keys_differ_by_processor_system_and_version(monkeypatch, function):
    import llvmlite
    import llvmlite.binding as llvm

    cache._surroundings.cache_clear()
    before = cache.key(TARGETS["generic"], "a graph")
    cache._surroundings.cache_clear()
    if function == "llvmlite":
        monkeypatch.setattr(llvmlite, "__version__", "0.0")
    elif function == "llvm":
        monkeypatch.setattr(llvm, "llvm_version_info", (1, 2, 3))
    elif function == "source":
        monkeypatch.setattr(cache, "_source_hash", lambda: "edited")
    else:
        monkeypatch.setattr(llvm, function, lambda: "another")
    after = cache.key(TARGETS["generic"], "a graph")
    cache._surroundings.cache_clear()
    assert before != after


def test_an_entry_under_another_key_s_name_is_not_taken(folder):
    """As if it came from another processor or version."""
    cache.store(KEY, ENTRY)
    other = "6" * 64
    os.rename(folder / f"{KEY}.native", folder / f"{other}.native")
    assert cache.load(other) is None


# Damage.


@pytest.fixture
def damaged(folder):
    """A function that replaces the entry's bytes and says whether it is refused."""
    cache.store(KEY, ENTRY)
    path = folder / f"{KEY}.native"
    whole = path.read_bytes()

    def is_refused(content):
        path.write_bytes(content)
        refused = cache.load(KEY) is None
        return refused and not path.exists()

    assert cache.load(KEY) == ENTRY
    return whole, is_refused


def test_a_file_cut_short_anywhere_is_refused_and_deleted(damaged):
    whole, is_refused = damaged
    cuts = [*range(0, len(whole), 64), *range(60), len(whole) - 1]
    assert all(is_refused(whole[:cut]) for cut in cuts)


def test_a_single_wrong_bit_is_refused_and_deleted(damaged):
    whole, is_refused = damaged
    for place in [*range(80), *range(80, len(whole), 7)]:
        wrong = bytearray(whole)
        wrong[place] ^= 1 << place % 8
        assert is_refused(bytes(wrong)), place


def test_bytes_too_many_are_refused(damaged):
    whole, is_refused = damaged
    assert is_refused(whole + b"\0")
    assert is_refused(whole + whole)


def test_a_refused_entry_can_be_stored_anew(damaged):
    _, is_refused = damaged
    assert is_refused(b"rubbish")
    cache.store(KEY, ENTRY)
    assert cache.load(KEY) == ENTRY


# Whose it is.


@posix_only
def test_only_the_user_may_enter_the_folder_and_read_an_entry(folder):
    old = os.umask(0)
    try:
        cache.store(KEY, ENTRY)
    finally:
        os.umask(old)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert stat.S_IMODE((folder / f"{KEY}.native").stat().st_mode) == 0o600


@posix_only
@pytest.mark.parametrize("mode", [0o720, 0o702, 0o777, 0o1777])
def test_a_folder_that_others_may_write_is_not_used(folder, mode):
    cache.store(KEY, ENTRY)
    folder.chmod(mode)
    assert cache.load(KEY) is None
    cache.store("6" * 64, ENTRY)
    assert os.listdir(folder) == [f"{KEY}.native"]
    assert cache.status() == (
        f"cache: not used, because {folder} can be written by other users"
    )
    assert cache.clear() == 0


@posix_only
def test_an_entry_that_others_may_write_is_ignored_and_replaced(folder):
    cache.store(KEY, ENTRY)
    path = folder / f"{KEY}.native"
    for mode in (0o620, 0o602, 0o666):
        path.chmod(mode)
        assert cache.load(KEY) is None
    cache.store(KEY, ENTRY)
    assert cache.load(KEY) == ENTRY


@posix_only
def test_a_folder_of_another_user_is_not_used(folder, monkeypatch):
    cache.store(KEY, ENTRY)
    monkeypatch.setattr(os, "geteuid", lambda: folder.stat().st_uid + 1)
    assert cache.load(KEY) is None
    cache.store("6" * 64, ENTRY)
    assert os.listdir(folder) == [f"{KEY}.native"]
    assert cache.status() == (
        f"cache: not used, because {folder} belongs to another user"
    )


@posix_only
@pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root can give files"
)
def test_an_entry_of_another_user_is_ignored(folder):
    cache.store(KEY, ENTRY)
    os.chown(folder / f"{KEY}.native", 12345, 12345)
    assert cache.load(KEY) is None
    cache.store(KEY, ENTRY)
    assert cache.load(KEY) == ENTRY


@posix_only
def test_links_pipes_and_folders_in_the_place_of_an_entry_are_not_read(folder):
    cache.store(KEY, ENTRY)
    names = keys(3)
    paths = [folder / f"{name}.native" for name in names]
    paths[0].symlink_to(folder / f"{KEY}.native")
    os.mkfifo(paths[1], 0o600)
    paths[2].mkdir(0o700)
    assert [cache.load(name) for name in names] == [None] * 3
    cache.store(names[0], ENTRY)
    cache.store(names[1], ENTRY)
    assert [cache.load(name) for name in names] == [ENTRY, ENTRY, None]
    cache.store(names[2], ENTRY)
    assert cache.load(names[2]) is None
    assert "not written, because" in cache.status()
    assert not list(folder.glob(".*"))


# Places that cannot be used.


@pytest.mark.parametrize("text", ["off", "0", " OFF "])
def test_the_cache_can_be_turned_off(folder, monkeypatch, text):
    cache.store(KEY, ENTRY)
    monkeypatch.setenv("CHAINRULE_CACHE", text)
    assert cache.load(KEY) is None
    cache.store("6" * 64, ENTRY)
    assert os.listdir(folder) == [f"{KEY}.native"]
    assert cache.status() == "cache: not used, because CHAINRULE_CACHE is off"
    assert cache.clear() == 1


def test_a_wrong_setting_is_named(monkeypatch):
    monkeypatch.setenv("CHAINRULE_CACHE", "of")
    with pytest.raises(OptionError, match="unknown CHAINRULE_CACHE 'of'"):
        cache.load(KEY)


def test_a_file_where_the_folder_should_be_is_survived(folder):
    folder.parent.write_bytes(b"")
    assert cache.load(KEY) is None
    cache.store(KEY, ENTRY)
    assert cache.clear() == 0
    assert cache.status().startswith(f"cache: not used, because {folder}: ")


def test_a_user_without_a_home_does_without(monkeypatch):
    import platformdirs

    monkeypatch.delenv("CHAINRULE_CACHE_DIR")
    monkeypatch.setattr(platformdirs, "user_cache_dir", lambda name: f"~/.cache/{name}")
    assert cache.load(KEY) is None
    cache.store(KEY, ENTRY)
    assert cache.status() == "cache: not used, because the user has no home folder"


def test_without_a_setting_the_system_s_place_for_caches_is_used(tmp_path, monkeypatch):
    import platformdirs

    monkeypatch.delenv("CHAINRULE_CACHE_DIR")
    monkeypatch.setattr(platformdirs, "user_cache_dir", lambda name: str(tmp_path))
    cache.store(KEY, ENTRY)
    assert (tmp_path / "native" / f"{KEY}.native").exists()


def test_source_that_cannot_be_read_turns_the_cache_off(folder, monkeypatch):
    monkeypatch.setattr(cache, "_source_hash", lambda: "")
    cache.store(KEY, ENTRY)
    assert not os.listdir(folder)
    assert cache.status().endswith("because chainrule's own source cannot be read")


READ_ONLY = """
import os, sys
from chainrule.compiler import cache
cache._source_hash()
folder = sys.argv[1]
if os.geteuid() == 0:  # whom no mode keeps from writing
    for path in (folder, f"{folder}/{'5' * 64}.native"):
        os.chown(path, 12345, 12345)
    os.setresuid(12345, 12345, 12345)
os.chmod(folder, 0o500)
print(cache.load("5" * 64) is not None)
cache.store("6" * 64, cache.Entry(b"", {}))
print(cache.status())
"""


@posix_only
def test_a_read_only_folder_is_read_and_not_written(monkeypatch):
    # Not in tmp_path, which another user than its owner cannot enter.
    with tempfile.TemporaryDirectory() as place:
        monkeypatch.setenv("CHAINRULE_CACHE_DIR", place)
        os.chmod(place, 0o711)
        folder = Path(place) / "native"
        cache.store(KEY, ENTRY)
        done = subprocess.run(
            [sys.executable, "-c", READ_ONLY, str(folder)],
            capture_output=True,
            text=True,
            check=True,
        )
        folder.chmod(0o700)
        assert os.listdir(folder) == [f"{KEY}.native"]
    assert done.stdout.splitlines() == [
        "True",
        f"cache: {folder}, not written, because Permission denied",
    ]


FULL_DISK = """
import os, resource, signal
from chainrule.compiler import cache
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (8192, 8192))
cache.store("5" * 64, cache.Entry(bytes(20000), {}))
print(cache.load("5" * 64), cache.status())
cache.store("6" * 64, cache.Entry(bytes(2000), {}))
print(len(cache.load("6" * 64).code), cache.status())
"""


@posix_only
def test_a_disk_that_takes_no_more_leaves_nothing_behind(folder):
    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK], capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines() == [
        f"None cache: {folder}, not written, because File too large",
        f"2000 cache: {folder}",
    ]
    assert os.listdir(folder) == [f"{'6' * 64}.native"]


def test_a_full_disk_at_the_rename_keeps_the_earlier_entry(folder, monkeypatch):
    cache.store(KEY, ENTRY)

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    cache.store(KEY, Entry(b"new", {}))
    assert cache.load(KEY) == ENTRY
    assert os.listdir(folder) == [f"{KEY}.native"]
    assert cache.status().endswith("not written, because No space left on device")


# Several at once.


FILL = """
import sys
from chainrule.compiler import cache

names, wrong = sys.argv[1:], 0
print("ready", flush=True)
sys.stdin.readline()
for turn in range(150):
    name = names[turn % 3]
    entry = cache.load(name)
    wrong += entry is not None and entry.code != name.encode() * 500
    cache.store(name, cache.Entry(name.encode() * 500, {}))
    wrong += cache.load(name) is None
print(wrong)
"""


def test_two_processes_filling_the_same_entries_see_whole_ones_only(folder):
    command = [sys.executable, "-c", FILL, *keys(3)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    workers = [subprocess.Popen(command, **pipes) for _ in range(2)]
    for worker in workers:
        assert worker.stdout.readline() == "ready\n"
    for worker in workers:
        worker.stdin.write("go\n")
        worker.stdin.flush()
    assert [worker.communicate(timeout=60)[0] for worker in workers] == ["0\n", "0\n"]
    assert sorted(os.listdir(folder)) == [f"{name}.native" for name in keys(3)]


# Its size.


def test_the_least_recently_used_entries_go_when_the_folder_is_full(
    folder, monkeypatch
):
    monkeypatch.setattr(cache, "MOST_BYTES", 20_000)
    names = keys(20)
    for age, name in enumerate(names):
        cache.store(name, Entry(bytes(1000), {}))
        used = time.time() - 1000 + age
        os.utime(folder / f"{name}.native", (used, used))
    assert len(os.listdir(folder)) == 20  # these keys look at nothing
    assert cache.load(names[0]) is not None  # the oldest, but now just used
    cache.store(SWEEPING_KEY, Entry(bytes(1000), {}))
    kept = {path.stem for path in folder.iterdir()}
    assert {names[0], names[-1], SWEEPING_KEY} <= kept
    assert names[1] not in kept
    assert kept - {names[0], SWEEPING_KEY} == set(names[-len(kept) + 2 :])
    assert 0.6 * 20_000 < sum(p.stat().st_size for p in folder.iterdir()) <= 15_000


def test_a_large_entry_makes_room_at_once(folder, monkeypatch):
    monkeypatch.setattr(cache, "MOST_BYTES", 20_000)
    for name in keys(20):
        cache.store(name, Entry(bytes(1000), {}))
    cache.store(KEY, Entry(bytes(5000), {}))
    assert sum(p.stat().st_size for p in folder.iterdir()) <= 15_000


def test_a_folder_with_room_keeps_everything(folder):
    for name in [*keys(5), SWEEPING_KEY]:
        cache.store(name, ENTRY)
    assert len(os.listdir(folder)) == 6


def test_temporary_files_of_killed_processes_go_and_those_being_written_stay(folder):
    cache.store(KEY, ENTRY)
    old, new = folder / ".a.tmp", folder / ".b.tmp"
    old.write_bytes(b"")
    new.write_bytes(b"")
    os.utime(old, (0, 0))
    cache.store(SWEEPING_KEY, ENTRY)
    assert not old.exists()
    assert new.exists()
