"""The files of a report, byte for byte the same for the same records: PNG, PDF, CSV, texts, and report.json."""

import json
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from functools import partial
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
from analysis.figures.style import PAGE_WIDTH, WIDTHS, paper
from analysis.records.provenance import Source
from analysis.report.forked import CORES, Forked
from analysis.report.manifest import write_manifest
from analysis.report.page import Shown

COLORS, EXACT = 256, 64  # of a PNG: lines, bands and letters need no more; the most frequent ones stay as they are
PAGE_COLORS, PAGE_EXACT, PAGE_DPI = 48, 24, 110  # of an image inside the page, which has to be sent by mail


@dataclass(frozen=True)
class Asked:
    """What a report was asked for: the folders, how they were spelled, and the axis of training.

    name: of the study, where it is not its folder's, as when a report is verified elsewhere. width: one of WIDTHS.
    """

    folders: tuple[Path, ...]
    given: str
    axis: str = "steps"
    name: str = ""
    width: str = "double"

    @property
    def spelled(self) -> str:
        """Folders and flags as a command has them."""
        axis = "" if self.axis == "steps" else f" --axis {self.axis}"
        width = "" if self.width == "double" else f" --width {self.width}"
        return f"{self.given}{axis}{width}"

    @property
    def options(self) -> dict[str, Any]:
        """What report.json keeps of it."""
        return {"axis": self.axis, "name": self.name}


def write_figures(wanted: Iterable[Figure], output: Path, source: Source) -> list[Shown]:
    """Write each figure and its tables into output/figures, and hand back what a page needs of them.

    Each is built here and saved in a process of its own, as many at a time as there are cores.
    """
    folder = output / "figures"
    folder.mkdir(parents=True, exist_ok=True)
    shown, begun = list[Shown](), deque[tuple[tuple[str, str, str, str, str, list[str]], Forked]]()
    with ExitStack() as stack:
        for item in wanted:
            if len(begun) == CORES:
                words, image = begun.popleft()
                shown.append(Shown(*words, image.result()))
            save = partial(save_figure, item.drawing, folder, item.name, source.about(item.name))
            image = stack.enter_context(closing(Forked(save)))
            tables = tables_of(item)
            for name, text in tables.items():
                (folder / name).write_text(text, encoding="utf-8")
            begun.append(((item.name, item.title, item.caption, item.details, item.alt, list(tables)), image))
        return [*shown, *(Shown(*words, image.result()) for words, image in begun)]


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
    """Write NAME.png and NAME.pdf into the folder, each carrying `about` inside; the page's image is handed back."""
    image = png(drawing, about)
    # The layout stands now; to lay it out again for the PDF would take as long as drawing it.
    drawing.set_layout_engine("none")
    (folder / f"{name}.png").write_bytes(image)
    none = dict.fromkeys(("CreationDate", "Creator", "Producer"))
    with paper():
        drawing.savefig(folder / f"{name}.pdf", format="pdf", metadata={**none, "Subject": about})
    return webp(drawing)


@paper()
def png(drawing: Drawing, about: str) -> bytes:
    """The drawing as a PNG with a palette, and where it comes from as its description."""
    dpi = float(rcParams["savefig.dpi"]) * WIDTHS["double"] / PAGE_WIDTH.get()
    info, buffer = PngInfo(), BytesIO()
    info.add_text("Description", about)
    image = with_palette(pixels(drawing, dpi))
    image.save(buffer, format="png", dpi=(dpi, dpi), pnginfo=info)
    return buffer.getvalue()


@paper()
def webp(drawing: Drawing) -> bytes:
    """The drawing as a page holds it: lossless WebP of few colours, a third of the PNG's size."""
    buffer = BytesIO()
    image = with_palette(pixels(drawing, PAGE_DPI), PAGE_COLORS, PAGE_EXACT)
    image.convert("RGB").save(buffer, format="webp", lossless=True, quality=100, method=4)
    return buffer.getvalue()


def pixels(drawing: Drawing, dpi: float) -> Image.Image:
    """The drawing with so many pixels to an inch."""
    drawing.set_dpi(dpi)
    canvas = FigureCanvasAgg(drawing)
    canvas.draw()
    return Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")


def with_palette(image: Image.Image, count: int = COLORS, exact: int = EXACT) -> Image.Image:
    """The image in `count` colours: `exact` most frequent ones as they are, the others by what comes nearest to each.

    A palette by frequency alone (median cut) has thin lines off by 75 of 255, one by nearness alone tints grey bands.
    """
    own = np.asarray(image).reshape(-1, 3)
    codes = (own[:, 0].astype(np.int32) << 16) | (own[:, 1].astype(np.int32) << 8) | own[:, 2]
    inverse, known = pd.factorize(codes, sort=True)  # by hashing: np.unique would sort every pixel
    colors = np.stack([known >> 16, known >> 8 & 255, known & 255], axis=1).astype(np.uint8)
    order = np.argsort(-np.bincount(inverse), kind="stable")
    palette, rest = colors[order[:exact]], order[exact:]
    if len(rest):
        strip = Image.fromarray(colors[rest][np.newaxis])
        method, none = Image.Quantize.MAXCOVERAGE, Image.Dither.NONE
        found = strip.quantize(count - exact, method=method, dither=none, kmeans=4).getpalette() or []
        palette = np.vstack([palette, np.array(found, dtype=np.uint8).reshape(-1, 3)])
    # The nearest by |p|^2 - 2cp, whose terms float32 holds exactly.
    ours, theirs = colors.astype(np.float32), palette.astype(np.float32)
    place = ((theirs**2).sum(axis=1) - 2 * ours @ theirs.T).argmin(axis=1).astype(np.uint8)
    indexed = Image.frombytes("P", image.size, place[inverse].tobytes())
    indexed.putpalette(palette.tobytes())
    return indexed


def tables_of(item: Figure) -> dict[str, str]:
    """The data behind a figure as NAME_<part>.csv, numbers to ten digits."""
    return {
        f"{item.name}_{part}.csv": table.to_csv(index=False, float_format="%.10g")
        for part, table in item.tables.items()
    }
