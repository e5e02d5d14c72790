"""What the network reads from its options, whichever class they are of.

The options themselves (``options.py``) are pydantic models; the network only needs these names, so
that it can be built and measured with torch and timm alone.
"""

from typing import Literal, Protocol

Choice = Literal["auto"] | bool


class Architecture(Protocol):
    """What decides the weights: see ``NetworkOptions``."""

    @property
    def backbone(self) -> str: ...  # noqa: D102
    @property
    def pretrained(self) -> bool: ...  # noqa: D102
    @property
    def allow_random_start(self) -> bool: ...  # noqa: D102
    @property
    def decoder_channels(self) -> tuple[int, ...]: ...  # noqa: D102
    @property
    def scse(self) -> bool: ...  # noqa: D102


class Execution(Protocol):
    """How the network is computed: see ``ExecutionOptions``."""

    @property
    def channels_last(self) -> Choice: ...  # noqa: D102
    @property
    def subpixel(self) -> Choice: ...  # noqa: D102
    @property
    def winograd(self) -> Choice: ...  # noqa: D102
    @property
    def lean_activations(self) -> Choice: ...  # noqa: D102
    @property
    def checkpoint_levels(self) -> tuple[int, ...]: ...  # noqa: D102
    @property
    def compile(self) -> bool: ...  # noqa: D102
