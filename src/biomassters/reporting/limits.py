"""What the scores of a report do not show: said in every report."""

_SIMULATED = (
    "The forest is simulated. That the network beats the baselines shows that the software "
    "learns; it says nothing about any real forest."
)
_REAL = (
    (
        "BioMassters chips carry no location, so chips were held out at random and may lie beside "
        "chips that were trained on. Validation by blocks of land, which would show it, is "
        "impossible on them. In a region never seen, errors may be larger and intervals too narrow."
    ),
    (
        "The labels are taken as the truth. They are estimates with errors of their own, which no "
        "score here contains."
    ),
)
_ALWAYS = (
    (
        "An RMSE is an average. At a single pixel the error may be several times as large, and it "
        "differs between classes of biomass (see the table)."
    ),
    (
        "Totals over an area larger than a chip were not verified: how alike errors are farther "
        "apart than a chip is wide cannot be seen in chips."
    ),
    (
        "Intervals belong to the weights that were scored here. Weights that went on learning from "
        "every label have no held-out chips left: their maps can only borrow these intervals."
    ),
    "Other years, other sensors and other forests than those of the data were not tested.",
)
_CHOSEN_ON_HELD_OUT = (
    "The weights are those of the epoch that did best on these same held-out chips, which "
    "flatters the score a little."
)


def standing_limits(simulated: bool, chosen_on_held_out: bool) -> tuple[str, ...]:
    """One or two sentences a limit.

    Args:
        simulated: Whether the data come from this project's simulation.
        chosen_on_held_out: Whether the held-out chips also decided which weights were kept.
    """
    chosen = (_CHOSEN_ON_HELD_OUT,) if chosen_on_held_out else ()
    return ((_SIMULATED,) if simulated else _REAL) + chosen + _ALWAYS
