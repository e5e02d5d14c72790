"""Options of the workers."""

from pydantic import Field

from biomassters.options import Options


class DaskOptions(Options):
    """Who verifies, inspects and packs chips, and maps blocks of a region."""

    scheduler_address: str | None = Field(
        None,
        description="Address of a running Dask scheduler, as in tcp://10.0.0.5:8786; null works "
        "on this machine alone",
    )
    workers: int | None = Field(
        None,
        ge=0,
        description="Processes on this machine; null takes one a processor, 0 none, only threads",
    )
    minimum_chips: int = Field(
        500,
        ge=0,
        description="With fewer chips to work on, this process's threads do it: starting "
        "processes would take longer",
    )
    memory_per_worker_gb: float = Field(
        1.0,
        gt=0,
        description="Memory at which a process on this machine is ended and started again",
    )
    connect_timeout_s: float = Field(
        3.0,
        gt=0,
        description="Seconds in which the scheduler answers; more where it is only just started",
    )
    timeout_s: float = Field(
        30.0,
        gt=0,
        description="Seconds without a scheduler, or without any worker, after which the run ends",
    )
