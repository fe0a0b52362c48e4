"""The files of a report, byte for byte the same for the same records: PNG, PDF, CSV, texts, and report.json."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import rcParams
from matplotlib.backends.backend_agg import FigureCanvasAgg
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from analysis.figures.canvas import Drawing
from analysis.figures.figure import Figure
from analysis.figures.style import paper
from analysis.records.provenance import Source
from analysis.report.manifest import write_manifest
from analysis.report.page import MOST_CSV_BYTES, Shown

COLORS = 256  # lines, bands and letters need no more, and a palette makes the files a third as large
EXACT = 64  # of them are the most frequent colours as they are


@dataclass(frozen=True)
class Asked:
    """What a report was asked for: the folders, how they were spelled, and the axis of training.

    name: of the study, where it is not its folder's, as when a report is made again elsewhere.
    """

    folders: tuple[Path, ...]
    given: str
    axis: str = "steps"
    name: str = ""

    @property
    def spelled(self) -> str:
        """Folders and flags as a command has them."""
        axis = "" if self.axis == "steps" else f" --axis {self.axis}"
        return f"{self.given}{axis}"

    @property
    def options(self) -> dict[str, Any]:
        """What report.json keeps of it."""
        return {"given": self.given, "axis": self.axis, "name": self.name}


def write_figures(wanted: Iterable[Figure], output: Path, source: Source) -> list[Shown]:
    """Write each figure and its tables into output/figures, one at a time, and hand back what a page needs of them."""
    folder = output / "figures"
    folder.mkdir(parents=True, exist_ok=True)
    shown = []
    for item in wanted:
        tables = save_tables(item.tables, folder, item.name)
        kept = {path.name: path.read_bytes() if path.stat().st_size <= MOST_CSV_BYTES else None for path in tables}
        image = save_figure(item.drawing, folder, item.name, source.about(item.name))
        shown.append(Shown(item.name, item.title, item.caption, item.details, item.alt, image, kept))
    return shown


def write_files(texts: Mapping[str, str], shown: Sequence[Shown], output: Path, asked: Asked) -> None:
    """Write the texts by name, and report.json over them and the figures."""
    for name, text in texts.items():
        (output / name).parent.mkdir(parents=True, exist_ok=True)
        (output / name).write_text(text, encoding="utf-8")
    written = [output / name for name in texts]
    for item in shown:
        written += [output / "figures" / name for name in (f"{item.name}.png", f"{item.name}.pdf", *item.tables)]
    write_manifest(output, asked.folders, asked.options, written)


def json_text(content: Mapping[str, Any]) -> str:
    """The content as a JSON file has it, numpy's numbers as JSON's."""
    return json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False, default=lambda value: value.item()) + "\n"


def save_figure(drawing: Drawing, folder: Path, name: str, about: str) -> bytes:
    """Write NAME.png and NAME.pdf into the folder, each carrying `about` inside; the PNG's bytes are handed back."""
    image = png(drawing, about)
    # The layout stands now; to lay it out again for the PDF would take as long as drawing it.
    drawing.set_layout_engine("none")
    (folder / f"{name}.png").write_bytes(image)
    none = dict.fromkeys(("CreationDate", "Creator", "Producer"))
    with paper():
        drawing.savefig(folder / f"{name}.pdf", format="pdf", metadata={**none, "Subject": about})
    return image


@paper()
def png(drawing: Drawing, about: str) -> bytes:
    """The drawing as a PNG with a palette, and where it comes from as its description."""
    dpi = float(rcParams["savefig.dpi"])
    drawing.set_dpi(dpi)
    canvas = FigureCanvasAgg(drawing)
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
    paths = {folder / f"{name}_{part}.csv": table for part, table in tables.items()}
    for path, table in paths.items():
        table.to_csv(path, index=False, float_format="%.10g")
    return list(paths)
