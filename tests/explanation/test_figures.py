"""The lectures' figures by name."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from chainrule.errors import OptionError
from chainrule.explanation import figures

SVG = "{http://www.w3.org/2000/svg}svg"


@pytest.mark.parametrize("name", figures.FIGURES)
def test_every_figure_says_itself_and_is_written_as_svg(
    name: str, tmp_path: Path
) -> None:
    found = figures.figure(name)
    said = str(found)
    assert len(said) > 40
    assert "nan" not in said.lower().split()
    assert "object at 0x" not in said
    path = tmp_path / f"{name}.svg"
    found.save(path)
    assert ET.parse(path).getroot().tag == SVG


def test_a_figure_comes_out_the_same_each_time(tmp_path: Path) -> None:
    written = []
    for k in range(2):
        figures.figure("step-size").save(tmp_path / f"{k}.svg")
        written.append((tmp_path / f"{k}.svg").read_bytes())
    assert written[0] == written[1]


def test_an_unknown_figure_is_an_error_that_lists_them_all() -> None:
    with pytest.raises(OptionError, match="unknown figure 'step-sizes'") as caught:
        figures.figure("step-sizes")
    assert all(name in caught.value.expected for name in figures.FIGURES)
    assert caught.value.hint == "did you mean 'step-size'?"


def test_every_figure_is_described_in_one_line() -> None:
    for name, text in figures.descriptions().items():
        assert 10 < len(text) < 80, name
        assert not text.endswith("."), name
