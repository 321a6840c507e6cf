"""What the README and the pages in docs/ say is so: code, commands, links and tests."""

from __future__ import annotations

import doctest
import importlib
import re
import shlex
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md"]
PAGES += sorted((ROOT / "docs").glob("*.md"))


def fenced(text: str, language: str = r"\w*") -> list[str]:
    """The contents of code blocks between lines of three backticks."""
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def test_the_readme_begins_with_the_two_commands() -> None:
    blocks = fenced((ROOT / "README.md").read_text(encoding="utf-8"))
    venv = "python3 -m venv .venv && .venv/bin/pip install"
    assert blocks[0] == f"{venv} . && .venv/bin/chainrule train\n"
    assert blocks[1] == f"{venv} '.[test]' && .venv/bin/pytest\n"


def test_the_readmes_python_prints_what_it_shows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    found = doctest.testfile(
        str(ROOT / "README.md"),
        module_relative=False,
        optionflags=flags,
        encoding="utf-8",
    )
    assert found.attempted >= 8
    assert found.failed == 0


def commands(text: str) -> list[list[str]]:
    """The words of each line that runs chainrule, in blocks for a shell."""
    lines = "".join(fenced(text, "sh")).splitlines()
    return [
        words
        for line in lines
        if (words := shlex.split(line, comments=True))[:1] == ["chainrule"]
    ]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_in_the_pages_exist_with_their_options(page: Path) -> None:
    import typer

    from chainrule.cli.app import app

    group: Any = typer.main.get_command(app)
    for words in commands(page.read_text(encoding="utf-8")):
        if len(words) < 2 or words[1].startswith("-"):
            continue
        assert words[1] in group.commands, words
        command = group.commands[words[1]]
        known = {o for p in command.params for o in p.opts} | {"--help"}
        given = {word for word in words[2:] if word.startswith("--")}
        assert given <= known, words


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_between_the_pages_lead_somewhere(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", text):
        if "://" not in target:
            assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_every_test_that_the_lectures_page_names_exists() -> None:
    text = (ROOT / "docs" / "lectures.md").read_text(encoding="utf-8")
    named = re.findall(r"`([\w/]+\.py)::(\w+)`", text)
    assert len(named) > 60
    missing = [
        f"{file}::{test}"
        for file, test in named
        if f"def {test}(" not in (ROOT / "tests" / file).read_text(encoding="utf-8")
    ]
    assert missing == []


def test_every_row_of_the_lectures_is_shown_by_a_test_or_says_what_it_waits_for() -> (
    None
):
    text = (ROOT / "docs" / "lectures.md").read_text(encoding="utf-8")
    subjects = text.split("## Misprints")[0]
    rows = [line for line in subjects.splitlines() if line.startswith("| ")]
    rows = [row for row in rows if not row.startswith("| lecture's subject")]
    assert len(rows) > 50
    for row in rows:
        is_answered = "::test_" in row or "*later*: " in row or "results.md" in row
        assert is_answered or "out of scope" in row, row


def test_the_command_line_page_lists_every_command_and_every_option_of_train() -> None:
    import dataclasses

    import typer

    from chainrule import Settings
    from chainrule.cli.app import app

    text = (ROOT / "docs" / "command-line.md").read_text(encoding="utf-8")
    group: Any = typer.main.get_command(app)
    assert [name for name in group.commands if f"`chainrule {name}" not in text] == []
    options = [
        "--" + field.name.replace("_", "-")
        for field in dataclasses.fields(Settings)
        if field.name != "data"  # the argument DATA
    ]
    assert [option for option in options if f"`{option}`" not in text] == []


def test_every_name_of_the_api_page_exists_and_is_documented() -> None:
    text = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
    module, names = "", []
    for line in text.splitlines():
        directive = re.match(r"\.\. (\w+):: ([\w.]+)$", line)
        if directive and directive[1] in ("currentmodule", "automodule"):
            module = directive[2]
        elif directive:
            names.append((module, directive[2]))
        elif entry := re.match(r"   (\w+)$", line):
            names.append((module, entry[1]))
    assert len(names) > 150
    for module, name in names:
        path = name if name.startswith("chainrule.") else f"{module}.{name}"
        found: Any = importlib.import_module("chainrule")
        for part in path.split(".")[1:]:
            found = getattr(found, part)
        assert found.__doc__, name


def test_the_errors_page_lists_every_error_with_its_builtin() -> None:
    from chainrule import errors

    text = (ROOT / "docs" / "errors.md").read_text(encoding="utf-8")
    for name in errors.__all__:
        cls = getattr(errors, name)
        if isinstance(cls, type) and cls is not errors.ChainruleError:
            builtin = cls.__bases__[-1].__name__
            assert f"| `{name}` | `{builtin}` |" in text
