"""Gemini's web page: each update repeats the answer so far.

Length lines and ``wrb.fr`` arrays as browsers show them; that updates repeat the answer was
inferred from chunks that grow during a reply (development captures: Spearman +0.7 to +0.8).
Compression shrinks the repetition, but not to nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from llmflow.lab.framing import dumps
from llmflow.lab.text import identifier


class CumulativeBlobs:
    """One streamed answer.

    Parameters
    ----------
    state : int
        Bytes of each update that are new whatever the text is.
    """

    content_type = "application/json; charset=utf-8"

    def __init__(self, rng: Random, state: int = 100) -> None:
        self._rng, self._state = rng, state
        self._ids = [identifier(rng, 16, "0123456789abcdef") for _ in range(3)]
        self._text = ""

    def _blob(self, value: object) -> bytes:
        line = dumps([["wrb.fr", None, dumps(value)]]) + "\n"
        return f"{len(line)}\n{line}".encode()

    def _answer(self, *, done: bool) -> bytes:
        conversation, response, candidate = self._ids
        ids = [f"c_{conversation}", f"r_{response}"]
        said = [f"rc_{candidate}", [self._text], None, None, None, None, True, [1 + done], "en"]
        state = identifier(self._rng, self._state)
        return self._blob([None, ids, None, None, [said], [None, state, "US"], None, done])

    def begin(self) -> list[bytes]:
        conversation, response, _ = self._ids
        return [b")]}'\n\n" + self._blob([None, [f"c_{conversation}", f"r_{response}"]])]

    def piece(self, tokens: Sequence[str]) -> bytes:
        self._text += "".join(tokens)
        return self._answer(done=False)

    def end(self) -> list[bytes]:
        return [self._answer(done=True), f'27\n[["e",5,null,null,{len(self._text):6}]]\n'.encode()]

    def idle(self) -> bytes:
        return b""
