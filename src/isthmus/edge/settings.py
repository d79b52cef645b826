"""Settings of the edge server, from arguments or ``ISTHMUS_*`` variables. It serves nothing."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Self

from pydantic import Field, model_validator
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
        max_bodies_mib: Of all requests together that are not answered yet, MiB; one that goes
            beyond is refused.
        max_connections: Connections at once; fewer where the system allows fewer open files.
        client_timeout_s: A client that in so long sends no head of a request, or less than 64 KiB
            of a longer body, or does not take its answer, is cut off.
        max_image_pixels: Photographs with more pixels are refused before they are decoded.
    """

    model_config = SettingsConfigDict(env_prefix="ISTHMUS_", frozen=True, extra="forbid")

    models_dir: Path
    host: str = "127.0.0.1"
    port: int = Field(default=8000, ge=0, le=65535)
    threads: int = Field(default_factory=available_threads, ge=1, le=1024)
    max_body_mib: float = Field(default=64, gt=0, le=4096)
    max_bodies_mib: float = Field(default=256, gt=0, le=65536)
    max_connections: int = Field(default=1024, ge=1, le=1_000_000)
    client_timeout_s: float = Field(default=20, gt=0, le=3600)
    max_image_pixels: int = Field(default=MAX_PIXELS, ge=1, le=MAX_PIXELS)

    @property
    def max_body_bytes(self) -> int:
        """Largest body of a request, bytes."""
        return int(self.max_body_mib * _MIB)

    @property
    def max_bodies_bytes(self) -> int:
        """Largest size of all bodies together, bytes."""
        return int(self.max_bodies_mib * _MIB)

    @model_validator(mode="after")
    def _check_bodies(self) -> Self:
        if self.max_bodies_mib < self.max_body_mib:
            raise ValueError(
                f"max_bodies_mib ({self.max_bodies_mib:g}) must be at least max_body_mib "
                f"({self.max_body_mib:g}), or the largest request would never be taken"
            )
        return self
