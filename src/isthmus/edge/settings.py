"""Settings of the edge server, from arguments or ``ISTHMUS_*`` variables. It serves nothing."""

from __future__ import annotations

import os
from pathlib import Path

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from isthmus.runtime.image import MAX_PIXELS

__all__ = ["Settings", "available_threads"]

_MIB = 1 << 20


def available_threads() -> int:
    """Return how many processors this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class Settings(BaseSettings):
    """How to serve. Each field can be given as an environment variable, e.g. ``ISTHMUS_PORT``.

    Attributes:
        models_dir: The model repository.
        host: Address to listen on; only this machine's own programs reach the default.
        port: TCP port; 0 for any that is free.
        threads: Threads of one inference.
        max_body_mib: Largest body of a request, MiB.
        max_image_pixels: Photographs with more pixels are refused before they are decoded.
    """

    model_config = SettingsConfigDict(env_prefix="ISTHMUS_", frozen=True, extra="forbid")

    models_dir: Path
    host: str = "127.0.0.1"
    port: int = Field(default=8000, ge=0, le=65535)
    threads: int = Field(default_factory=available_threads, ge=1, le=1024)
    max_body_mib: float = Field(default=64, gt=0, le=4096)
    max_image_pixels: int = Field(default=MAX_PIXELS, ge=1, le=MAX_PIXELS)

    @property
    def max_body_bytes(self) -> int:
        """Largest body of a request, bytes."""
        return int(self.max_body_mib * _MIB)
