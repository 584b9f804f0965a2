"""`python -m csi.operator.crds`: write the generated files into the checkout that this is a part of."""

from __future__ import annotations

from pathlib import Path

from csi.operator.crds.files import generated, write

write(Path(__file__).parents[3], generated())
