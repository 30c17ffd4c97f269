"""The forest as arrays: the same answers as scikit-learn, and nothing read from a file on trust."""

from __future__ import annotations

import io
import zipfile
from dataclasses import fields, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.ensemble import ExtraTreesClassifier, RandomForestClassifier

from llmflow.arrays import F64
from llmflow.errors import ModelError
from llmflow.learn.forest import Forest

FEATURES = 6
KINDS = {"extra": ExtraTreesClassifier, "random": RandomForestClassifier}
NAMES = [field.name for field in fields(Forest)]


def random_rows(rows: int, seed: int, *, nulls: float = 0.2) -> F64:
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(rows, FEATURES)) * 10.0 ** np.arange(-3, 3)
    values[:, 3] = rng.integers(0, 4, rows)  # many equal values
    values[rng.random(values.shape) < nulls] = np.nan
    return values


def fitted(kind: str, seed: int = 1, *, nulls: float = 0.2, **options: Any) -> Any:
    values = random_rows(300, seed, nulls=nulls)
    rng = np.random.default_rng(seed)
    score = np.nan_to_num(values[:, 3]) + np.isnan(values[:, 1]) + rng.normal(size=300)
    estimator = KINDS[kind](n_estimators=12, random_state=seed, n_jobs=1, **options)
    return estimator.fit(values, score > np.median(score))


def stump(**changes: Any) -> Forest:
    """A sound forest of two trees: a question with two leaves, and a leaf; then the changes."""
    sound = Forest(
        roots=np.array([0, 3, 4], np.int32),
        column=np.array([2, 0, 0, 0], np.int32),
        threshold=np.array([0.5, np.inf, np.inf, np.inf]),
        left=np.array([1, 1, 2, 0], np.int32),
        value=np.array([0.5, 0.25, 0.75, 0.5]),
    )
    arrays = {name: np.array(value) for name, value in changes.items()}
    kinds = {name: getattr(sound, name).dtype for name in changes}
    return replace(sound, **{name: array.astype(kinds[name]) for name, array in arrays.items()})


def read(data: bytes, features: int = FEATURES) -> Forest:
    return Forest.from_bytes(data, features=features, where="here")


def npz(**changes: Any) -> bytes:
    """The sound forest's file, with arrays of any type put in or (None) left out."""
    arrays = {name: getattr(stump(), name) for name in NAMES} | changes
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **{k: v for k, v in arrays.items() if v is not None})
    return buffer.getvalue()


# -- as scikit-learn -----------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("nulls", [0.0, 0.2, 0.9])
@pytest.mark.parametrize(
    "options", [{}, {"max_depth": 3}, {"class_weight": "balanced"}, {"min_samples_leaf": 20}]
)
def test_probabilities_are_those_of_scikit_learn(
    kind: str, nulls: float, options: dict[str, Any]
) -> None:
    """The arrays answer as ``predict_proba`` does, also for rows with and of nulls."""
    estimator = fitted(kind, nulls=nulls, **options)
    rows = np.concatenate([random_rows(500, 7, nulls=nulls), random_rows(200, 8, nulls=0.5)])
    if nulls == 0.0:
        rows = random_rows(500, 7, nulls=0.0)
    else:
        rows = np.concatenate([rows, np.full((1, FEATURES), np.nan)])
    expected = estimator.predict_proba(rows)[:, 1]
    np.testing.assert_allclose(Forest.compile(estimator).probability(rows), expected, atol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_values_at_a_threshold_go_where_scikit_learn_sends_them(kind: str) -> None:
    """Rows that lie on thresholds: compared in single precision, equal goes left."""
    estimator = fitted(kind)
    forest = Forest.compile(estimator)
    rng = np.random.default_rng(3)
    rows = random_rows(400, 4)
    for node in np.flatnonzero(forest.threshold < 1e30).tolist():
        rows[rng.integers(len(rows)), forest.column[node] % FEATURES] = forest.threshold[node]
    expected = estimator.predict_proba(rows)[:, 1]
    np.testing.assert_allclose(forest.probability(rows), expected, atol=1e-12)


def test_a_tree_of_one_leaf_answers() -> None:
    """Trees that ask nothing give their share to every row."""
    estimator = fitted("extra", max_depth=1, min_samples_leaf=200)
    forest = Forest.compile(estimator)
    assert len(forest.column) == len(forest.roots) - 1
    rows = random_rows(5, 2)
    np.testing.assert_allclose(forest.probability(rows), estimator.predict_proba(rows)[:, 1])


def test_blocks_do_not_show() -> None:
    """More rows than are evaluated at once, and fewer: each row's bits are its own."""
    forest = Forest.compile(fitted("extra"))
    rows = random_rows(9000, 5)
    whole = forest.probability(rows)
    for part in (slice(0, 1), slice(4090, 4100), slice(8999, 9000)):
        np.testing.assert_array_equal(forest.probability(rows[part]), whole[part])
    assert forest.probability(rows[:0]).shape == (0,)


def test_nulls_go_where_the_node_says() -> None:
    """A null follows the node's own rule; a value follows the threshold, equal goes left."""
    rows = np.zeros((4, FEATURES))
    rows[:, 2] = [0.5, 0.50001, np.nan, -3]
    assert stump().probability(rows).tolist() == [0.375, 0.625, 0.375, 0.375]
    other = stump(column=[2 + FEATURES, 0, 0, 0])
    assert other.probability(rows).tolist() == [0.375, 0.625, 0.625, 0.375]


# -- files ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("nulls", [0.0, 0.2, 0.9])
def test_what_was_written_is_read(kind: str, nulls: float) -> None:
    """Every forest that can be compiled can be written and read back, array by array."""
    forest = Forest.compile(fitted(kind, nulls=nulls))
    again = read(forest.to_bytes())
    for name in NAMES:
        before, after = getattr(forest, name), getattr(again, name)
        assert before.dtype == after.dtype
        np.testing.assert_array_equal(before, after)
    assert again.digest() == forest.digest()
    assert again.to_bytes() == forest.to_bytes()


def test_the_digest_is_of_the_arrays() -> None:
    """The digest ignores how the file was compressed, and no change of an array escapes it."""
    forest = stump()
    plain = io.BytesIO()
    np.savez(plain, **{name: getattr(forest, name) for name in NAMES})
    assert read(plain.getvalue()).digest() == forest.digest()
    changed = [
        stump(roots=[0, 1, 4]),
        stump(column=[1, 0, 0, 0]),
        stump(threshold=[0.25, np.inf, np.inf, np.inf]),
        stump(left=[1, 1, 1, 0]),
        stump(value=[0.5, 0.25, 0.75, 0.25]),
    ]
    assert len({forest.digest(), *(other.digest() for other in changed)}) == 6


def test_a_sound_file_is_read() -> None:
    """The file that the hostile ones below differ from is accepted, up to the last feature."""
    assert read(npz()).digest() == stump().digest()
    assert read(npz(), features=3).digest() == stump().digest()


@pytest.mark.parametrize(
    "changes",
    [
        {"left": [0, 1, 2, 0]},  # its own child
        {"left": [-1, 1, 2, 0]},  # numpy would count from the end
        {"left": [2, 1, 2, 0]},  # its second child lies in the next tree
        {"left": [3, 1, 2, 0]},
        {"left": [2**31 - 1, 1, 2, 0]},
        {"left": [1, 0, 2, 0]},  # a cycle
        {"left": [1, 1, 1, 0]},
        {"left": [1, 2, 2, 0]},  # a leaf with children
        {"left": [1, 1, 2, 1]},  # a leaf beyond its tree
        {"column": [2 * FEATURES, 0, 0, 0]},
        {"column": [-1, 0, 0, 0]},
        {"column": [2, 0, 0, 2**31 - 1]},
        {"roots": [1, 3, 4]},
        {"roots": [0, 3, 5]},
        {"roots": [0, 3, 3]},
        {"roots": [0, 5, 4]},
        {"roots": [0, -1, 4]},
        {"roots": [0, 0, 4]},  # a tree without nodes
        {"roots": [0, 2, 4]},  # a tree cut off
        {"roots": [0]},
        {"threshold": [np.nan, np.inf, np.inf, np.inf]},
        {"threshold": [0.5, np.nan, np.inf, np.inf]},
        {"threshold": [0.5, 0.5, np.inf, np.inf]},  # leaves that ask
        {"threshold": [0.5, -np.inf, np.inf, np.inf]},
        {"value": [0.5, -0.01, 0.75, 0.5]},
        {"value": [0.5, 0.25, 1.01, 0.5]},
        {"value": [0.5, 0.25, np.nan, 0.5]},
        {"value": [0.5, 0.25, np.inf, 0.5]},
        {name: [] for name in NAMES},
        {name: [] for name in NAMES if name != "roots"},
        *({name: getattr(stump(), name)[:-1]} for name in NAMES),
        *({name: np.append(getattr(stump(), name), 0)} for name in NAMES),
    ],
    ids=lambda changes: " ".join(f"{k}={v}" for k, v in changes.items())[:60],
)
def test_nodes_that_contradict_each_other_are_refused(changes: dict[str, Any]) -> None:
    """Walks that would not end or would leave the arrays, and values that are no probabilities."""
    with pytest.raises(ModelError, match="here: the trees contradict themselves"):
        read(stump(**changes).to_bytes())


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "kind", ["int64", ">i4", "uint32", "float32", ">f8", "complex128", "U4", "S4", "M8[ns]", "V4"]
)
def test_arrays_of_another_type_are_refused(name: str, kind: str) -> None:
    """Every array has exactly one type; no other is converted."""
    hostile = np.zeros(len(getattr(stump(), name)), kind)
    with pytest.raises(ModelError):
        read(npz(**{name: hostile}))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("shape", [(), (4, 1), (1, 4), (2, 2), (4, 0)], ids=str)
def test_arrays_of_another_shape_are_refused(name: str, shape: tuple[int, ...]) -> None:
    """Every array has one dimension."""
    hostile = np.zeros(shape, getattr(stump(), name).dtype)
    with pytest.raises(ModelError):
        read(npz(**{name: hostile}))


class Trap:
    """Shows whether its pickle was opened."""

    sprung = False

    def __reduce__(self) -> tuple[Any, ...]:
        return (setattr, (Trap, "sprung", True))


@pytest.mark.parametrize("name", NAMES)
def test_pickles_stay_closed(name: str) -> None:
    """An array of objects is code: it is refused, and not run."""
    with pytest.raises(ModelError, match="cannot be read"):
        read(npz(**{name: np.array([Trap()] * 4, object)}))
    assert not Trap.sprung


@pytest.mark.parametrize("name", NAMES)
def test_a_missing_array_is_refused(name: str) -> None:
    """All arrays must be there."""
    with pytest.raises(ModelError, match="cannot be read"):
        read(npz(**{name: None}))


def test_other_files_are_refused() -> None:
    """What is no ``.npz`` is refused by name, whatever it is instead."""
    one_array = io.BytesIO()
    np.save(one_array, np.zeros(4))
    other_zip = io.BytesIO()
    with zipfile.ZipFile(other_zip, "w") as archive:
        archive.writestr("roots.npy", b"no array")
    for data in (b"", b"PK", b"PK\x03\x04", b"no model", b"\x80\x04N.", bytes(1000)):
        with pytest.raises(ModelError, match="here"):
            read(data)
    for data in (one_array.getvalue(), other_zip.getvalue()):
        with pytest.raises(ModelError, match="here"):
            read(data)


def test_arrays_larger_than_any_memory_are_refused() -> None:
    """A header that promises more than there is fails as a damaged model, not as lack of memory."""
    header = "{'descr': '<f8', 'fortran_order': False, 'shape': (1152921504606846975,), }"
    member = (
        b"\x93NUMPY\x01\x00" + (len(header) + 1).to_bytes(2, "little") + header.encode() + b"\n"
    )
    hostile = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(npz())) as sound, zipfile.ZipFile(hostile, "w") as archive:
        for name in sound.namelist():
            archive.writestr(name, member if name == "value.npy" else sound.read(name))
    with pytest.raises(ModelError, match="here"):
        read(hostile.getvalue())


SOUND = Forest.compile(fitted("extra", max_depth=3)).to_bytes()


@pytest.mark.parametrize("share", [0.01, 0.3, 0.6, 0.9, 0.999])
def test_truncated_files_are_refused(share: float) -> None:
    """A file that was cut off is refused wherever it was cut."""
    with pytest.raises(ModelError, match="here"):
        read(SOUND[: int(len(SOUND) * share)])


@given(st.lists(st.tuples(st.integers(0, len(SOUND) - 1), st.integers(1, 255)), min_size=1))
@settings(max_examples=300, deadline=None, derandomize=True)
def test_damaged_files_are_read_whole_or_refused(damage: list[tuple[int, int]]) -> None:
    """Damaged bytes end in a ModelError, or did not touch the arrays; nothing else escapes."""
    hostile = bytearray(SOUND)
    for place, flip in damage:
        hostile[place] ^= flip
    try:
        forest = read(bytes(hostile))
    except ModelError:
        return
    assert forest.digest() == read(SOUND).digest()


@given(st.binary(max_size=200), st.sampled_from(NAMES), st.integers(0, 120))
@settings(max_examples=300, deadline=None, derandomize=True)
def test_damaged_arrays_are_sound_or_refused(junk: bytes, name: str, place: int) -> None:
    """Damage inside one array, under a right checksum: refused, or every walk still ends."""
    hostile = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(npz())) as sound, zipfile.ZipFile(hostile, "w") as archive:
        for member in sound.namelist():
            content = sound.read(member)
            if member == f"{name}.npy":
                content = content[:place] + junk + content[place + len(junk) :]
            archive.writestr(member, content)
    try:
        forest = read(hostile.getvalue())
    except ModelError:
        return
    found = forest.probability(random_rows(20, 1))
    assert ((found >= 0) & (found <= 1)).all()
