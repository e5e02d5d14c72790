"""Shards of an array at a URL: their index once, then the bytes of single chunks."""

from biomassters.chips.store.layout import StoreArray
from biomassters.chips.store.shard import Shard
from biomassters.errors import BadInputError
from biomassters.io.storage import read_range, state


class UrlShard(Shard):
    """A shard that is read piece by piece over the network.

    Args:
        url: Its URL.
        chunk_count: See ``Shard``.
    """

    def __init__(self, url: str, chunk_count: int | None) -> None:
        found = state(url)
        if found is None:
            raise BadInputError(
                f"{url} is missing, or the store was replaced: start again; if it is still "
                "missing, pack the store again at another URL."
            )
        super().__init__(url, found[0], chunk_count)

    def fill(self, out: memoryview, position: int) -> None:
        """See ``Shard.fill``."""
        data = read_range(self.name, position, position + len(out))
        if len(data) != len(out):
            raise self.damage("it ends too early")
        out[:] = data


class UrlShards:
    """All shards of an array at a URL.

    Args:
        url: The array's URL.
        array: Which array it is.
    """

    def __init__(self, url: str, array: StoreArray) -> None:
        self._url, self._array = url, array

    def open(self, chip: int, chunk_count: int | None) -> Shard:
        """See ``Shards.open``."""
        return UrlShard(f"{self._url}/{self._array.file_name(chip)}", chunk_count)
