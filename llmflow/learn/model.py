"""Models: what one is, how it judges, and how it lies on disk.

A model is a folder::

    model.json        what it is: feature schema, rules, calibration, threshold, checksums
    forest.npz        the trees, as arrays; what `classify` reads
    estimator.skops   the same trees as a scikit-learn estimator, for those who build on it
    reference.npz     how features and scores of the training set lie, for `drift`; not in all
    CARD.md           what it was trained on, how it was evaluated, where it ends
    card.json         the same for programs

Nothing in it is executed: the arrays are checked, and the skops file is read with a fixed list of
trusted types.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
import zipfile
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from llmflow.arrays import F64, I64, U8, Bool
from llmflow.errors import ModelError
from llmflow.features.extract import (
    LEAST_CHUNKS,
    MODEL_FEATURES,
    SCALES,
    SegmentFeatures,
    schema_hash,
)
from llmflow.learn.forest import Forest
from llmflow.report.folders import check_folder, whole_folder

if TYPE_CHECKING:
    from llmflow.learn.drift import Reference

FORMAT = 2
# The only types beyond skops' own defaults that an estimator file may hold.
TRUSTED = ("sklearn.tree._tree.Tree",)
LABELS = LLM_STREAM, OTHER, UNDECIDED = "llm-stream", "other", "undecided"
# A reply in fewer pieces than this did not stream; from here to LEAST_CHUNKS nobody can tell.
LEAST_STREAM_CHUNKS = 3


@dataclass(frozen=True, slots=True)
class Calibration:
    """Platt's sigmoid: probability = 1 / (1 + exp(-(slope * raw + intercept))).

    J. Platt, *Probabilistic Outputs for Support Vector Machines*, 1999.
    """

    slope: float
    intercept: float

    def apply(self, raw: F64) -> F64:
        """Calibrated probabilities of raw scores; NaN stays NaN."""
        with np.errstate(over="ignore"):  # an infinite exponential is a score of 0
            calibrated: F64 = 1.0 / (1.0 + np.exp(-(self.slope * raw + self.intercept)))
        return calibrated


@dataclass(frozen=True, slots=True)
class Model:
    """A trained detector.

    Parameters
    ----------
    forest : Forest
    calibration : Calibration
    threshold : float
        Calibrated scores at least this are ``llm-stream``.
    name : str
    facts : dict
        Training set, parameters and measurements, for the model card.
    strict : float
        What scores of flows without an uplink must reach to be ``llm-stream``; between
        ``threshold`` and this they are ``undecided``. No more than ``threshold`` if not given.
    reference : Reference, optional
        How the training set's features and scores lie; written, but not read by `classify`.
    """

    forest: Forest
    calibration: Calibration
    threshold: float
    name: str = "unnamed"
    facts: dict[str, Any] = field(default_factory=dict)
    strict: float = 0.0
    reference: Reference | None = None

    @property
    def model_id(self) -> str:
        """Name and the first digits of the SHA-256 of all that decides."""
        state = [
            self.forest.digest(),
            asdict(self.calibration),
            self.threshold,
            self.strict,
            schema_hash(MODEL_FEATURES),
        ]
        return f"{self.name}-{_sha256(json.dumps(state).encode())[:12]}"

    def score_turns(self, features: SegmentFeatures, turns: int) -> F64:
        """Raw score of each turn; NaN where no segment held enough evidence.

        See :func:`combine_segments`.
        """
        return combine_segments(features, self.forest.probability(features.values), turns)


def combine_segments(features: SegmentFeatures, probability: F64, turns: int) -> F64:
    """From segments to turns: the highest score of each scale, then the mean over the scales.

    Parameters
    ----------
    features : SegmentFeatures
        Whose ``turn`` and ``scale`` say where each probability belongs.
    probability : ndarray of float64, shape (segments,)
    turns : int
        Number of turns.

    Returns
    -------
    ndarray of float64, shape (turns,)
        NaN for turns without a segment.
    """
    best = np.full((turns, len(SCALES)), -1.0)
    np.maximum.at(best, (features.turn, features.scale), probability)
    judged = best >= 0
    number = judged.sum(axis=1)
    total = np.where(judged, best, 0.0).sum(axis=1)
    mean: F64 = np.divide(total, number, out=np.full(turns, np.nan), where=number > 0)
    return mean


def combine_turns(turn_scores: F64, flow: I64, flows: int) -> F64:
    """From turns to flows: as its most streaming turn; NaN where no turn was judged."""
    best = np.full(flows, -1.0)
    known = ~np.isnan(turn_scores)
    np.maximum.at(best, flow[known], turn_scores[known])
    return np.where(best >= 0, best, np.nan)


def verdicts(score: F64, threshold: float, chunks: F64, blind: Bool, sure: F64 | float) -> U8:
    """Labels of turns or flows.

    Parameters
    ----------
    score : ndarray of float64
        Calibrated; NaN where there was too little evidence to ask the model.
    threshold : float
    chunks : ndarray of float64
        Downlink chunks; of a flow: of its largest turn.
    blind : ndarray of bool
        No downlink packet was seen at all.
    sure : float or ndarray of float64
        What a score above the threshold must reach, lest it be ``undecided``.

    Returns
    -------
    ndarray of uint8
        Places in ``LABELS``: ``llm-stream`` or ``other`` where the model was asked. Else ``other``
        if the replies came in fewer than 3 pieces (nothing streamed), and ``undecided``.
    """
    short = (chunks < LEAST_STREAM_CHUNKS) & ~blind
    stream, other, undecided = range(len(LABELS))
    known = np.nan_to_num(score)
    judged = np.where(known < threshold, other, np.where(known < sure, undecided, stream))
    unjudged = np.where(short, other, undecided)
    return np.where(np.isnan(score), unjudged, judged).astype(np.uint8)


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _dump_estimator(estimator: Any) -> bytes:  # noqa: ANN401
    """A skops file whose bytes depend on the estimator only.

    skops names things by their addresses in memory and stamps the time; here they are numbered in
    the order in which they appear.
    """
    import skops.io  # noqa: PLC0415 - heavy

    with zipfile.ZipFile(io.BytesIO(skops.io.dumps(estimator))) as raw:
        schema = raw.read("schema.json").decode()
        order = dict.fromkeys(re.findall(r'"__id__": (\d+)|"(\d+)\.npy"', schema))
        names = {a or b: None for a, b in order}
        numbers = {name: str(number) for number, name in enumerate(names)}
        stable = re.sub(
            r'("__id__": |")(\d+)(\.npy"|(?=[,\s}]))',
            lambda found: found[1] + numbers.get(found[2], found[2]) + found[3],
            schema,
        )
        out = io.BytesIO()
        with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as tidy:
            for name in raw.namelist():
                stem = name.removesuffix(".npy")
                content = stable.encode() if name == "schema.json" else raw.read(name)
                renamed = f"{numbers[stem]}.npy" if stem in numbers else name
                entry = zipfile.ZipInfo(renamed, date_time=(1980, 1, 1, 0, 0, 0))
                entry.compress_type = zipfile.ZIP_DEFLATED
                tidy.writestr(entry, content)
    return out.getvalue()


def _schema() -> dict[str, Any]:
    """What a model is bound to."""
    return {
        "schema_hash": schema_hash(MODEL_FEATURES),
        "features": list(MODEL_FEATURES),
        "scales": list(SCALES),
        "least_chunks": LEAST_CHUNKS,
    }


def check_place(directory: Path) -> None:
    """Say early that a model cannot be put somewhere.

    Raises
    ------
    OutputError
        Something that is no model stands there.
    """
    check_folder(directory, "model.json", "model")


def save_model(
    model: Model,
    estimator: Any,  # noqa: ANN401
    cards: dict[str, str],
    directory: Path,
) -> None:
    """Write a model folder: whole or not at all.

    Parameters
    ----------
    model : Model
    estimator : sklearn.ensemble.ExtraTreesClassifier
    cards : dict of str to str
        Texts by file name (:func:`llmflow.learn.card.write_cards`).
    directory : Path

    Raises
    ------
    OutputError
        The folder cannot be written, or something that is no model stands there.
    """
    import sklearn  # noqa: PLC0415 - heavy

    check_place(directory)
    files = {"forest.npz": model.forest.to_bytes(), "estimator.skops": _dump_estimator(estimator)}
    if model.reference:
        files["reference.npz"] = model.reference.to_bytes()
    files |= {name: text.encode() for name, text in cards.items()}
    about = {
        "format": FORMAT,
        "name": model.name,
        "model_id": model.model_id,
        "scikit_learn": sklearn.__version__,
        **_schema(),
        "calibration": asdict(model.calibration),
        "threshold": model.threshold,
        "strict": model.strict,
        "sha256": {name: _sha256(content) for name, content in files.items()},
        "facts": model.facts,
    }
    with whole_folder(directory) as fresh:
        for name, content in files.items():
            (fresh / name).write_bytes(content)
        (fresh / "model.json").write_text(json.dumps(about, indent=1, allow_nan=False) + "\n")


def default_model_path() -> Path:
    """The shipped model: inside an installed package, or beside the package in a checkout."""
    package = Path(__file__).resolve().parent.parent
    installed = package / "_models" / "llm-stream"
    return installed if installed.is_dir() else package.parent / "models" / "llm-stream"


def load_model(directory: Path | None = None) -> Model:
    """Read a model folder, trusting nothing in it.

    Parameters
    ----------
    directory : Path, optional
        The shipped model if not given.

    Raises
    ------
    ModelError
        Missing, damaged, of another format, or made for other features.
    """
    directory = directory or default_model_path()
    where = str(directory)
    try:
        about = json.loads((directory / "model.json").read_bytes())
        forest = (directory / "forest.npz").read_bytes()
    except OSError as error:
        raise ModelError(
            f"no model can be read there ({error.strerror})",
            where=where,
            hint="name a folder that `llmflow train` wrote",
        ) from None
    except (ValueError, RecursionError):
        raise ModelError("model.json is not JSON", where=where, hint="train it again") from None
    try:
        return _from_json(about, forest, where)
    except (KeyError, TypeError, ValueError, OverflowError, AttributeError) as error:
        raise ModelError(
            f"model.json lacks or garbles {error}", where=where, hint="train it again"
        ) from None


def _from_json(about: dict[str, Any], forest: bytes, where: str) -> Model:
    if about["format"] != FORMAT:
        raise ModelError(
            f"the model has format {about['format']}, this llmflow reads {FORMAT}",
            where=where,
            hint="train it again",
        )
    if any(about[key] != value for key, value in _schema().items()):
        raise ModelError(
            "the model was trained on other features than this llmflow computes",
            where=where,
            hint="train it again, or use the llmflow it came with",
        )
    if about["sha256"]["forest.npz"] != _sha256(forest):
        raise ModelError("forest.npz does not match its checksum", where=where)
    trees = Forest.from_bytes(forest, features=len(MODEL_FEATURES), where=where)
    slope, intercept = (float(about["calibration"][key]) for key in ("slope", "intercept"))
    threshold, strict = float(about["threshold"]), float(about["strict"])
    typed = isinstance(about["facts"], dict) and isinstance(about["name"], str)
    if not (
        np.isfinite([slope, intercept]).all() and 0 <= threshold <= 1 and 0 <= strict <= 1 and typed
    ):
        raise ValueError("calibration, threshold, name or facts")
    calibration = Calibration(slope, intercept)
    return Model(trees, calibration, threshold, about["name"], about["facts"], strict)


def load_estimator(directory: Path) -> Any:  # noqa: ANN401
    """The scikit-learn estimator of a model, if every type in its file is trusted.

    Raises
    ------
    ModelError
        Other types in the file, a failed checksum, or another release line of scikit-learn.
    """
    import sklearn  # noqa: PLC0415 - heavy
    import skops.io  # noqa: PLC0415

    about = json.loads((directory / "model.json").read_bytes())
    data = (directory / "estimator.skops").read_bytes()
    if _sha256(data) != about["sha256"]["estimator.skops"]:
        raise ModelError("estimator.skops does not match its checksum", where=str(directory))
    fitted_with = about["scikit_learn"]
    if fitted_with.split(".")[:2] != sklearn.__version__.split(".")[:2]:
        raise ModelError(
            f"fitted with scikit-learn {fitted_with}, here is {sklearn.__version__}",
            where=str(directory),
            hint="train it again",
        )
    others = sorted(set(skops.io.get_untrusted_types(data=data)) - set(TRUSTED))
    if others:
        raise ModelError(f"holds types that are not trusted: {others}", where=str(directory))
    return skops.io.loads(data, trusted=list(TRUSTED))
