"""Pictures of an evaluation, with matplotlib (extra ``plots``)."""

from __future__ import annotations

from pathlib import Path
from typing import IO, TYPE_CHECKING

import numpy as np

from llmflow.errors import EndingError, OutputError

if TYPE_CHECKING:
    from llmflow.learn.dataset import Connections
    from llmflow.learn.evaluate import Scores

ENDINGS = (".svg", ".png")
_BLUE, _GREY = "#1f5fa8", "#7a7a7a"


def check_plot(path: Path, endings: tuple[str, ...] = ENDINGS) -> None:
    """Say early that a picture cannot be drawn.

    Raises
    ------
    EndingError
        Unknown ending.
    OutputError
        matplotlib is not installed.
    """
    if path.suffix not in endings:
        raise EndingError(
            f"no picture format goes by the ending {path.suffix!r}",
            where=str(path),
            hint=f"end it in {' or '.join(endings)}",
        )
    try:
        import matplotlib  # noqa: F401, ICN001, PLC0415 - heavy
    except ImportError:
        raise OutputError(
            "pictures need matplotlib", where=str(path), hint="pip install 'llmflow[plots]'"
        ) from None


def draw_evaluation(connections: Connections, scores: Scores, sink: IO[bytes], form: str) -> None:
    """Draw precision over recall, and how the scores of the classes are distributed."""
    import matplotlib as mpl  # noqa: PLC0415 - heavy
    from matplotlib.figure import Figure  # noqa: PLC0415 - heavy
    from sklearn.metrics import precision_recall_curve  # noqa: PLC0415 - heavy

    mpl.rcParams["svg.hashsalt"] = "llmflow"  # same input, same bytes
    figure = Figure(figsize=(9, 3.8), layout="constrained")
    left, right = figure.subplots(1, 2)
    for rows, name, colour in (
        (np.ones(len(connections), np.bool_), "all connections", _BLUE),
        (connections.positive | connections.decidable, "streams and decidable others", _GREY),
    ):
        if not connections.positive[rows].any():
            continue
        precision, recall, _ = precision_recall_curve(
            connections.positive[rows], scores.score[rows]
        )
        left.step(recall, precision, where="post", label=name, color=colour)
    left.set(xlabel="recall", ylabel="precision", xlim=(0, 1.02), ylim=(0, 1.02))
    if connections.positive.any():
        left.legend(frameon=False, loc="lower left")

    edges = np.linspace(0, 1, 41)
    for rows, name, colour in (
        (connections.positive & scores.asked, "LLM streams", _BLUE),
        (~connections.positive & scores.asked, "others the model was asked about", _GREY),
    ):
        right.hist(
            scores.score[rows], edges, label=f"{name} ({int(rows.sum())})", color=colour, alpha=0.7
        )
    right.set(xlabel="calibrated score", ylabel="connections", yscale="log", xlim=(0, 1))
    right.set_ylim(bottom=0.7)
    right.legend(frameon=False)
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(sink, format=form, dpi=150, metadata={"Date": None} if form == "svg" else {})
