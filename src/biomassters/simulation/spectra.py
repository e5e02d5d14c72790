"""Reflectances (× 10,000) of what a Sentinel-2 pixel is mixed of.

Their shapes are the textbook ones: chlorophyll absorbs blue and red, leaves are bright in
the near infrared, water in leaves and snow absorbs in the shortwave infrared. The levels are
chosen so that the mixtures match the real chips' percentiles by month (000aa810) and the
closed forest of 001b0634 in September.
"""

import numpy as np

#            B2    B3    B4    B5    B6    B7    B8   B8A   B11   B12
_TABLE = {
    "spruce": (110, 260, 150, 470, 1500, 1850, 1980, 2080, 820, 370),
    "pine": (170, 360, 260, 640, 1650, 1980, 2130, 2250, 1150, 560),
    "birch leaves": (160, 480, 230, 900, 2900, 3700, 3900, 4050, 1750, 780),
    "birch twigs": (420, 560, 680, 880, 1150, 1300, 1450, 1570, 1750, 1150),
    "rich floor green": (230, 560, 330, 1050, 2750, 3350, 3550, 3700, 1850, 900),
    "rich floor dead": (500, 720, 900, 1250, 1550, 1750, 1950, 2080, 2500, 1800),
    "heath floor": (380, 620, 600, 1080, 1750, 2000, 2150, 2280, 2150, 1250),
    "bare soil": (620, 880, 1150, 1480, 1700, 1880, 2020, 2150, 2850, 2250),
    "bog green": (340, 620, 560, 1080, 1850, 2150, 2300, 2430, 1900, 1000),
    "bog dead": (480, 720, 850, 1150, 1450, 1650, 1800, 1920, 2100, 1500),
    "grass green": (250, 650, 330, 1150, 3600, 4500, 4750, 4900, 1900, 900),
    "grass dead": (520, 780, 950, 1350, 1750, 2000, 2200, 2350, 2750, 1950),
    "crop ripe": (750, 1150, 1500, 1950, 2500, 2750, 2950, 3050, 3200, 2200),
    "water": (160, 190, 120, 100, 70, 70, 60, 60, 30, 20),
    "built": (1150, 1250, 1350, 1480, 1600, 1700, 1820, 1880, 2150, 1950),
    # Old snow (Warren 1982, Rev. Geophys. 20:67, for its shape), dimmed by grains and litter.
    "snow": (4600, 4650, 4600, 4500, 4350, 4250, 4150, 4050, 650, 520),
    "cloud": (6900, 6700, 6500, 6600, 6800, 6850, 7100, 6850, 4900, 3800),
}
SPECTRA = {name: np.array(row, float) for name, row in _TABLE.items()}
