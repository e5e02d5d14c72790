"""How the processes of one training run are started and watched over."""

from pydantic import Field

from biomassters.options import Options


class LaunchOptions(Options):
    """Ranks: one process a GPU, or several on the CPU."""

    nodes: int = Field(
        default=1,
        ge=1,
        description="Machines; each runs the same command and holds world_size / nodes ranks.",
    )
    rendezvous_address: str = Field(
        default="",
        pattern=r"^(|[\w.\-]+:\d{1,5})$",
        description="host:port of the first machine, where the others find it; empty on a single "
        "machine.",
    )
    max_restarts: int = Field(
        default=3,
        ge=0,
        description="Times that lost ranks are started again, from the newest checkpoint, before "
        "the run gives up.",
    )
    timeout_s: float = Field(
        default=600.0,
        gt=0.0,
        description="Seconds after which a rank or a machine that does not answer is lost.",
    )
