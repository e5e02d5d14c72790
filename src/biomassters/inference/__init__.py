"""From weights and images to maps of biomass.

``predict`` is batches to maps, ``chips`` whole stores and archives; ``device`` decides where and in
which arithmetic it is computed.
"""
