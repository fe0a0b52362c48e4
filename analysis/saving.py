"""Figures and tables -> PNG, PDF and CSV, byte for byte the same for the same records: no dates, no versions."""

from collections.abc import Mapping
from io import BytesIO
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from analysis.style import paper


def save_figure(figure: Figure, folder: Path, name: str) -> bytes:
    """Write NAME.png and NAME.pdf into the folder; the PNG's bytes are handed back for the report."""
    image = png(figure)
    # The layout stands now; to lay it out again for the PDF would take as long as drawing it.
    figure.set_layout_engine("none")
    (folder / f"{name}.png").write_bytes(image)
    with paper():
        figure.savefig(
            folder / f"{name}.pdf", format="pdf", metadata={"CreationDate": None, "Creator": None, "Producer": None}
        )
    return image


@paper()
def png(figure: Figure) -> bytes:
    """The figure as a PNG without matplotlib's own metadata."""
    buffer = BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()


def save_tables(tables: Mapping[str, pd.DataFrame], folder: Path, name: str) -> None:
    """Write NAME_<part>.csv for each part of the data behind a figure."""
    for part, table in tables.items():
        table.to_csv(folder / f"{name}_{part}.csv", index=False, float_format="%.10g", lineterminator="\n")
