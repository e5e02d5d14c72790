"""Whether a Dask scheduler answers, asked before there is a client.

Dask's own client waits for ever for a server that accepts a connection and says nothing, and its
end is noisy when there was no scheduler.
"""

import asyncio
from concurrent.futures import ThreadPoolExecutor

from distributed import Security
from distributed.comm import connect

from biomassters.errors import BadInputError
from biomassters.messages import HIDDEN
from biomassters.workers.options import DaskOptions


def require_scheduler(options: DaskOptions) -> None:
    """Say hello to the scheduler.

    Args:
        options: With an address.

    Raises:
        BadInputError: Nobody answers there in time, or somebody who is no scheduler.
    """
    address = options.scheduler_address
    assert address is not None
    seconds = min(options.connect_timeout_s, options.timeout_s)
    try:
        # In a thread, for a notebook has an event loop of its own already.
        with ThreadPoolExecutor(1) as pool:
            pool.submit(lambda: asyncio.run(_hello(address, seconds))).result()
        return
    except OSError:  # TimeoutError is one
        reason = ""
    except (TypeError, ValueError) as error:  # an odd address, or TLS without a certificate
        login = address.partition("://")[2].rpartition("@")[0]
        said = str(error).replace(login, HIDDEN) if login else str(error)
        reason = f" ({' '.join(said.split()).rstrip('.')})"
    except Exception:  # Dask takes another protocol's words for numbers of bytes
        reason = " (what answers is no Dask scheduler)"
    raise BadInputError(
        f"dask.scheduler_address: nobody answers at {address} within {seconds:g} s{reason}: start "
        "the scheduler there (dask.connect_timeout_s waits longer for it), or leave the address "
        "out to work on this machine."
    )


async def _hello(address: str, seconds: float) -> None:
    how = Security().get_connection_args("client")
    # The time limit of Dask's own is that of the connection, not of what is said over it.
    comm = await asyncio.wait_for(connect(address, timeout=seconds, **how), seconds)
    comm.abort()
