"""Asking the hub of pretrained weights without waiting for it, or being shouted at by it."""

import logging
import os
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager

from timm.models import get_pretrained_cfg

ANSWER_TIMEOUT_S = 3.0
_DEFAULT_HUB = "https://huggingface.co"
_WEIGHT_FILES = ("model.safetensors", "pytorch_model.bin")


def hub_answers() -> bool:
    """Whether the model hub answers within a few seconds.

    Asked first because the hub's client retries for most of a minute when there is no network.
    """
    if os.environ.get("HF_HUB_OFFLINE", "").lower() in {"1", "true", "yes", "on"}:
        return False
    request = urllib.request.Request(os.environ.get("HF_ENDPOINT", _DEFAULT_HUB), method="HEAD")
    try:
        with urllib.request.urlopen(request, timeout=ANSWER_TIMEOUT_S):
            return True
    except urllib.error.HTTPError:
        return True  # it answered, if only to refuse this page
    except (OSError, ValueError):
        return False


def is_cached(backbone: str) -> bool:
    """Whether the weights of a resolved backbone are already on this machine."""
    from huggingface_hub import try_to_load_from_cache

    repository = getattr(get_pretrained_cfg(backbone), "hf_hub_id", None)
    if not repository:
        return False
    if not repository.count("/") or repository.endswith("/"):
        repository = f"timm/{backbone}"
    return any(isinstance(try_to_load_from_cache(repository, name), str) for name in _WEIGHT_FILES)


@contextmanager
def quiet_hub() -> Iterator[None]:
    """Silence the hub client's own warnings: the one line that matters is ours."""
    loggers = [logging.getLogger(name) for name in ("huggingface_hub", "timm")]
    levels = [log.level for log in loggers]
    try:
        for log in loggers:
            log.setLevel(logging.CRITICAL)
        yield
    finally:
        for log, level in zip(loggers, levels, strict=True):
            log.setLevel(level)
