"""The gallery's pages: every figure shown is made by the page itself."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from chainrule.explanation import figures

FOLDER = Path(__file__).parents[2] / "docs" / "gallery"
PAGES = sorted(FOLDER.glob("*.md"))


def shown(text: str) -> list[str]:
    return re.findall(r"!\[[^\]]+\]\(figures/([\w-]+\.svg)\)", text)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_page_shows_the_figures_that_its_code_saves(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    saved = re.findall(r"\.save\(\"([\w-]+\.svg)\"\)", text)
    # A name that is put together at run time is written out where it is shown.
    unknown = len(re.findall(r"\.save\(f\"", text))
    assert set(saved) <= set(shown(text))
    assert len(set(shown(text)) - set(saved)) == 2 * unknown
    assert len(set(saved)) == len(saved), "a figure would overwrite another"


def test_no_two_pages_save_a_figure_of_the_same_name() -> None:
    names = [name for page in PAGES for name in shown(page.read_text(encoding="utf-8"))]
    assert len(names) > 35
    assert len(set(names)) == len(names)


def test_every_figure_of_the_command_line_is_in_the_gallery() -> None:
    index = (FOLDER / "index.md").read_text(encoding="utf-8")
    for name, text in figures.descriptions().items():
        assert f"{name} " in index, name
        assert text.split()[0] in index, name


def test_every_page_is_in_the_table_of_contents() -> None:
    index = (FOLDER / "index.md").read_text(encoding="utf-8")
    for page in PAGES:
        assert page.stem == "index" or f"\n{page.stem}\n" in index, page.name
