"""The unit of biomass and the classes that scores are split by."""

AGB_UNIT = "Mg/ha"
# Labels of 400 Mg/ha and more are rare outliers of the source; the first place's loss leaves
# them out, the challenge's score does not.
LABEL_LIMIT_MG_PER_HA = 400.0
CLASS_EDGES_MG_PER_HA = (0.0, 50.0, 100.0, 150.0, 200.0)
CLASS_NAMES = ("0", "0-50", "50-100", "100-150", "150-200", ">200")
