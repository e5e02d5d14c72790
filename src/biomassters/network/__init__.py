"""The network from a year of images to biomass; ``agb_net`` is the whole of it on one screen.

Then in the order of a forward pass: ``encoder``, ``temporal_attention``,
``decoder``. ``weights`` keeps it on disk; ``folding``, ``execution`` and ``cpu`` change how it is
computed, never the result; ``reference`` reads the weights of the challenge's first place.
"""
