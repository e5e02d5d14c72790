import itertools

import pytest
from markdown_it import MarkdownIt

from biomassters.chips.scaling import BandScaling
from biomassters.datasets.network_weights import NetworkWeights
from biomassters.inference.options import InferenceOptions
from biomassters.network.agb_net import AgbNet
from biomassters.network.options import NetworkOptions
from biomassters.pipelines.reporting.nodes import gather_recipe
from biomassters.reporting.model_card import as_code, as_text, flatten, model_card, standing_limits

RECIPE = {"training": {"epochs": 3}, "data fingerprint": "f00d"}
COVERAGE = {
    "interval_level": 0.9,
    "interval_chips": 40,
    "interval_pixel_coverage": 0.899,
    "interval_chip_mean_coverage": 0.925,
}


def card(scores, simulated=True, **more):
    metrics = scores.accumulator.summary() | more
    return model_card("forest", simulated, RECIPE, metrics, scores.accumulator.by_class())


def test_the_card_says_use_scores_limits_and_recipe(scores):
    text = card(scores, **COVERAGE)
    for part in (
        "# Weights for forest biomass: forest",
        "do not map one with it",
        "| Network |",
        "89.9 %",
        "- `training.epochs`: 3",
        "The forest is simulated",
    ):
        assert part in text, part
    assert "nan" not in text


def test_real_data_and_missing_intervals(scores):
    text = card(scores, simulated=False, interval_note="Coverage was not measured: too few.")
    assert "carry no location" in text
    assert "too few" in text


HOSTILE = [
    "<script>alert(1)</script>",
    "[x](http://host.example)",
    "a\n\n# b",
    "``` `<b>` ```",
    "_a_ *b* | c & &lt; \\` ~~d~~",
]


@pytest.mark.parametrize("name", HOSTILE)
def test_names_from_outside_are_shown_as_they_are(scores, name):
    metrics = scores.accumulator.summary()
    recipe = {name: name, "trained on": {"chips": [name]}}
    text = model_card(name, True, recipe, metrics, scores.accumulator.by_class())
    tokens = MarkdownIt("gfm-like", {"linkify": False, "html": True}).parse(text)
    inline = [child for token in tokens for child in token.children or ()]
    kinds = {one.type for one in (*tokens, *inline)}
    assert not kinds & {"html_inline", "html_block", "link_open", "em_open", "s_open", "fence"}
    (title, *others) = [
        after for token, after in itertools.pairwise(tokens)
        if token.type == "heading_open"
    ]  # fmt: skip
    shown = " ".join(name.split())
    assert "".join(one.content for one in title.children) == f"Weights for forest biomass: {shown}"
    assert len(others) == 5
    assert shown in [one.content for one in inline if one.type == "code_inline"]


@pytest.mark.parametrize("write", [as_text, as_code])
def test_plain_names_stay_readable(write):
    assert write("forest 2-a.b").strip("`") == "forest 2-a.b"


def test_report_and_card_are_told_no_secret():
    network = AgbNet(NetworkOptions(decoder_channels=(8,) * 5), BandScaling.reference())
    told = {"trained_on": {"dataset": "s3://KEY:PLANTED@box/x?sig=PLANTED", "chips": 3}}
    recipe = gather_recipe(NetworkWeights(network, told, "w.safetensors"), InferenceOptions())
    assert recipe["trained on"] == {"dataset": "s3://***@box/x?***", "chips": 3}
    assert "PLANTED" not in str(recipe)


def test_simulated_and_real_data_have_limits_of_their_own():
    simulated, real = standing_limits(True), standing_limits(False)
    assert any("simulated" in limit for limit in simulated)
    assert not any("simulated" in limit for limit in real)
    assert any("no location" in limit for limit in real)


def test_weights_chosen_by_the_chips_that_score_them_flatter():
    (chosen,) = set(standing_limits(False, (30.0, 31.5))) - set(standing_limits(False))
    assert "up to 1.5 Mg/ha" in chosen
    assert "intervals, calibrated on the same chips" in chosen


def test_nested_options_become_dotted_names():
    nested = {"a": {"b": 1, "c": {"d": [2, 3]}}, "e": {}, "f": None}
    assert list(flatten(nested)) == [("a.b", "1"), ("a.c.d", "2, 3"), ("e", "{}"), ("f", "None")]
