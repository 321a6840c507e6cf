"""Writing SVG: escaping, widths, files."""

import xml.etree.ElementTree as ElementTree

import pytest

from chainrule.errors import OptionError
from chainrule.explanation.drawing.svg import (
    Drawing,
    Raw,
    element,
    fitted,
    group,
    text,
    text_width,
)


def test_other_peoples_text_cannot_become_markup():
    words = "<script>alert('x')</script> & \"y\" \x00\x0b\ud800"
    made = group(text(0, 0, words), data_name=words)
    read = ElementTree.fromstring(made)
    shown = words[:-3] + "\ufffd" * 3
    assert read.attrib["data-name"] == shown
    assert read[0].text == shown


def test_numbers_are_short_and_attributes_that_are_none_are_left_out():
    made = element("rect", x=1.0, y=0.333333, width=-0.0, rx=None, stroke_width=2)
    assert made == '<rect x="1" y="0.33" width="0" stroke-width="2"/>'


@pytest.mark.parametrize(
    "words", ["W", "x = −0.534447", "block1_1 … block1_3", "∂L/∂w₁"]
)
def test_letters_are_taken_at_least_as_wide_as_they_are(words):
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import TextPath

    # DejaVu Sans, the widest font in which a browser may show them, is wider still.
    drawn = TextPath((0, 0), words, size=100, prop=FontProperties("DejaVu Sans"))
    assert 0.75 * drawn.get_extents().width < text_width(words, 100.0)


def test_words_that_do_not_fit_are_cut():
    assert fitted("block", 12.0, 100.0) == "block"
    cut = fitted("a very long name", 12.0, 60.0)
    assert cut.endswith("…")
    assert text_width(cut, 12.0) <= 60.0
    assert fitted("W", 12.0, 1.0) == "…"


def test_a_drawing_is_saved_as_its_name_says(tmp_path):
    drawing = Drawing("a <title>", "one & two", 10.0, 20.0, Raw("<g/>"))
    drawing.save(tmp_path / "a.svg")
    root = ElementTree.parse(tmp_path / "a.svg").getroot()
    assert root.attrib["viewBox"] == "0 0 10 20"
    assert [e.text for e in root[:2]] == ["a <title>", "one & two"]
    drawing.save(tmp_path / "a.HTML")
    page = (tmp_path / "a.HTML").read_text(encoding="utf-8")
    assert page.startswith("<!doctype html>")
    assert page.count("<title>a &lt;title&gt;</title>") == 2
    assert drawing.svg in page
    assert drawing.svg in drawing._repr_html_()
    assert str(drawing) == "a <title>\none & two"


@pytest.mark.parametrize("name", ["a.png", "a"])
def test_other_forms_of_files_are_refused(tmp_path, name):
    with pytest.raises(OptionError, match="unknown form of a drawing") as raised:
        Drawing("a", "", 1.0, 1.0, Raw()).save(tmp_path / name)
    assert raised.value.expected == "one of html, svg"
    assert not list(tmp_path.iterdir())
