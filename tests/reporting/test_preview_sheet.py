import numpy as np

from biomassters.reporting.preview_sheet import preview_sheet


def test_every_map_is_shown_under_its_name_up_to_48():
    few = preview_sheet({f"c{n}": np.full((4, 4), n, np.float32) for n in range(10)})
    shown = [axes.get_title() for axes in few.axes if axes.images]
    assert shown[3] == "c3\nmean 3"
    assert len(shown) == 10
    many = preview_sheet({f"c{n}": np.ones((4, 4), np.float32) for n in range(100)})
    assert len([axes for axes in many.axes if axes.images]) == 34


def test_no_maps_still_give_a_sheet():
    assert preview_sheet({}).axes
