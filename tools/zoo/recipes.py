"""Which photographs the zoo holds and what is done to each.

Facts only; whose the originals are is in ``sources``.
"""

from dataclasses import dataclass

from .sources import Source, budgie, lomiri, palapeli, scikit_image

__all__ = ["PHOTOGRAPHS", "Recipe"]


@dataclass(frozen=True, slots=True)
class Recipe:
    """How one photograph is made from its source.

    Without crop, size and quality the file is copied untouched. A size is never larger than the
    crop. ``expected_labels`` are the ImageNet labels (first synonym) that a person would accept;
    none if ImageNet has no class for the subject.
    """

    file: str
    source: Source
    use: str
    expected_labels: tuple[str, ...]
    crop_px: tuple[int, int, int, int] | None = None
    size_px: tuple[int, int] | None = None
    quality: int | None = None


PHOTOGRAPHS: tuple[Recipe, ...] = (
    Recipe(
        "alpine-lake.jpg",
        budgie(
            "lake-sherburne.jpg",
            "Lake Sherburne",
            "85881b53de866a521bd806b481d444b7c3a45eee773eefdffaad46e7fb968470",
        ),
        use="request",
        expected_labels=("alp", "lakeside"),
        crop_px=(300, 0, 2900, 1560),
        size_px=(1280, 768),
        quality=75,
    ),
    Recipe(
        "bee.jpg",
        palapeli(
            "european-honey-bee.jpg",
            "European Honey Bee",
            "John Severns",
            "9d54ae706bddd899c91b2b801d9ca4556a5a9a399b4043f9d539df62a8cb7f27",
        ),
        use="request",
        expected_labels=("bee",),
    ),
    Recipe(
        "bridge.jpg",
        palapeli(
            "cincinnati-bridge.jpg",
            "Roebling Suspension Bridge in Cincinnati",
            "Derek Jensen",
            "09772d09318b34a5c5edd58ee86ff462bcd2907006f31cc8e0704310f8e9ab60",
        ),
        use="request",
        expected_labels=("suspension bridge",),
    ),
    Recipe(
        "cat.jpg",
        scikit_image(
            "chelsea.png",
            "Chelsea the cat",
            "Stefan van der Walt",
            "596aa1e7cb875eb79f437e310381d26b338a81c2da23439704a73c4651e8c4bb",
        ),
        use="request",
        expected_labels=("Egyptian cat", "tabby", "tiger cat"),
        quality=97,
    ),
    Recipe(
        "creek.jpg",
        lomiri(
            "life_by_Aitzol_Berasategi.jpg",
            "Life",
            "Aitzol Berasategi",
            "4c119350ead80201fe256850c3d316309ddfb4bdf10b235ce982dcde0c667c05",
        ),
        use="request",
        expected_labels=("valley",),
        size_px=(1280, 852),
        quality=80,
    ),
    Recipe(
        "drum.jpg",
        lomiri(
            "Wine_by_Jakkub_Mede.jpg",
            "Wine",
            "Jakub Mede",
            "d2e96e6d4da40dd804b3d0ce295e94de04a2d7d9b6785d42cd9d92ba58bced74",
        ),
        use="request",
        expected_labels=("drum",),
        size_px=(1600, 2398),
        quality=80,
    ),
    Recipe(
        "espresso.jpg",
        scikit_image(
            "coffee.png",
            "Coffee cup, courtesy of Pikolo Espresso Bar",
            "Rachel Michetti",
            "cc02f8ca188b167c775a7101b5d767d1e71792cf762c33d6fa15a4599b5a8de7",
        ),
        use="request",
        expected_labels=("espresso", "cup"),
        quality=95,
    ),
    Recipe(
        "fig.jpg",
        lomiri(
            "Picture_0B_by_freespace.jpg",
            "Picture 0B",
            'Trevor "Freespace"',
            "c8c0ab18e48d9e0419fe42881112137f3afafc27dfddc29ec3a6d54c56d225ad",
        ),
        use="request",
        expected_labels=("fig",),
        crop_px=(900, 400, 2100, 1500),
        quality=75,
    ),
    Recipe(
        "heron.jpg",
        budgie(
            "pondering-heron.jxl",
            "Pondering Heron",
            "f08942d8353aafb1d72144a2b6eb8dba2084726ad2ab7a5a6d558e38112833be",
        ),
        use="calibration",
        expected_labels=("bittern", "little blue heron"),
        crop_px=(1200, 400, 2800, 1700),
        size_px=(1280, 1040),
        quality=80,
    ),
    Recipe(
        "lemons.jpg",
        palapeli(
            "citrus-fruits.jpg",
            "Citrus Fruits",
            "US Department of Agriculture",
            "0cbd7154a14789803167c86705130d0358875198231269df168ea26224e70848",
        ),
        use="request",
        expected_labels=("lemon", "orange"),
    ),
    Recipe(
        "mountain-path.jpg",
        lomiri(
            "picosdeeuropa_by_Aitzol_Berasategi.jpg",
            "Picos de Europa",
            "Aitzol Berasategi",
            "414d0072b2f6f2c555deafeaef6e45c4fed6fa9ad26eba6560ca8803959cf97a",
        ),
        use="request",
        expected_labels=("alp", "valley"),
        size_px=(1280, 960),
        quality=85,
    ),
    Recipe(
        "osprey.jpg",
        budgie(
            "perched-osprey.jpg",
            "Perched Osprey",
            "d57e8d13c898c8abdf99a6429868e02935c4bb23993dfbb1a190136ee396a179",
        ),
        use="calibration",
        expected_labels=("kite", "bald eagle"),
        crop_px=(300, 0, 2860, 1920),
        size_px=(2048, 1536),
        quality=75,
    ),
    Recipe(
        "otter-8mp.jpg",
        budgie(
            "oakland-zoo-otters.jpg",
            "Oakland Zoo Otters",
            "b7540dd5c076b5b30c37bb9b7c991789d2cd30a9fc6a3205c8896bb5f8b75dbc",
        ),
        use="request",
        expected_labels=("otter",),
    ),
    Recipe(
        "paintbrushes.jpg",
        lomiri(
            "Picture_1A_by_freespace.jpg",
            "Picture 1A",
            'Trevor "Freespace"',
            "89e86af38d04daaef975665dc2127e9fa76f0fd68f4eea105a2d0ae3390b010b",
        ),
        use="calibration",
        expected_labels=("paintbrush",),
        quality=85,
    ),
    Recipe(
        "seeding-16mp.jpg",
        lomiri(
            "seeding_by_Clements_Engelhardt.jpg",
            "Seeding",
            "Clemens Engelhardt",
            "a5634d1ab5e41a3568e92d4a894a500c92b891f9ff734e50bd224d6e185a605f",
            cc0=True,
        ),
        use="request",
        expected_labels=(),
    ),
    Recipe(
        "spaniels.jpg",
        lomiri(
            "friends_by_Aitzol_Berasategi.jpg",
            "Friends",
            "Aitzol Berasategi",
            "cc40e313c74e421edffe3403def413c16878ce14661cce7ec5915baeab35538d",
        ),
        use="request",
        expected_labels=("cocker spaniel",),
        crop_px=(380, 560, 1660, 2160),
        quality=75,
    ),
    Recipe(
        "tea-gardens.jpg",
        budgie(
            "tea-gardens.jpg",
            "Amidst the Tea Gardens",
            "1d7377e9903b29a3e983f1184a3112e50a6b45e65382c491f5c02e20e2861e20",
        ),
        use="calibration",
        expected_labels=("valley",),
        size_px=(1280, 853),
        quality=75,
    ),
)
"""The zoo's photographs, by file name. No two of them come from the same original."""
