"""A figure as the report shows it, with all that is said about it."""

from dataclasses import dataclass

import pandas as pd
from matplotlib.figure import Figure


@dataclass(frozen=True)
class Chart:
    """`tables` are the data it was drawn from, written as NAME_<part>.csv; `alt` tells it to whoever cannot see it."""

    name: str
    title: str
    caption: str
    figure: Figure
    tables: dict[str, pd.DataFrame]
    alt: str = ""
