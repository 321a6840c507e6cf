"""The commands, as a person or a program uses them."""

import csv
import io
import json
import os
import re
import signal
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from chainrule import tasks
from chainrule.cli import main
from chainrule.errors import DownloadError
from chainrule.training import StepFinished
from chainrule.training.progress import ProgressBar


@pytest.fixture(scope="session")
def run_folder(tmp_path_factory):
    """A short run on the digits, made by the command line; tests only read it."""
    folder = tmp_path_factory.mktemp("cli") / "runs" / "digits"
    words = ["train", "--out", str(folder), "--hidden", "16", "--epochs", "2", "-q"]
    assert main(words) == 0
    return folder


@pytest.fixture
def pictures(tmp_path):
    """A folder with two digits as PNG files."""
    from sklearn.datasets import load_digits

    folder = tmp_path / "pictures"
    folder.mkdir()
    images = np.rint(load_digits().images * (255 / 16)).astype(np.uint8)
    for index in range(2):
        Image.fromarray(images[index]).save(folder / f"{index}.png")
    return folder


@pytest.fixture
def command(capsys):
    """Run a command; its exit code, standard output and standard error."""

    def run(*words):
        code = main([str(word) for word in words])
        out, err = capsys.readouterr()
        return code, out, err

    return run


@pytest.fixture
def as_json(command):
    """Run a command that must print exactly one JSON object, and read that."""

    def run(*words):
        code, out, _ = command(*words, "--json")
        assert code == 0
        return json.loads(out)

    return run


# ------------------------------------------------------------------ train and resume


def test_train_tells_of_data_model_time_scores_and_where_the_run_is(command, tmp_path):
    folder = tmp_path / "run"
    code, out, err = command(
        "train", "--out", folder, "--hidden", 8, "--epochs", 2, "--seed", 0
    )
    assert code == 0
    assert "digits: 1,294 train, 144 validation, 359 test; examples of 8×8×1" in out
    assert "warning: " in out
    assert "610 parameters" in out
    assert "2 epochs take about " in out
    assert re.search(r"^  (native code \(\w+\), \d+ threads?|NumPy \(.*\))$", out, re.M)
    assert "accuracy" in out
    assert f"run     {folder}\n" in out
    assert f"report  {folder / 'report.html'}\n" in out
    lines = [line for line in err.splitlines() if line.startswith("epoch")]
    assert [line[:9] for line in lines] == ["epoch 1/2", "epoch 2/2"]
    assert all("accuracy" in line and "examples/s" in line for line in lines)


def test_quiet_training_prints_the_result_alone(command, tmp_path):
    words = ("train", "--out", tmp_path / "r", "--hidden", 8, "--epochs", 1, "--quiet")
    code, out, err = command(*words)
    assert code == 0
    assert err == ""
    assert out.startswith("Test\n")


def test_json_of_training_is_one_object_and_progress_goes_elsewhere(command, tmp_path):
    words = ("train", "--out", tmp_path / "r", "--hidden", 8, "--epochs", 1, "--json")
    code, out, err = command(*words)
    assert code == 0
    found = json.loads(out)
    assert found["run"] == str(tmp_path / "r")
    assert {"accuracy", "loss", "num_examples", "report", "reason"} <= set(found)
    assert found["health"]["num_examples"] == {
        "train": 1294,
        "validation": 144,
        "test": 359,
    }
    assert "Model" in err
    assert "epoch 1/1" in err


def test_ctrl_c_saves_and_says_how_to_go_on(command, tmp_path, monkeypatch):
    folder = tmp_path / "run"
    shown = ProgressBar.__call__

    def interrupt(self, event):
        shown(self, event)
        if isinstance(event, StepFinished) and event.step == 3:
            os.kill(os.getpid(), signal.SIGINT)

    with monkeypatch.context() as patch:
        patch.setattr(ProgressBar, "__call__", interrupt)
        code, _, err = command("train", "--out", folder, "--hidden", 8, "--epochs", 2)
    assert code == 130
    assert err.endswith(f"stopped; to go on: chainrule resume {folder}\n")
    code, out, _ = command("resume", folder, "--json")
    assert code == 0
    assert json.loads(out)["reason"] == "epochs"


def test_a_finished_run_is_prolonged(as_json, tmp_path):
    folder = tmp_path / "run"
    as_json("train", "--out", folder, "--hidden", 8, "--epochs", 1)
    found = as_json("resume", folder, "--epochs", 2)
    assert found["epochs"] == 2
    assert "health" not in found


def test_training_on_numbers_shows_their_scores(command, tmp_path):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(60, 5)).astype(np.float32)
    np.savez(tmp_path / "numbers.npz", images=x, labels=x @ rng.normal(size=(5, 1)))
    code, out, err = command(
        "train", tmp_path / "numbers.npz", "--task", "regress", "--epochs", 2,
        "--out", tmp_path / "run",
    )  # fmt: skip
    assert code == 0, err
    assert "R²" in out
    assert "r2" in err


def test_pictures_get_a_convolutional_net_or_the_model_that_is_named(
    command, as_json, tmp_path
):
    for model, words in (("cnn", ()), ("vgg", ("--model", "vgg"))):
        folder = tmp_path / model
        as_json("train", "--out", folder, "--epochs", 1, *words)
        assert tasks.read_settings(folder).model == model
    words = ("train", "--model", "alexnet", "--out", tmp_path / "small")
    code, out, err = command(*words)
    assert (code, out) == (2, "")
    assert err.startswith("ShapeError: alexnet does not take pictures of 8×8×1; ")
    assert not (tmp_path / "small").exists()


# ---------------------------------------------------------------- evaluate and predict


def test_evaluate_prints_one_object_with_the_scores_of_training(as_json, run_folder):
    found = as_json("evaluate", run_folder)
    results = json.loads((run_folder / "results.json").read_text())
    assert {"accuracy", "loss", "num_examples"} <= set(found)
    assert found["accuracy"] == results["accuracy"]


def test_evaluate_on_another_split(as_json, command, run_folder):
    assert (
        as_json("evaluate", run_folder, "--split", "validation")["num_examples"] == 144
    )
    code, out, _ = command("evaluate", run_folder)
    assert code == 0
    assert out.split()[0] == "accuracy"


def test_predict_shows_the_top_classes_of_every_picture(command, run_folder, pictures):
    code, out, _ = command("predict", run_folder, pictures, "--top", 2)
    assert code == 0
    lines = out.splitlines()
    assert [lines[0], lines[3]] == [str(pictures / f"{i}.png") for i in range(2)]
    assert len(lines) == 6
    assert "%" in lines[1]


def test_predict_as_csv_has_a_row_for_each_rank(command, run_folder, pictures):
    _, out, _ = command("predict", run_folder, pictures / "0.png", "--csv", "--top", 3)
    rows = list(csv.DictReader(io.StringIO(out)))
    assert [row["rank"] for row in rows] == ["1", "2", "3"]
    assert {row["file"] for row in rows} == {str(pictures / "0.png")}
    assert float(rows[0]["probability"]) >= float(rows[1]["probability"])


def test_predict_as_json_agrees_with_the_library(as_json, run_folder, pictures):
    found = as_json("predict", run_folder / "model.safetensors", pictures, "--top", 1)
    model = tasks.load(run_folder)
    expected = [p.as_dict() for p in model.predict_files([pictures], top=1)]
    assert found == {"predictions": json.loads(json.dumps(expected))}


def test_predict_looks_at_a_crop(as_json, run_folder, pictures):
    file = pictures / "0.png"
    whole = as_json("predict", run_folder, file)
    assert as_json("predict", run_folder, file, "--crop", "0,0,8,8") == whole
    assert as_json("predict", run_folder, file, "--crop", "4,0,4,4") != whole


@pytest.mark.parametrize("name", ["out.csv", "out.json"])
def test_predict_writes_the_form_that_the_file_name_says(
    command, run_folder, pictures, tmp_path, name
):
    out_file = tmp_path / name
    code, out, err = command("predict", run_folder, pictures, "--out", out_file)
    assert (code, out) == (0, "")
    assert err == f"2 predictions in {out_file}\n"
    text = out_file.read_text(encoding="utf-8")
    if name == "out.csv":
        assert text.startswith("file,rank,class,probability\n")
    else:
        assert len(json.loads(text)["predictions"]) == 2


def test_a_failed_prediction_leaves_an_earlier_file_alone(
    command, run_folder, pictures, tmp_path
):
    out_file = tmp_path / "out.csv"
    out_file.write_text("earlier")
    (pictures / "2.png").write_bytes(b"no picture")
    code, _, err = command("predict", run_folder, pictures, "--out", out_file)
    assert code == 2
    assert "2.png" in err
    assert out_file.read_text() == "earlier"


@pytest.mark.skipif(os.name == "nt", reason="such names do not exist on Windows")
def test_file_names_do_not_command_the_terminal(command, run_folder, pictures):
    evil = pictures / "\x1b[31m\x07.png"
    (pictures / "0.png").rename(evil)
    _, out, _ = command("predict", run_folder, pictures)
    assert "\x1b" not in out
    assert "\x07" not in out


# ------------------------------------------------------------------ runs and data sets


def test_runs_are_listed_to_compare(command, as_json, run_folder):
    code, out, _ = command("runs", run_folder.parent)
    assert code == 0
    header, row = out.splitlines()
    assert header.split()[:4] == ["run", "task", "data", "model"]
    assert row.split()[:4] == ["digits", "classify", "digits", "mlp-16"]
    assert row.rstrip().endswith("finished")
    (found,) = as_json("runs", run_folder.parent)["runs"]
    assert found["run"] == "digits"


@pytest.mark.parametrize("width", [120, 80, 60, 40])
def test_a_narrow_screen_shows_the_runs_names_and_scores_whole(
    command, run_folder, width, monkeypatch
):
    monkeypatch.setattr(
        "chainrule.cli.display._console",
        lambda: Console(width=width, highlight=False, markup=False),
    )
    _, out, _ = command("runs", run_folder.parent)
    header, row = out.splitlines()[:2]
    assert header.split()[0] == "run"
    assert row.split()[0] == "digits"
    assert row.split()[-1] == "finished"
    assert row.count("%") == 2
    assert ("mlp-16" in row) == (width >= 60)


def test_a_run_that_cannot_be_read_is_listed_with_the_reason(command, tmp_path):
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "settings.toml").write_text("format = 7")
    code, out, _ = command("runs", tmp_path)
    assert code == 0
    assert "unreadable" in out
    assert "settings.toml was written by a newer chainrule" in out


def test_no_runs_yet_is_no_error(command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert command("runs") == (0, "no runs in runs; chainrule train makes one\n", "")


def test_datasets_are_listed_with_their_places(command, as_json, tmp_path, monkeypatch):
    monkeypatch.setenv("CHAINRULE_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("CHAINRULE_CACHE_DIR", str(tmp_path / "cache"))
    code, out, _ = command("datasets")
    assert code == 0
    assert "built in" in out
    assert "to download" in out
    found = as_json("datasets")["datasets"]
    assert found[0]["name"] == "digits"
    assert found[0]["num_examples"] == 1797


# ------------------------------------------------------------------------ as a whole


def test_version_and_help(command):
    assert command("--version")[1].startswith("chainrule 0.")
    code, out, _ = command()
    assert code == 0
    for name in ("train", "resume", "evaluate", "predict", "runs", "datasets"):
        assert name in out
        assert command(name, "--help")[0] == 0


def test_help_loads_none_of_the_slow_libraries():
    script = (
        "import sys; from chainrule.cli import main; main(['train', '--help']);"
        "slow = {'sklearn', 'scipy.stats', 'matplotlib', 'jinja2', 'tqdm', 'pooch'};"
        "print(sorted(slow & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True
    )
    assert done.stderr == "[]\n"


@pytest.mark.parametrize("words", [["--help"], ["datasets"], ["datasets", "--json"]])
def test_a_reader_that_leaves_early_is_no_error(words):
    script = f"import sys; from chainrule.cli import main; sys.exit(main({words}))"
    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = subprocess.run(
            [sys.executable, "-c", script],
            # Unbuffered output would fail earlier, where typer catches it.
            env={k: v for k, v in os.environ.items() if k != "PYTHONUNBUFFERED"},
            stdout=writer,
            stderr=subprocess.PIPE,
        )
    finally:
        os.close(writer)
    assert done.stderr == b""
    assert done.returncode == 1


def test_a_console_of_few_letters_does_not_end_a_run(tmp_path):
    script = (
        "import sys; from chainrule.cli import main; sys.exit(main("
        "['train', '--epochs', '1', '--hidden', '4', '--out', sys.argv[1]]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "run")],
        env={**os.environ, "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"},
        capture_output=True,
    )
    assert done.returncode == 0, done.stderr
    assert b"8?8?1" in done.stdout


@pytest.mark.skipif(os.name == "nt", reason="Windows has no /dev/full")
def test_output_that_has_no_room_is_one_clear_error():
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [
                sys.executable,
                "-c",
                "from chainrule.cli import main; main(['datasets'])",
            ],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
        )
    assert done.stderr.startswith("FileError: cannot write the output\n"), done.stderr


@pytest.mark.skipif(os.name == "nt", reason="needs a shell that can close a stream")
def test_closed_output_is_no_error(tmp_path):
    script = (
        "import sys; from chainrule.cli import main; sys.exit(main("
        "['train', '--epochs', '1', '--hidden', '4', '--out', sys.argv[1]]))"
    )
    done = subprocess.run(
        [
            "sh",
            "-c",
            'exec "$0" -c "$@" >&- 2>&-',
            sys.executable,
            script,
            str(tmp_path / "run"),
        ]
    )
    assert done.returncode == 0
    assert (tmp_path / "run" / "report.html").exists()


# ------------------------------------------------------------------------------ errors


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["trian"],
            "OptionError: unknown command 'trian'\n"
            "  got:      'trian'\n"
            "  expected: one of datasets, derivatives, draw, evaluate, explain, "
            "gradcheck, predict, restore, resume, runs, train\n"
            "  try:      did you mean 'train'?\n",
        ),
        (
            ["train", "--optimzer", "adam"],
            "OptionError: unknown option '--optimzer'\n"
            "  got:      --optimzer\n"
            "  expected: an option that chainrule train --help lists\n"
            "  try:      did you mean '--optimizer'?\n",
        ),
        (
            ["train", "--epochs", "ten"],
            "OptionError: option epochs: wrong kind of value\n"
            "  got:      'ten'\n"
            "  expected: a whole number\n",
        ),
        (
            ["train", "--lr", "fast"],
            "OptionError: option lr: wrong kind of value\n"
            "  got:      'fast'\n"
            "  expected: a number\n",
        ),
        (
            ["train", "--hidden", "100;50"],
            "OptionError: option hidden: wrong kind of value\n"
            "  got:      '100;50'\n"
            "  expected: whole numbers such as 100,50\n",
        ),
        (
            ["train", "--lr", "-1"],
            "OptionError: option lr: out of range\n"
            "  got:      -1.0\n"
            "  expected: at least 0\n",
        ),
        (
            ["predict", "run", "x.png", "--crop", "1,2"],
            "OptionError: option crop: wrong kind of value\n"
            "  got:      '1,2'\n"
            "  expected: 4 whole numbers between commas\n",
        ),
        (
            ["predict", "run", "x.png", "--top", "0"],
            "OptionError: option top: out of range\n"
            "  got:      0\n"
            "  expected: at least 1\n",
        ),
        (
            ["predict", "run", "x.png", "--csv", "--json"],
            "OptionError: both --csv and --json\n"
            "  got:      two forms\n"
            "  expected: one of them\n",
        ),
        (
            ["evaluate", "run", "--split", "tset"],
            "OptionError: unknown split 'tset'\n"
            "  got:      'tset'\n"
            "  expected: one of test, train, validation\n"
            "  try:      did you mean 'test'?\n",
        ),
        (
            ["runs", "nowhere"],
            "FileError: no folder nowhere\n"
            "  got:      nothing there\n"
            "  expected: a folder of runs\n",
        ),
        (
            ["resume", "nowhere"],
            "CheckpointError: nowhere is not a run\n"
            "  got:      no such folder\n"
            "  expected: a folder that chainrule train made\n"
            "  try:      chainrule runs lists them\n",
        ),
        (
            ["train", "--settings", "none.toml"],
            "FileError: cannot read settings from none.toml\n"
            "  got:      [Errno 2] No such file or directory: 'none.toml'\n"
            "  expected: a TOML file\n",
        ),
    ],
)
def test_a_command_that_cannot_be_carried_out_is_one_clear_error(
    command, tmp_path, monkeypatch, words, message
):
    monkeypatch.chdir(tmp_path)
    assert command(*words) == (2, "", message)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("words", "what", "hint"),
    [
        (["predict"], "Missing argument 'RUN'", "chainrule predict --help"),
        (
            ["train", "a", "b"],
            "Got unexpected extra argument",
            "chainrule train --help",
        ),
        (["train", "--epochs"], "requires an argument", "chainrule --help"),
        (["train", "--json=x"], "does not take a value", "--help"),
    ],
)
def test_a_misused_command_is_told_in_the_house_shape(command, words, what, hint):
    code, out, err = command(*words)
    assert (code, out) == (2, "")
    first, *rest = err.splitlines()
    assert what in first
    assert [line[:12] for line in rest] == [
        "  got:      ",
        "  expected: ",
        "  try:      ",
    ]
    assert rest[0].endswith("chainrule " + " ".join(words))
    assert rest[2].endswith(hint)


def test_a_loss_that_is_not_finite_exits_with_1(command, tmp_path):
    code, _, err = command(
        "train", "--out", tmp_path / "r", "--optimizer", "sgd", "--lr", "1e20",
        "--hidden", 8, "-q",
    )  # fmt: skip
    assert code == 1
    assert err.startswith("NonFiniteError: training stopped before step ")


@pytest.mark.parametrize(
    ("error", "code", "text"),
    [
        (DownloadError("no", got="x", expected="y"), 1, "DownloadError: no\n"),
        (
            MemoryError("Unable to allocate 9 TiB"),
            1,
            "got:      Unable to allocate 9 TiB",
        ),
        (KeyboardInterrupt(), 130, ""),
    ],
)
def test_failures_while_running_have_codes_of_their_own(
    command, monkeypatch, error, code, text
):
    def fail(*_, **__):
        raise error

    monkeypatch.setattr(tasks, "evaluate_run", fail)
    found, out, err = command("evaluate", "run")
    assert (found, out) == (code, "")
    assert text in err
    assert "Traceback" not in err


@pytest.mark.parametrize("how", ["option", "environment"])
def test_debug_shows_where_an_error_came_from(monkeypatch, how):
    from chainrule.errors import CheckpointError

    words = ["evaluate", "nowhere"]
    if how == "option":
        words.insert(0, "--debug")
    else:
        monkeypatch.setenv("CHAINRULE_DEBUG", "1")
    with pytest.raises(CheckpointError):
        main(words)


# ----------------------------------------------------------------------------- restore


@pytest.fixture(scope="session")
def restoring_run(tmp_path_factory):
    """A short run that fills holes in digits."""
    folder = tmp_path_factory.mktemp("cli") / "box"
    words = ["train", "digits", "--task", "restore", "--corruption", "mask:boxes:3"]
    words += ["--model", "mlp", "--hidden", "16", "--epochs", "2", "-q"]
    assert main([*words, "--out", str(folder)]) == 0
    return folder


def test_evaluating_a_restoring_run_compares_it_with_classical_methods(
    as_json, command, restoring_run
):
    found = as_json("evaluate", restoring_run)
    assert {"psnr", "ssim", "psnr_hole", "baselines", "damaged"} <= set(found)
    assert set(found["baselines"]) == {"mean_fill", "biharmonic"}
    for scores in found["baselines"].values():
        assert {"psnr", "ssim", "psnr_hole", "num_examples"} == set(scores)
    code, out, _ = command("evaluate", restoring_run)
    assert code == 0
    assert out.split()[:2] == ["PSNR", f"{found['psnr']:.2f}"]
    assert "mean fill" in out
    assert "as damaged" in out


def test_restore_writes_a_file_beside_each_picture(
    as_json, command, restoring_run, pictures
):
    mask = pictures.parent / "mask.png"
    white = np.zeros((8, 8), np.uint8)
    white[2:5, 3:6] = 255
    Image.fromarray(white).save(mask)
    found = as_json("restore", restoring_run, pictures, "--mask", mask)
    expected = [
        {
            "file": str(pictures / f"{i}.png"),
            "restored": str(pictures / f"{i}-restored.png"),
            "notes": [],
        }
        for i in range(2)
    ]
    assert found == {"restored": expected}
    before, after = (
        np.asarray(Image.open(pictures / name)) for name in ("0.png", "0-restored.png")
    )
    assert (before == after)[white == 0].all()
    code, out, err = command("restore", restoring_run, pictures / "0.png")
    assert (code, out) == (2, "")
    assert err.startswith("DataError: restore: nothing says what is lost\n")
    assert err.endswith("  try:      --mask FILE\n")


def test_a_run_is_used_for_what_it_has_learned(
    command, run_folder, restoring_run, pictures
):
    for name, run, other in (
        ("predict", restoring_run, "chainrule restore"),
        ("restore", run_folder, "chainrule predict"),
    ):
        code, out, err = command(name, run, pictures)
        assert (code, out) == (2, "")
        assert err.startswith("OptionError: ")
        assert f"  try:      {other} {run} " in err
