"""A fitted forest as plain arrays, read and evaluated with numpy alone.

scikit-learn fits the trees; labelling needs only their nodes. Keeping those as arrays makes
``classify`` start without scikit-learn, gives the same bits whatever its version, and leaves
nothing in the file that could be code.
"""

from __future__ import annotations

import hashlib
import io
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llmflow.arrays import F64, Bool
from llmflow.errors import ModelError

_ROWS = 4096  # rows evaluated at once: bounds memory at rows x trees
_LEAF = -1


@dataclass(frozen=True, slots=True)
class Forest:
    """Trees for one probability, node by node, the children behind their parent.

    Parameters
    ----------
    roots : ndarray of int32, shape (trees,)
    feature : ndarray of int32, shape (nodes,)
        Column a node asks about, -1 in leaves.
    threshold : ndarray of float64, shape (nodes,)
        Values at most this go left.
    left, right : ndarray of int32, shape (nodes,)
        Children; in leaves the node itself.
    null_left : ndarray of bool, shape (nodes,)
        Whether nulls go left.
    value : ndarray of float64, shape (nodes,)
        Probability of the positive class in the node's training rows.
    """

    roots: NDArray[np.int32]
    feature: NDArray[np.int32]
    threshold: F64
    left: NDArray[np.int32]
    right: NDArray[np.int32]
    null_left: Bool
    value: F64

    @classmethod
    def compile(cls, estimator: Any) -> Forest:  # noqa: ANN401 - scikit-learn is not typed
        """Take the nodes out of a fitted scikit-learn forest of two classes."""
        trees = [member.tree_ for member in estimator.estimators_]
        sizes = np.array([tree.node_count for tree in trees])
        roots = np.cumsum(sizes) - sizes
        parts: list[list[NDArray[Any]]] = []
        for root, tree in zip(roots, trees, strict=True):
            leaf = tree.children_left < 0
            itself = np.arange(tree.node_count)
            weights = tree.value[:, 0, :]
            parts.append(
                [
                    np.where(leaf, _LEAF, tree.feature),
                    np.where(leaf, 0.0, tree.threshold),
                    root + np.where(leaf, itself, tree.children_left),
                    root + np.where(leaf, itself, tree.children_right),
                    tree.missing_go_to_left.astype(np.bool_),
                    weights[:, 1] / weights.sum(axis=1),
                ]
            )
        columns = [np.concatenate(column) for column in zip(*parts, strict=True)]
        feature, threshold, left, right, null_left, value = columns
        small = [array.astype(np.int32) for array in (roots, feature, left, right)]
        return cls(small[0], small[1], threshold, small[2], small[3], null_left, value)

    def probability(self, values: F64) -> F64:
        """Mean over the trees of the positive class's share in each row's leaf.

        Parameters
        ----------
        values : ndarray of float64, shape (rows, features)
            NaN is null.

        Returns
        -------
        ndarray of float64, shape (rows,)
        """
        out = np.empty(len(values))
        single = values.astype(np.float32)  # as scikit-learn compares
        for start in range(0, len(values), _ROWS):
            block = single[start : start + _ROWS]
            row = np.arange(len(block))[:, None]
            node = np.broadcast_to(self.roots, (len(block), len(self.roots))).copy()
            while True:
                asked = self.feature[node]
                inner = asked >= 0
                if not inner.any():
                    break
                given = block[row, np.maximum(asked, 0)]
                left = np.where(
                    np.isnan(given), self.null_left[node], given <= self.threshold[node]
                )
                node = np.where(left, self.left[node], self.right[node])
            out[start : start + len(block)] = self.value[node].mean(axis=1)
        return out

    def to_bytes(self) -> bytes:
        """The arrays as a compressed ``.npz``."""
        buffer = io.BytesIO()
        np.savez_compressed(buffer, allow_pickle=False, **self._arrays())
        return buffer.getvalue()

    def digest(self) -> str:
        """SHA-256 of the arrays, however they are compressed."""
        state = hashlib.sha256()
        for array in self._arrays().values():
            state.update(np.ascontiguousarray(array).tobytes())
        return state.hexdigest()

    def _arrays(self) -> dict[str, NDArray[Any]]:
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @classmethod
    def from_bytes(cls, data: bytes, *, features: int, where: str) -> Forest:
        """Read and check arrays from an untrusted file.

        Raises
        ------
        ModelError
            Not an ``.npz`` of these arrays, or nodes that contradict each other.
        """
        try:
            with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
                forest = cls(*(arrays[field.name] for field in fields(cls)))
        except (ValueError, KeyError, OSError, EOFError, NotImplementedError) as error:
            raise ModelError(f"the trees cannot be read ({error})", where=where) from None
        forest._check(features, where)
        return forest

    def _check(self, features: int, where: str) -> None:
        n = len(self.feature)
        kinds = [np.int32, np.int32, np.float64, np.int32, np.int32, np.bool_, np.float64]
        node = np.arange(n)
        leaf = self.feature == _LEAF
        columns = list(self._arrays().values())
        sound = (
            all(c.ndim == 1 and c.dtype == kind for c, kind in zip(columns, kinds, strict=True))
            and all(len(c) == n for c in columns[1:])
            and len(self.roots) > 0
            and bool(((self.roots >= 0) & (self.roots < n)).all())
            and bool(((self.feature >= _LEAF) & (self.feature < features)).all())
            # Children lie behind their parent, so every walk ends.
            and all(
                bool(np.where(leaf, c == node, (c > node) & (c < n)).all())
                for c in (self.left, self.right)
            )
            and bool(np.isfinite(self.threshold).all())
            and bool(((self.value >= 0) & (self.value <= 1)).all())
        )
        if not sound:
            raise ModelError("the trees contradict themselves", where=where, hint="train it again")
