"""Names of buckets and containers, by their providers' rules.

What follows ``s3://`` becomes a part of a server's name or of a path there: a name such as
``localhost#`` in ``https://<name>.s3.amazonaws.com`` would choose the server.
"""

import re

from biomassters.errors import BadInputError

# docs.aws.amazon.com/AmazonS3/latest/userguide/bucketnamingrules.html
_S3 = re.compile(r"(?!\d+(\.\d+){3}$)(?!.*\.\.)[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
# cloud.google.com/storage/docs/buckets#naming: longer where dots part it
_GOOGLE = re.compile(r"(?=[^.]{1,63}(\.[^.]{1,63})*$)[a-z0-9][a-z0-9._-]{1,220}[a-z0-9]")
# learn.microsoft.com/rest/api/storageservices: naming and referencing containers
_CONTAINER = r"(\$root|\$web|\$logs|[a-z0-9][a-z0-9-]{1,61}[a-z0-9])"
_AZURE = re.compile(_CONTAINER)
_AZURE_WITH_ACCOUNT = re.compile(
    _CONTAINER + r"(@[a-z0-9-]{3,63}\.(dfs|blob)\.(core\.windows\.net|fabric\.microsoft\.com))?"
)
_RULES = {
    "s3": (_S3, "a bucket's name has 3 to 63 of a-z, 0-9, '.' and '-'"),
    "gs": (_GOOGLE, "a bucket's name has 3 to 63 of a-z, 0-9, '.', '_' and '-'"),
    "az": (_AZURE, "a container's name has 3 to 63 of a-z, 0-9 and '-'"),
    "abfs": (_AZURE_WITH_ACCOUNT, "a container's name has 3 to 63 of a-z, 0-9 and '-'"),
}
_RULES |= {"s3a": _RULES["s3"], "abfss": _RULES["abfs"]}


def names_bucket(address: str) -> bool:
    """Whether an address of object storage has a bucket; True for addresses of others and paths."""
    scheme, separator, rest = address.partition("://")
    if not separator or scheme not in _RULES:
        return True
    return _RULES[scheme][0].fullmatch(rest.partition("/")[0]) is not None


def require_bucket(address: str) -> None:
    """Refuse an address of object storage whose bucket can't be one.

    Args:
        address: Of any kind; ``s3``, ``s3a``, ``gs``, ``az``, ``abfs`` and ``abfss`` are looked at.

    Raises:
        BadInputError: What follows ``://`` is no name of a bucket or container.
    """
    if not names_bucket(address):
        # The name isn't repeated: in front of an "@" may stand a password, which is only hidden
        # in whole addresses.
        rule = _RULES[address.partition("://")[0]][1]
        raise BadInputError(f"{address} names no bucket ({rule}): correct the address.")
