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

from analysis.figures.style import paper

WITHOUT_QUOTES = arrow_csv.WriteOptions(quoting_style="needed", quoting_header="none")
COLORS = 256  # lines, bands and letters need no more, and a palette makes the files a third as large
EXACT = 64  # of them are the most frequent colours as they are


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
    info, buffer = PngInfo(), BytesIO()
    info.add_text("Description", about)
    with_palette(pixels).save(buffer, format="png", dpi=(dpi, dpi), pnginfo=info, optimize=True)
    return buffer.getvalue()


def with_palette(image: Image.Image) -> Image.Image:
    """The image in 256 colours: the most frequent ones as they are, the others by those that come nearest to each.

    A palette by frequency alone (median cut) has thin lines off by 75 of 255, one by nearness alone tints grey bands.
    """
    pixels = np.asarray(image)
    codes = pixels.astype(np.uint32) @ np.array([1 << 16, 1 << 8, 1], dtype=np.uint32)
    _, first, inverse, counts = np.unique(codes, return_index=True, return_inverse=True, return_counts=True)
    colors = pixels.reshape(-1, 3)[first]
    order = np.argsort(-counts, kind="stable")
    often, rest = order[:EXACT], order[EXACT:]
    place, palette = np.empty(len(colors), dtype=np.uint8), colors[often].tobytes()
    place[often] = np.arange(len(often))
    if len(rest):
        strip = Image.fromarray(colors[rest][np.newaxis])
        strip = strip.quantize(COLORS - EXACT, method=Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
        place[rest] = np.asarray(strip)[0] + EXACT
        palette += bytes(strip.getpalette() or [])
    indexed = Image.frombytes("P", image.size, place[inverse].tobytes())
    indexed.putpalette(palette)
    return indexed


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
