"""The web site of the first article: three directories of Spark, in a size of one's own choice, of random bytes."""

from __future__ import annotations

import os
from pathlib import Path

MIB = 1 << 20
# Sizes in MiB. Of 3.3.1 as printed; of the others so that all are 3.41 GiB, of which 3.3.1 are 38.4 %.
_LATEST: dict[str, float] = {
    "SparkR_3.3.1.tar.gz": 348 / 1024,
    "pyspark-3.3.1.tar.gz": 269,
    "spark-3.3.1-bin-hadoop2.tgz": 262,
    "spark-3.3.1-bin-hadoop3-scala2.13.tgz": 293,
    "spark-3.3.1-bin-hadoop3.tgz": 286,
    "spark-3.3.1-bin-without-hadoop.tgz": 201,
    "spark-3.3.1.tgz": 28,
}
_OLDER = (215, 216, 225, 226, 165, 27)
SITE: dict[str, dict[str, float]] = {
    "spark-3.1.3": {f"part-{number}.tgz": size for number, size in enumerate(_OLDER)},
    "spark-3.2.3": {f"part-{number}.tgz": size for number, size in enumerate((*_OLDER[:5], 26, 1))},
    "spark-3.3.1": _LATEST,
}
LATEST = "spark-3.3.1"


def make_site(root: Path, share: float = 1.0) -> dict[str, int]:
    """Write the files below `root`, each `share` of its printed size. Return the bytes of each directory."""
    sizes = {}
    for directory, files in SITE.items():
        (root / directory).mkdir(parents=True)
        sizes[directory] = 0
        for name, mebibytes in files.items():
            size = int(mebibytes * MIB * share)
            sizes[directory] += size
            with (root / directory / name).open("wb") as file:
                while size > 0:
                    size -= file.write(os.urandom(min(size, MIB)))
    return sizes
