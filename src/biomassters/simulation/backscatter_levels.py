"""Levels of the Sentinel-1 simulation, in dB unless named otherwise.

They are chosen to match the medians by biomass class of the real chip 000aa810: in summer
VV rises from −10.1 (below 50 Mg/ha) to −8.9, VH from −16.5 to −14.4; in February both lie
about 2 dB lower, and open ground 3 to 4 dB. Pairs are VV and VH.
"""

import numpy as np

CANOPY_DB = np.array([-9.5, -15.0])
EXTINCTION_HA_PER_MG = np.array([0.018, 0.018])  # fits the real chip's classes
GROUND_DB = {
    "soil": np.array([-11.8, -19.3]),
    "bog": np.array([-11.6, -18.8]),
    "field": np.array([-12.2, -20.3]),
    "water": np.array([-17.5, -24.5]),
    "ice": np.array([-18.5, -25.5]),
    "built": np.array([-3.0, -9.0]),
}
CROP_DB = np.array([0.5, 3.5])  # a grown crop over bare soil
FROST_DB = {"canopy": np.array([-2.3, -2.6]), "ground": np.array([-3.4, -4.2])}
WET_SNOW_DB = np.array([-2.0, -2.0])  # below Nagler & Rott's 3 dB (2000): months are means
MOISTURE_DB = {"canopy": 0.25, "ground": 0.8}
WIND_DB = 2.0
SPECIES_DB = {"pine": -0.5, "spruce": 0.4, "birch": 0.3}  # a guess: crowns differ in structure
STAND_DB = 0.7  # a stand's structure that biomass doesn't tell
ORBIT_DB = 0.25  # incidence angles differ from place to place
SLOPE_DB = 2.5  # on a slope of one standard deviation of terrain in 10 pixels
TEXTURE_DB = 2.6  # single trees and stones, the same in every month; before the blur
CHANGE_DB = 0.5  # what changes from month to month; both from the real chip's variance
BUILDING_DB = 5.0
BLUR_PIXELS = 0.7  # 20 m resolution on a 10 m grid
NOISE_DB = -23.0  # the sensor's noise is subtracted, its fluctuation stays; spec: below −22
NOISE_SPREAD = 0.15  # of that fluctuation in a monthly mean, a share of the noise
FLOOR_DB = -45.0  # the lowest real values are −43.6
