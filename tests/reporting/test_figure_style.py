import re
from xml.etree import ElementTree

import numpy as np

from biomassters.reporting.figure_style import INK, NETWORK, add_legend, dress, new_figure, to_svg


def drawn(name: str, description: str = "a line") -> str:
    figure = new_figure(3, 2)
    axes = figure.add_subplot()
    axes.plot([0, 1], [0, 1], color=NETWORK, label="rise")
    axes.imshow(np.eye(3), extent=(0, 1, 0, 1), interpolation="none")
    dress(axes, "Target AGB, Mg/ha", "Error")
    add_legend(axes)
    return to_svg(figure, name, description)


def test_svg_follows_the_theme_and_the_width_of_the_page():
    svg = drawn("density")
    root = ElementTree.fromstring(svg)
    assert root.get("viewBox")
    assert root.get("width") is None
    assert root.get("role") == "img"
    assert INK not in svg
    assert NETWORK not in svg
    assert "var(--ink)" in svg
    assert "var(--network)" in svg
    assert "<metadata" not in svg


def test_text_stays_text_in_the_pages_font():
    svg = drawn("density")
    texts = [element.text for element in ElementTree.fromstring(svg).iter() if element.text]
    assert "Target AGB, Mg/ha" in texts
    assert "DejaVu" not in svg
    assert "system-ui" in svg


def test_ids_of_two_figures_never_meet_and_references_follow():
    ids = [set(re.findall(r'id="([^"]+)"', drawn(name))) for name in ("a", "b")]
    assert ids[0]
    assert not ids[0] & ids[1]
    svg = drawn("a")
    targets = set(re.findall(r'href="#([^"]+)"', svg)) | set(re.findall(r"url\(#([^)]+)\)", svg))
    assert targets
    assert targets <= ids[0]


def test_same_figure_same_text_and_descriptions_are_quoted():
    assert drawn("a") == drawn("a")
    svg = drawn("a", 'five < six & "seven"')
    assert ElementTree.fromstring(svg).get("aria-label") == 'five < six & "seven"'
