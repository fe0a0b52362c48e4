"""Figures and tables -> PNG, PDF and CSV, byte for byte the same for the same records: no dates, no versions."""

from collections.abc import Mapping
from io import BytesIO
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
from matplotlib import rcParams
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from pyarrow import csv as arrow_csv

from analysis.style import paper

WITHOUT_QUOTES = arrow_csv.WriteOptions(quoting_style="needed", quoting_header="none")
COLORS = 256  # lines, bands and letters need no more, and a palette makes the files a third as large


def save_figure(figure: Figure, folder: Path, name: str, about: str) -> bytes:
    """Write NAME.png and NAME.pdf into the folder, each carrying `about` inside; the PNG's bytes are handed back."""
    image = png(figure, about)
    # The layout stands now; to lay it out again for the PDF would take as long as drawing it.
    figure.set_layout_engine("none")
    (folder / f"{name}.png").write_bytes(image)
    none = dict.fromkeys(("CreationDate", "Creator", "Producer"))
    with paper():
        figure.savefig(folder / f"{name}.pdf", format="pdf", metadata={**none, "Subject": about})
    return image


@paper()
def png(figure: Figure, about: str) -> bytes:
    """The figure as a PNG with a palette, and where it comes from as its description."""
    dpi = float(rcParams["savefig.dpi"])
    figure.set_dpi(dpi)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    pixels = Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")
    palette = pixels.quantize(COLORS, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
    info, buffer = PngInfo(), BytesIO()
    info.add_text("Description", about)
    palette.save(buffer, format="png", dpi=(dpi, dpi), pnginfo=info, optimize=True)
    return buffer.getvalue()


def save_tables(tables: Mapping[str, pd.DataFrame], folder: Path, name: str) -> list[Path]:
    """Write NAME_<part>.csv for each part of the data behind a figure, numbers to ten digits."""
    written = []
    for part, table in tables.items():
        path = folder / f"{name}_{part}.csv"
        arrow = pa.Table.from_pandas(table.apply(_ten_digits), preserve_index=False)
        arrow_csv.write_csv(arrow.replace_schema_metadata(), path, WITHOUT_QUOTES)
        written.append(path)
    return written


def _ten_digits(column: pd.Series) -> pd.Series:
    if not pd.api.types.is_float_dtype(column):
        return column.astype(str).where(column.notna(), None) if column.dtype == object else column
    values = column.to_numpy(float)
    with np.errstate(divide="ignore", invalid="ignore"):
        scale = 10.0 ** (9 - np.floor(np.log10(np.abs(values))))
        rounded = np.where(np.isfinite(scale) & (scale > 0), np.round(values * scale) / scale, values)
    return pd.Series(rounded, index=column.index)
