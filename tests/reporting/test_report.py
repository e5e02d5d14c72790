import dataclasses
import re
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest

from biomassters.errors import BadInputError
from biomassters.metrics import ScoreAccumulator
from biomassters.reporting.options import ReportingOptions
from biomassters.reporting.pages import number
from biomassters.reporting.report import UncertaintyContent, read_other_metrics, render_report
from biomassters.reporting.scoring import Scores

_VOID = {"meta", "br", "link", "img", "hr", "input", "wbr"}


class Page(HTMLParser):
    """References, ids and whether every element is closed."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.references: list[str] = []
        self.ids: list[str] = []
        self.tags: list[str] = []
        self._open: list[str] = []
        self.feed(html)
        self.close()
        assert not self._open

    def handle_starttag(self, tag, attributes):
        self.handle_startendtag(tag, attributes)
        if tag not in _VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.append(tag)
        for name, value in attributes:
            if name.split(":")[-1] in ("src", "href", "srcset", "action", "data", "poster"):
                self.references.append(value)
            if name == "id":
                self.ids.append(value)

    def handle_endtag(self, tag):
        assert self._open.pop() == tag


def test_page_needs_nothing_but_itself(content):
    html = render_report(content, progress=False)
    page = Page(html)
    assert page.references
    for reference in page.references:
        beside = reference == content.run_file  # a link to follow, not something to load
        assert beside or reference.startswith(("#", "data:image/png;base64,")), reference[:80]
    assert not {"script", "link", "iframe", "object", "embed"} & set(page.tags)
    assert set(re.findall(r"url\(['\"]?(.)", html)) <= {"#"}
    assert "@import" not in html
    assert "default-src 'none'" in html
    assert len(page.ids) == len(set(page.ids))


def test_page_says_what_was_measured(content):
    html = render_report(content, progress=False)
    score = f"{content.metrics['rmse_per_chip_mean']:.1f}"
    for text in (
        score,
        "50 % less than predicting the training mean",
        "10 % more than a ridge regression",
        "&gt;200",
        "c5: worst of 3",
        "t0_S1_03.tif, t0_S1_04.tif",
        "c2_S2_07.tif is truncated.",
        "training.<wbr>epochs",
        "identity, both",
        "12,800 training pixels",
        "50 % intervals",
        "Carbon, Mg",
        "ART-TREES",
        "ESA CCI",
        "carbon is 0.47 of it",
        "Attention by month",
        "95 % confidence interval (bootstrap over chips)",
        "c5: target",
        'href="run.json"',
    ):
        assert text in html, text
    assert not re.search(r"\bnan\b", html.lower())


def test_page_follows_the_theme_the_phone_and_the_printer(content):
    html = render_report(content, progress=False)
    for rule in ("prefers-color-scheme: dark", "@media print", "max-width: 44rem", "width=device"):
        assert rule in html
    on_paper = html[html.index("@media print") : html.index("box-sizing")]
    assert "details:not([open]) { display: none; }" in on_paper
    assert "h2 + p, h3 + p { break-after: avoid; }" in on_paper


def test_every_table_scrolls_by_itself_on_a_narrow_page(content):
    html = render_report(content, progress=False)
    frames = re.findall(r'(<div class="scroll">\s*)?<table', html)
    assert len(frames) > 5
    assert all(frames)


def test_the_dark_page_lightens_the_density_plot_together_with_its_colour_bar(content):
    html = render_report(content, progress=False)
    figure = re.search(r'<figure class="density">.*?</figure>', html, re.DOTALL)
    assert figure.group().count("<image") == 2
    assert ".density image { filter" in html


def test_same_content_same_page(content):
    assert render_report(content, progress=False) == render_report(content, progress=False)


def test_a_constant_target_is_said_in_words(content):
    constant = ScoreAccumulator()
    constant.update("c1", np.ones((4, 4)), np.zeros((4, 4)))
    said = dataclasses.replace(
        content,
        metrics=content.metrics | constant.summary(),
        scores=Scores(accumulator=constant, density=content.scores.density),
    )
    html = render_report(said, progress=False)
    assert "R² is undefined: every target pixel has the same value" in html
    assert "constant target" in html
    assert "no such pixels" in html


def test_nothing_scored_and_nothing_learnt_still_give_a_page(content):
    bare = dataclasses.replace(
        content,
        metrics=Scores().accumulator.summary(),
        scores=Scores(),
        pictures=[],
        history=pd.DataFrame(),
        recipe={},
        uncertainty=UncertaintyContent(),
    )
    html = render_report(bare, progress=False)
    Page(html)
    assert "Nothing was scored" in html
    assert "how it learnt" not in html


def test_names_from_outside_are_escaped(content):
    html = render_report(
        dataclasses.replace(content, options=ReportingOptions(dataset="<script>alert(1)</script>")),
        progress=False,
    )
    assert "<script>" not in html
    assert "&lt;script&gt;" in html


def test_a_simulated_forest_is_named_at_the_top_and_passes_no_threshold(content):
    html = render_report(content, progress=False)
    assert html.index('class="banner"') < html.index('class="headline"')
    assert not re.search(r'<td class="(good|bad)"', html)
    options = ReportingOptions(simulated=False)
    real = render_report(dataclasses.replace(content, options=options), progress=False)
    assert 'class="banner"' not in real
    assert re.search(r'<td class="(good|bad)"', real)


def test_errors_are_given_as_shares_too_with_date_and_citation(content):
    html = render_report(dataclasses.replace(content, date="2026-11-25"), progress=False)
    relative = 100 * content.metrics["mae"] / content.metrics["target_mean"]
    assert f"<td>{content.metrics['mae']:.2f}</td><td>{relative:.1f} %</td>" in html
    assert "Report of 2026-11-25" in html
    assert "How to cite" in html


def test_coverage_stands_with_its_standard_error(content):
    html = render_report(content, progress=False)
    error = content.uncertainty.measured["interval_pixel_coverage_standard_error"]
    assert f"standard error over chips {100 * error:.1f} %" in html
    assert "finite-sample guarantee" in html


def test_numbers_have_a_true_minus_sign_and_zero_has_none():
    shown = [number(value, digits) for value, digits in ((-0.4, 0), (-0.6, 0), (-1234.56, 1))]
    assert shown == ["0", "−1", "−1,234.6"]
    assert number(None) == number(float("nan")) == "–"


def test_blocks_and_random_chips_stand_side_by_side_with_a_map(content):
    places = {"c0": (0, 0), "c1": (0, 1), "c2": (1, 0)}
    table = content.chip_table.assign(
        crs=["EPSG:3067"] * 3 + [""],
        transform=[[10.0, 0.0, 640.0 * x, 0.0, -10.0, 640.0 * y] for x, y in places.values()]
        + [[]],
    )
    blocks = {"c1": 4, "c3": 4, "c5": 8}
    metrics = {**content.metrics, "held_out": "blocks", "held_out_blocks": 2}
    other = {**content.metrics, "held_out": "chips", "rmse_per_chip_mean": 10.0, "chips": 7}
    found = dataclasses.replace(
        content, chip_table=table, metrics=metrics, blocks=blocks, other_metrics=other
    )
    page = render_report(found, progress=False)
    assert "lie in\n    2 blocks" in page
    ratio = metrics["rmse_per_chip_mean"] / 10.0
    assert f"<strong>{ratio:.2f}</strong> times that on random chips" in page
    assert "Ploton et al. 2020" in page
    assert "Wadoux et al. 2021" in page
    assert "bootstrap over blocks" in page
    assert "Where the chips of each fold lie" in page
    assert ">in no fold</text>" in page
    alone = render_report(dataclasses.replace(found, other_metrics={}), progress=False)
    assert "times that on random chips" not in alone
    assert "How chips were held out" in alone


def test_chips_that_lie_nowhere_have_no_map_of_folds(full_report):
    assert "How chips were held out" not in full_report


def test_other_scores_may_be_missing_but_not_broken(tmp_path):
    assert read_other_metrics(tmp_path / "metrics.json") == {}
    (tmp_path / "metrics.json").write_text("{")
    with pytest.raises(BadInputError, match=r"is not JSON: give a run's metrics\.json"):
        read_other_metrics(tmp_path / "metrics.json")
