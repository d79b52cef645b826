"""The files that the zoo's photographs are made from: package, author, licence, evidence.

Facts only. Accepted licences: CC0-1.0, public domain, CC-BY-4.0.
"""

from dataclasses import dataclass

__all__ = ["Source", "budgie", "lomiri", "palapeli", "scikit_image"]

BUDGIE_EVIDENCE = (
    "debian/copyright of the package (all upstream files CC0-1.0) and the upstream repository's "
    "README (every image manually reviewed and confirmed to be CC0); no photographer is named"
)
BUDGIE_AUTHOR = "not named (Budgie Desktop Developers, dedicated to the public domain)"
LOMIRI_EVIDENCE = "debian/copyright of the package, one paragraph for this file"
PALAPELI_EVIDENCE = (
    "the .desktop file beside the photograph: its author, its Wikimedia Commons page and "
    "X-KDE-PluginInfo-License=Public Domain (the package's program is GPL-2+, this file is not)"
)
SCIKIT_IMAGE_EVIDENCE = "docstring in skimage/data/_fetchers.py: CC0 by the photographer"


@dataclass(frozen=True, slots=True)
class Source:
    """The file that a photograph was made from, as a registry package holds it."""

    package: str
    version: str
    file: str
    sha256: str
    title: str
    author: str
    license: str
    license_evidence: str


def budgie(name: str, title: str, sha256: str) -> Source:
    """Return a wallpaper of the Budgie desktop; only 4.2-1 has JPEG XL files."""
    is_jxl = name.endswith(".jxl")
    return Source(
        package="budgie-backgrounds",
        version="4.2-1" if is_jxl else "3.0-1",
        file=f"usr/share/backgrounds/budgie/{name}",
        sha256=sha256,
        title=title,
        author=BUDGIE_AUTHOR,
        license="CC0-1.0",
        license_evidence=BUDGIE_EVIDENCE,
    )


def lomiri(name: str, title: str, author: str, sha256: str, *, cc0: bool = False) -> Source:
    """Return a wallpaper of Ubuntu Touch."""
    return Source(
        package="lomiri-wallpapers-16.04",
        version="20.04.0-2",
        file=f"usr/share/backgrounds/{name}",
        sha256=sha256,
        title=title,
        author=author,
        license="CC0-1.0" if cc0 else "CC-BY-4.0",
        license_evidence=LOMIRI_EVIDENCE,
    )


def palapeli(name: str, title: str, author: str, sha256: str) -> Source:
    """Return a puzzle picture of Palapeli; only the ones in the public domain."""
    return Source(
        package="palapeli-data",
        version="4:22.12.3-1",
        file=f"usr/share/palapeli/collection/{name}",
        sha256=sha256,
        title=title,
        author=author,
        license="public domain",
        license_evidence=PALAPELI_EVIDENCE,
    )


def scikit_image(name: str, title: str, author: str, sha256: str) -> Source:
    """Return one of scikit-image's pictures."""
    return Source(
        package="scikit-image",
        version="0.26.0",
        file=f"skimage/data/{name}",
        sha256=sha256,
        title=title,
        author=author,
        license="CC0-1.0",
        license_evidence=SCIKIT_IMAGE_EVIDENCE,
    )
