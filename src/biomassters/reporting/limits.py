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


def standing_limits(
    simulated: bool, best_and_last: tuple[float, float] | None = None
) -> tuple[str, ...]:
    """One or two sentences a limit.

    Args:
        simulated: Whether the data come from this project's simulation.
        best_and_last: Where the held-out chips also decided which weights were kept: their RMSE
            with these weights and with those after the last epoch, Mg/ha.
    """
    chosen = () if best_and_last is None else (_chosen(*best_and_last),)
    return ((_SIMULATED,) if simulated else _REAL) + chosen + _ALWAYS


def _chosen(best: float, last: float) -> str:
    return (
        "The weights are those of the epoch that did best on these same held-out chips: RMSE "
        f"{best:.1f} Mg/ha, {last:.1f} after the last epoch. The score may flatter by up to "
        f"{last - best:.1f} Mg/ha, and the intervals, calibrated on the same chips, may be too "
        "narrow."
    )
