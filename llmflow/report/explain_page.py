"""One flow as a page: a single HTML file without scripts that asks nothing from anywhere."""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from html import escape
from typing import IO

from llmflow.features.extract import MODEL_FEATURES
from llmflow.learn.model import LABELS
from llmflow.report.explain_plot import LABEL_COLOURS, draw_flow
from llmflow.report.explained import TURN_COLUMNS, Explained, turn_cell

PAGE = ".html"
_WIDE, _NARROW = 8.0, 4.0  # inches of the two pictures; a phone gets the narrow one
# Nothing may be loaded, and no script may run, whatever the page holds.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
_MEANING = (
    "Moved: by how much the probability changes where the trees ask about the feature, on the way "
    "from root to leaf; mean over all trees and the windows shown. It tells how this model came to "
    "its score, not what another value would have done."
)
_STYLE = """
body { font: 16px/1.5 sans-serif; color: #222; max-width: 60rem; margin: auto; padding: 1rem }
h1 { font-size: 1.3rem; overflow-wrap: anywhere } h2 { font-size: 1.1rem; margin-top: 2rem }
p { overflow-wrap: anywhere }
svg { width: 100%; height: auto }
.narrow { display: none }
@media (max-width: 40rem) { .wide { display: none } .narrow { display: block } }
.table { overflow-x: auto }
table { border-collapse: collapse; font-size: 0.9rem; font-variant-numeric: tabular-nums }
th, td { padding: 0.2rem 0.6rem; text-align: right; vertical-align: top; white-space: nowrap;
  border-bottom: 1px solid #ddd }
th:first-child, td:first-child, .text { text-align: left }
.prose { text-align: left; white-space: normal; min-width: 16rem }
small { color: #555; font-weight: normal }
"""


def write_page(told: Explained, captures: Sequence[str], sink: IO[bytes]) -> None:
    """Write a page with the picture, the turns, and the features of the best turn.

    Parameters
    ----------
    told : Explained
    captures : sequence of str
        Names of the captures; escaped like all other text.
    sink : binary file
    """
    colours = "".join(
        f".{label} {{ border-left: 0.5rem solid {LABEL_COLOURS[label]} }}\n" for label in LABELS
    )
    facts = [told.protocol, told.names, told.verdict, told.volume]
    parts = [
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">',
        f"<title>{escape(told.title)}</title><style>{_STYLE}{colours}</style></head><body>",
        f"<h1>{escape(told.title)}</h1>",
        f"<p>{'<br>'.join(map(escape, filter(None, facts)))}</p>",
        f'<div class="wide">{_svg(told, _WIDE)}</div>',
        f'<div class="narrow">{_svg(told, _NARROW)}</div>',
        "<h2>Turns</h2>",
        _turns(told) if told.turns else "<p>None: the server sent no data.</p>",
        "<h2>What moved the score</h2>",
        f"<p>{escape(told.sum_text())}.</p>",
        f"<p><small>{_MEANING}</small></p>\n{_features(told)}" if told.moved else "",
        f"<p><small>Model {escape(told.model_id)}. From {escape(', '.join(captures))}.</small></p>",
        "</body></html>\n",
    ]
    sink.write("\n".join(parts).encode("utf-8", "replace"))


def _svg(told: Explained, width: float) -> str:
    """The picture, without what stands in front of it in a file of its own."""
    drawn = io.BytesIO()
    draw_flow(told, drawn, "svg", width, titled=False)
    text = drawn.getvalue().decode()
    return text[text.index("<svg") :]


def _table(headings: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A table; its cells are markup already."""
    lines = ['<div class="table"><table>', f"<tr>{''.join(headings)}</tr>"]
    lines += [f"<tr>{''.join(cells)}</tr>" for cells in rows]
    return "\n".join([*lines, "</table></div>"])


def _turns(told: Explained) -> str:
    headings = [
        f"<th>{escape(name)}{f'<br><small>{unit}</small>' if unit else ''}</th>"
        for name, unit, _, _ in TURN_COLUMNS
    ]
    rows = []
    for turn in told.turns:
        cells = [escape(turn_cell(turn, key, digits)) for _, _, key, digits in TURN_COLUMNS]
        first = f'<td class="{escape(turn["label"])}">{cells[0]}</td>'
        rows.append([first, *(f"<td>{cell}</td>" for cell in cells[1:])])
    return _table(headings, rows)


def _features(told: Explained) -> str:
    scales = [
        f"<th>{escape(name)}<br><small>{first:.1f} to {last:.1f} s</small></th>"
        for name, first, last in told.windows
    ]
    headings = ["<th>feature</th>", "<th>moved</th>", *scales, "<th>unit</th>",
                '<th class="prose">formula</th>']  # fmt: skip
    rows = [
        [
            f"<td>{escape(name)}</td>",
            f"<td>{moved:+.3f}</td>",
            *(f"<td>{value}</td>" for value in values),
            f"<td>{escape(unit)}</td>",
            f'<td class="prose">{escape(MODEL_FEATURES[name].formula)}</td>',
        ]
        for name, unit, values, moved in told.feature_rows()
    ]
    return _table(headings, rows)
