"""Test-time views: mirror images whose predictions are turned back and averaged.

Forest and sensors have no preferred side, so every view is as good a guess as the image itself.
"""

from torch import Tensor

# Axes that a view reverses. Each view undoes itself.
VIEWS: dict[str, tuple[int, ...]] = {
    "identity": (),
    "left_right": (-1,),
    "up_down": (-2,),
    "both": (-2, -1),  # the same as half a turn
}


def apply_view(x_HW: Tensor, view: str) -> Tensor:
    """Look at images in another way, or turn a prediction back.

    Args:
        x_HW: Any type, [..., H, W].
        view: Name in ``VIEWS``; applied twice it gives ``x_HW`` again.

    Returns:
        [..., H, W], of the same type; ``x_HW`` itself for the identity.

    Raises:
        ValueError: The view has no such name.
    """
    if view not in VIEWS:
        raise ValueError(f"No view is called {view!r}; choose from {', '.join(VIEWS)}.")
    axes = VIEWS[view]
    return x_HW.flip(axes) if axes else x_HW
