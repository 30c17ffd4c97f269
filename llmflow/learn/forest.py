"""A fitted forest as plain arrays, read and evaluated with numpy alone.

scikit-learn fits the trees; labelling needs only their nodes. Keeping those as arrays makes
``classify`` start without scikit-learn, gives the same bits whatever its version, and leaves
nothing in the file that could be code.
"""

from __future__ import annotations

import hashlib
import io
import itertools
import zipfile
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llmflow.arrays import F64
from llmflow.errors import ModelError

_MOST_BYTES = 1 << 28  # unpacked
_THIN_OUT = 4  # levels after which rows that have reached a leaf are dropped
_ROWS = 8192  # rows evaluated at once: bounds memory, and keeps them in cache


@dataclass(frozen=True, slots=True)
class Forest:
    """Trees for one probability, as arrays over all nodes.

    The children of a node are neighbours and lie behind it, so a step of a walk is
    ``node = left[node] + not (value <= threshold[node])`` and every walk ends. A leaf is its own
    left child with an infinite threshold, so walks need no test for it.

    Parameters
    ----------
    roots : ndarray of int32, shape (trees + 1,)
        First node of each tree, and the number of all nodes.
    column : ndarray of int32, shape (nodes,)
        Feature a node asks about; plus the number of features where nulls go right.
    threshold : ndarray of float64, shape (nodes,)
        Values at most this go left, others and NaN go right.
    left : ndarray of int32, shape (nodes,)
        Left child, counted from the tree's root.
    value : ndarray of float64, shape (nodes,)
        Probability of the positive class in the node's training rows.
    """

    roots: NDArray[np.int32]
    column: NDArray[np.int32]
    threshold: F64
    left: NDArray[np.int32]
    value: F64

    @classmethod
    def compile(cls, estimator: Any) -> Forest:  # noqa: ANN401 - scikit-learn is not typed
        """Take the nodes out of a fitted scikit-learn forest of two classes."""
        trees = [_lay_out(m.tree_, estimator.n_features_in_) for m in estimator.estimators_]
        sizes = [len(tree[0]) for tree in trees]
        column, threshold, left, value = zip(*trees, strict=True)
        return cls(
            np.concatenate([[0], np.cumsum(sizes)]).astype(np.int32),
            np.concatenate(column).astype(np.int32),
            np.concatenate(threshold),
            np.concatenate(left).astype(np.int32),
            np.concatenate(value),
        )

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
        out = np.zeros(len(values))
        both = _both_ways(values)
        for start in range(0, len(values), _ROWS):
            block = np.ascontiguousarray(both[start : start + _ROWS])
            for root, end in itertools.pairwise(self.roots.tolist()):
                nodes = slice(root, end)
                leaf = self._walk(block, nodes)
                out[start : start + len(block)] += self.value[nodes][leaf]
        out /= len(self.roots) - 1
        return out

    def contributions(self, values: F64) -> tuple[float, F64]:
        """What each feature adds to the probability, along the paths through the trees.

        A path begins with its root's value, and every question on it changes the value; the change
        is credited to the feature that was asked about, and the trees are averaged (A. Saabas,
        *Interpreting random forests*, 2014). For a few rows: this keeps no row in cache.

        Parameters
        ----------
        values : ndarray of float64, shape (rows, features)
            NaN is null.

        Returns
        -------
        base : float
            Mean value of the roots: the probability before any question.
        contributions : ndarray of float64, shape (rows, features)
            Each row sums to its probability less ``base``, but for rounding.
        """
        both, (count, features) = _both_ways(values), values.shape
        out = np.zeros((count, features))
        for root, end in itertools.pairwise(self.roots.tolist()):
            column, threshold = self.column[root:end], self.threshold[root:end]
            left, value = self.left[root:end], self.value[root:end]
            node = np.zeros(count, np.intp)
            while len(going := np.flatnonzero(left[node] != node)):
                at = node[going]
                node[going] = left[at] + ~(both[going, column[at]] <= threshold[at])
                out[going, column[at] % features] += value[node[going]] - value[at]
        trees = len(self.roots) - 1
        return float(self.value[self.roots[:-1]].sum() / trees), out / trees

    def _walk(self, block: NDArray[np.float32], nodes: slice) -> NDArray[np.intp]:
        """The leaf of one tree that each row of a block ends in."""
        column, left = self.column[nodes].astype(np.intp), self.left[nodes].astype(np.intp)
        threshold = self.threshold[nodes]
        flat, place = block.ravel(), np.arange(len(block)) * block.shape[1]
        node = np.zeros(len(block), np.intp)
        walking = np.arange(len(block))
        for level in itertools.count(1):
            at = node[walking]
            if level % _THIN_OUT == 0:
                going = np.flatnonzero(left[at] != at)
                at, walking = at[going], walking[going]
                if not len(walking):
                    break
            node[walking] = left[at] + ~(flat[place[walking] + column[at]] <= threshold[at])
        return node

    def to_bytes(self) -> bytes:
        """The arrays as a compressed ``.npz``."""
        buffer = io.BytesIO()
        arrays: dict[str, Any] = self._arrays()
        np.savez_compressed(buffer, **arrays)
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
            forest = cls(*unpack(data, [field.name for field in fields(cls)]))
        except Exception as error:  # noqa: BLE001 - numpy evaluates headers: any error may come
            raise ModelError(f"the trees cannot be read ({error})", where=where) from None
        if not forest._is_sound(features):
            raise ModelError("the trees contradict themselves", where=where, hint="train it again")
        return forest

    def _is_sound(self, features: int) -> bool:
        kinds = [np.int32, np.int32, np.float64, np.int32, np.float64]
        columns = list(self._arrays().values())
        if not all(c.ndim == 1 and c.dtype == k for c, k in zip(columns, kinds, strict=True)):
            return False
        n = len(self.column)
        if len(self.roots) < 2 or any(len(c) != n for c in columns[1:]):  # noqa: PLR2004
            return False
        sizes = self.roots[1:].astype(np.int64) - self.roots[:-1]
        if not (self.roots[0] == 0 and self.roots[-1] == n and (sizes > 0).all()):
            return False
        place = np.arange(n) - np.repeat(self.roots[:-1], sizes)
        leaf = (self.left == place) & np.isposinf(self.threshold)
        # Children lie behind their parent, so every walk ends.
        inner = (self.left > place) & (self.left.astype(np.int64) + 1 < np.repeat(sizes, sizes))
        return bool(
            (leaf | inner).all()
            and ((self.column >= 0) & (self.column < 2 * features)).all()
            and (~np.isnan(self.threshold)).all()
            and ((self.value >= 0) & (self.value <= 1)).all()
        )


def _both_ways(values: F64) -> NDArray[np.float32]:
    """Twice the columns: nulls below every threshold in the first half, not in the second."""
    single = values.astype(np.float32)  # as scikit-learn compares
    return np.concatenate([np.where(np.isnan(single), -np.inf, single), single], axis=1)


def unpack(data: bytes, names: list[str]) -> list[NDArray[Any]]:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        size = sum(entry.file_size for entry in archive.infolist())
    if size > _MOST_BYTES:
        raise ValueError(f"they claim {size} bytes")
    with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
        return [np.asarray(arrays[name]) for name in names]


def _lay_out(
    tree: Any,  # noqa: ANN401
    features: int,
) -> tuple[NDArray[Any], F64, NDArray[Any], F64]:
    """One scikit-learn tree with siblings side by side: column, threshold, left, value."""
    order = [np.zeros(1, np.int64)]  # old numbers, level by level
    while True:
        inner = order[-1][tree.children_left[order[-1]] >= 0]
        if not len(inner):
            break
        order.append(np.stack([tree.children_left[inner], tree.children_right[inner]], 1).ravel())
    old = np.concatenate(order)
    new = np.empty_like(old)
    new[old] = np.arange(len(old))
    leaf = tree.children_left[old] < 0
    weights = tree.value[old, 0, :]
    null_right = ~tree.missing_go_to_left[old].astype(np.bool_)
    return (
        np.where(leaf, 0, tree.feature[old] + features * null_right),
        np.where(leaf, np.inf, tree.threshold[old]),
        np.where(leaf, new[old], new[tree.children_left[old]]),
        weights[:, 1] / weights.sum(axis=1),
    )
