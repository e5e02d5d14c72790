"""Sites: how places and years differ beyond the weather, drawn once for each simulated chip.

A network that only ever sees one calibration, one understory and one allometry learns their exact
levels, which no real place has. ``draw_site`` draws levels anew for every chip, as far as
``VarietyOptions`` say; ``landscape``, ``radar``, ``optical`` and ``year`` use them. Every spread
below is one standard deviation at the option's value 1; one without a source is a guess.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from biomassters.chips.bands import OPTICAL_RANGE
from biomassters.simulation.options import VarietyOptions

Table = NDArray[np.float64]

# Radar, dB. Sentinel-1's absolute radiometric accuracy is 1 dB at three standard deviations
# (Copernicus Sentinel-1 Product Definition, S1-RS-MDA-52-7440).
CALIBRATION_DB = 1 / 3
# IW looks at 29 to 46 degrees, evenly spread 4.9; backscatter falls by a tenth of a dB or two a
# degree (Widhalm, Bartsch & Goler 2018, Remote Sensing 10:551).
INCIDENCE_DB = 0.6
# Bare soil differs by several dB with its roughness (Oh, Sarabandi & Ulaby 1992, IEEE Trans.
# Geosci. Remote Sens. 30:370) and with moisture from year to year (Wagner, Lemoine & Rott 1999,
# Remote Sens. Environ. 70:191: 5 to 6 dB between dry and wet).
GROUND_DB = 1.2
MOISTURE = 1.0  # of the month's own standard deviations, the same in every month
PATCHY_DB = 0.8  # for one standard deviation of the ground's wetness within a chip
CANOPY_DB = 0.7  # between forests of one biomass; a guess
EXTINCTION = 0.35  # of its logarithm; a guess
ROUGHNESS = 0.35  # of the logarithm of radar's texture: real chips spread 1.1 to 3.2 dB

# Optics. A week earlier or later, in a May that warms by 0.2 °C a day.
PHENOLOGY_C = 1.3
# Spectra of needles, bark and above all understory differ from place to place and with the season
# (reviewed by Rautiainen et al. 2018, Remote Sensing 10:207); how far is a guess.
BRIGHTNESS, COLOUR = 0.12, 0.10  # of a spectrum's logarithm: all bands, and each group of bands
# Of a whole place: the two real chips differ by a half in red and shortwave, a tenth in the rest.
SITE_COLOUR = np.array([0.25, 0.1, 0.1, 0.2])
SPECIES = 0.8  # of the score that decides the species' shares
TEXTURE = 0.35
# Surface reflectance is asked to be right within 0.005 + 5 % (Vermote & Kotchenova 2008, J.
# Geophys. Res. 113:D23S90); the view from one side or the other of the swath changes it by about
# a tenth (Roy et al. 2017, Remote Sens. Environ. 199:25).
GAIN, BAND_GAIN = 0.08, 0.03
HAZE_COUNTS = np.array([90, 75, 65, 55, 45, 40, 40, 35, 20, 15.0])
VEIL_SHARE, VEIL_DEPTH = 0.15, 0.04  # of the months with a thin cloud, and its optical depth
SEAM_SHARE = 0.5  # of the months that are put together from several days

# Of the logarithm of slopes' effect: in one real chip backscatter within a class of forest spreads
# by 2.9 dB from place to place, twice as much as in the other.
RELIEF = 0.9
# Systematic. In both real chips open ground is darker in summer than the simulation's (VV 1.7 dB,
# VH 0.4), and backscatter is closer to its end at 40 Mg/ha already.
GROUND_LEVEL_DB = np.array([-1.7, -0.4])
EXTINCTION_LEVEL = 1.6
# From 150 to 300 Mg/ha both real chips' backscatter falls again, by up to a dB, in every season:
# old stands have fewer stems (Brolly & Woodhouse 2012, Ecological Modelling 237-238:74).
AGEING_DB, AGEING_SPREAD_DB = -0.25, 0.3  # for each 100 Mg/ha above this
AGEING_FROM_MG_PER_HA = 100.0
SPECIES_DB = 0.5  # of pine, spruce and birch each, so that any may be the brightest; a guess
# Finnish Januaries lie degrees from their mean (2016: 4 to 7 °C colder, 2017: 2 to 4 °C milder;
# Finnish Meteorological Institute, press releases), the south-west coast and Lapland ten apart;
# without this hardly a chip has a January and February without snow, as 288afc34 has.
CLIMATE_C = np.array([0.8, 0.8, 2.0, 3.0, 3.0, 3.0, 2.0, 0.8, 0.8, 0.8, 0.8, 0.8])
# Radar shows what stands above the terrain model displaced towards the sensor by height /
# tan(incidence): 8 to 34 m for 7 to 27 m of trees, or of geoid where it was forgotten. The real
# chips' orbits fit their labels best 10 to 30 m off, the ascending one to the west, the
# descending one to the east.
LAYOVER_PIXELS = (0.8, 3.4)
# Both real chips fit their Sentinel-2 images best with the label a row off; the images themselves
# were asked to lie within 20 m (2 sigma) before their refinement (Gascon et al. 2017, Remote
# Sensing 9:584).
LABEL_SHIFT_PIXELS = 1.5
CROWNS = 0.35  # of the logarithm of crown area at one biomass, between places
MEMBERS = 11  # of ``optical.MEMBERS``


@dataclass(frozen=True, eq=False)
class Site:
    """What holds for a whole chip."""

    moisture: float  # added to the weather's, in its standard deviations
    patchy_moisture_db: float  # of the ground, for one standard deviation of its wetness
    canopy_db: Table  # added to the canopy's backscatter, [2 polarizations]
    ground_db: Table  # added to that of soil, bog and field, [2 polarizations]
    extinction: float  # factor on the canopy's extinction
    ageing_db: float  # what old stands add, for each 100 Mg/ha above ``AGEING_FROM_MG_PER_HA``
    species_level: float  # factor on ``radar.SPECIES_DB``
    species_db: Table  # added to the backscatter of pine, spruce and birch, [3]
    orbit_db: Table  # of calibration and incidence angle, [2 orbits, 2 polarizations]
    roughness: float  # factor on radar's texture
    relief: float  # factor on slopes
    temperature_c: Table  # added to the weather's, [12]
    # Columns that crowns are displaced towards the sensor, by orbit.
    layover_pixels: tuple[int, int]
    leaf_shift_c: float  # how much warmer a month must be for the birches' leaves
    green_shift_c: float  # likewise for grass and understory
    spectra: Table  # factors on the members' spectra, [11, 10 bands]
    species: Table  # added to the scores of pine, spruce and birch, [3]
    texture: float  # factor on the optical texture
    gain: Table  # factors on reflectance, [12, 10]
    haze_counts: Table  # added to it, [12, 10]
    veil: Table  # optical depth of thin cloud that no mask knows of, [12]
    seams: NDArray[np.bool_]  # months that are put together from two days, bool [12]
    seam_gain: Table  # factors on the second day, [12, 10]
    seam_haze_counts: Table  # added to it, [12, 10]
    # First row and column of a whole 20 m pixel, 0 or 1, where bands of that size have one value,
    # noise included, in each; None: noise differs at 10 m.
    coarse_start: int | None
    crowns: float  # factor on the crowns' area at one biomass
    structure: float  # how far what is seen of a forest differs from its biomass; 1 is usual
    label_noise: float  # of laser scanning, likewise
    label_shift: tuple[int, int]  # rows and columns that the label lies off, whole pixels
    towns: bool  # whether districts, streets and heights of houses are told apart


def draw_site(variety: VarietyOptions, rng: np.random.Generator) -> Site:
    """Draw a site.

    The draws do not depend on the options, which only scale them: with one mechanism more or less
    the others stay as they are, and with all of them 0 nothing differs from place to place.
    """
    draw = rng.standard_normal
    one, both = draw(6), draw((4, 2))  # pairs share most of what they are
    shared = 0.8 * both[:2, :1] + 0.6 * both[:2]
    radar, plants, sky = variety.radar, variety.vegetation, variety.atmosphere
    colours = COLOUR * draw((MEMBERS, 4))[:, OPTICAL_RANGE] + BRIGHTNESS * draw((MEMBERS, 1))
    colours = colours + SITE_COLOUR[OPTICAL_RANGE] * draw(4)[OPTICAL_RANGE]
    months = [_light(rng) for _ in range(2)]
    seams, veils = rng.random(12), rng.random(12)
    orbit = CALIBRATION_DB * both[2:] + INCIDENCE_DB * draw((2, 1))
    shift = rng.uniform(-LABEL_SHIFT_PIXELS, LABEL_SHIFT_PIXELS, 2)
    winter, months_c, crowns = draw(), draw(12), draw()
    layover, start = rng.uniform(*LAYOVER_PIXELS, 2), int(rng.integers(2))
    # No further than the landscape's margin of four pixels, less the blur's reach.
    asc, desc = np.minimum(np.rint(variety.layover * layover), 3).astype(int).tolist()
    down, right = np.rint(variety.labels * shift).astype(int).tolist()
    species, texture = draw(3), draw()
    ageing, species_db = draw(), draw(3)
    return Site(
        moisture=radar * MOISTURE * one[0],
        patchy_moisture_db=radar * PATCHY_DB,
        canopy_db=radar * CANOPY_DB * shared[0],
        ground_db=radar * GROUND_DB * shared[1] + variety.levels * GROUND_LEVEL_DB,
        extinction=float(EXTINCTION_LEVEL**variety.levels * np.exp(radar * EXTINCTION * one[1])),
        ageing_db=variety.levels * AGEING_DB + radar * AGEING_SPREAD_DB * ageing,
        species_level=1 - variety.levels,
        species_db=radar * SPECIES_DB * species_db,
        orbit_db=radar * orbit,
        roughness=float(np.exp(variety.texture * ROUGHNESS * one[2])),
        relief=float(np.exp(variety.relief * RELIEF * one[3])),
        temperature_c=variety.climate * CLIMATE_C * (0.7 * winter + 0.7 * months_c),
        layover_pixels=(asc, desc),
        leaf_shift_c=variety.phenology * PHENOLOGY_C * one[4],
        green_shift_c=variety.phenology * PHENOLOGY_C * (0.8 * one[4] + 0.6 * one[5]),
        spectra=np.exp(plants * colours),
        species=plants * SPECIES * species,
        texture=float(np.exp(variety.texture * TEXTURE * texture)),
        gain=np.exp(sky * months[0][0]),
        haze_counts=sky * months[0][1],
        veil=np.where(veils < VEIL_SHARE, sky * VEIL_DEPTH * veils / VEIL_SHARE * 2, 0),
        seams=seams < SEAM_SHARE * variety.seams,
        seam_gain=np.exp(variety.seams * months[1][0]),
        seam_haze_counts=variety.seams * months[1][1],
        coarse_start=start if variety.resampling else None,
        crowns=float(np.exp(variety.structure * CROWNS * crowns)),
        structure=variety.structure,
        label_noise=variety.labels,
        label_shift=(down, right),
        towns=variety.towns,
    )


def _light(rng: np.random.Generator) -> tuple[Table, Table]:
    """Logarithm of the gain, and haze in counts, of each month, both [12, 10]."""
    gain = GAIN * rng.standard_normal((12, 1)) + BAND_GAIN * rng.standard_normal((12, 10))
    return gain, HAZE_COUNTS * rng.standard_normal((12, 1))


NEUTRAL = draw_site(VarietyOptions(), np.random.default_rng(0))  # no place in particular
