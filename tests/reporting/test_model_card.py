from biomassters.reporting.model_card import model_card

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
