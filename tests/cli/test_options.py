"""The options of ``train`` are those of Settings, no more and no fewer."""

import dataclasses
import re
import shlex

import pytest

from chainrule import tasks
from chainrule.cli import main
from chainrule.cli.options import PANELS, numbers
from chainrule.errors import OptionError
from chainrule.tasks import Settings


@pytest.fixture
def asked(monkeypatch):
    """What ``train`` was asked for, without training."""
    found = []

    def train(settings, **how):
        found.append(settings)
        raise OptionError("enough", got="", expected="")

    monkeypatch.setattr(tasks, "train", train)

    def ask(*words):
        main(["train", *words])
        return found.pop() if found else None

    return ask


def test_every_setting_has_its_option_and_no_option_lacks_a_setting():
    described = [name for options in PANELS.values() for name in options]
    fields = [f.name for f in dataclasses.fields(Settings)]
    assert sorted([*described, "data"]) == sorted(fields)


def test_without_options_the_settings_are_the_defaults(asked):
    assert asked() == Settings()


def test_options_arrive_in_the_types_of_settings(asked):
    settings = asked(
        "pictures.zip", "--hidden", "100,50", "--size", "32,48", "--lr", "1e-2",
        "--epochs", "3", "--freeze", "a", "--freeze", "b.c", "--lr-scale", "a=0.1",
        "--augment", "shift:2,flip", "--l2", "1e-4", "--batch-size", "16",
    )  # fmt: skip
    assert settings == Settings(
        data="pictures.zip", hidden=(100, 50), size=(32, 48), lr=0.01, epochs=3,
        freeze=("a", "b.c"), lr_scale=("a=0.1",), augment="shift:2,flip", l2=1e-4,
        batch_size=16,
    )  # fmt: skip


def test_the_command_that_settings_print_gives_the_same_settings(asked):
    settings = Settings(
        data="a folder/x.zip", task="regress", model="linear", hidden=(), size=(8, 9),
        freeze=("a", "b"), lr_scale=("a=2",), loss="absolute", lr=0.5, seed=7,
        clip_norm=1.0, average=0.99, tta=2, augment="flip", group_by="writer",
        schedule="step:10:0.5",
    )  # fmt: skip
    words = shlex.split(settings.command())
    assert words[:2] == ["chainrule", "train"]
    assert asked(*words[2:]) == settings


def test_options_win_over_the_settings_file(asked, tmp_path):
    file = tmp_path / "settings.toml"
    Settings(lr=0.5, epochs=7, hidden=(3,)).save(file)
    settings = asked("--settings", str(file), "--epochs", "2", "--hidden", "")
    assert settings == Settings(lr=0.5, epochs=2, hidden=())


def test_the_settings_of_a_run_can_be_used_again(asked, tmp_path):
    file = tmp_path / "settings.toml"
    Settings(lr=0.5).save(file)
    assert asked("--settings", str(file), "--out", "x") == Settings(lr=0.5, out="x")


def test_whole_numbers_between_commas():
    assert numbers("hidden", " 100, 50") == (100, 50)
    assert numbers("hidden", "") == ()
    with pytest.raises(OptionError):
        numbers("crop", "1,2,3", count=4)


def test_help_shows_each_option_in_its_panel(capsys):
    assert main(["train", "--help"]) == 0
    # Colours, where the environment forces them, cut words in two.
    text = re.sub(r"\x1b\[[0-9;]*m", "", capsys.readouterr().out)
    for panel, options in PANELS.items():
        assert f" {panel} " in text
        for name in options:
            assert "--" + name.replace("_", "-") in text
    assert "adagrad" in text
