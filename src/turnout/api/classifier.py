"""A router as a scikit-learn classifier: fit on a data set in memory, score, save."""

from __future__ import annotations

import json
import shutil
import weakref
from collections.abc import Mapping, Sequence
from numbers import Real
from pathlib import Path
from tempfile import mkdtemp
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from turnout.api.data import Split, require_split
from turnout.errors import RecordError, SettingsError
from turnout.manifest import Manifest
from turnout.parquet import write_parquet
from turnout.progress import OnProgress, silent
from turnout.records import LABEL_FAST, LABEL_REASONING, Decision, ModelInput, Turn
from turnout.routing.folder import DESCRIPTION_NAME, set_threshold
from turnout.routing.router import Router
from turnout.samples import DESCRIPTION_NAME as DATASET_DESCRIPTION
from turnout.samples import FORMAT_VERSION
from turnout.stage import StageRun

if TYPE_CHECKING:
    from sklearn.utils import Tags

    from turnout.training import Model, TrainReport

_INSTALLED = "all-MiniLM-L6-v2"
_PARAMETERS = ("encoder", "model", "epochs", "max_tokens", "seed")


class _TemporaryFolder:
    """A folder that is removed with the last object that uses it."""

    def __init__(self) -> None:
        self.path = Path(mkdtemp(prefix="turnout-"))
        weakref.finalize(self, shutil.rmtree, self.path, ignore_errors=True)


class RouterClassifier:
    """A router that is trained and used like a scikit-learn classifier.

    Args:
        encoder: The encoder to fine-tune: a local folder or a Hugging Face id; by default
            all-MiniLM-L6-v2, which is installed.
        model: `encoder`; `words` for a linear model on words, which takes seconds; or `auto`, the
            better of both on validation.
        epochs: The most passes over the training rows; by default as in `turnout train`.
        max_tokens: Token budget of the encoder; by default as in `turnout train`.
        seed: The same seed, rows and machine give the same router.

    Example:
        >>> import turnout as tn
        >>> data = tn.from_outcomes({
        ...     "prompt": [f"{w} number {n}" for n in range(60) for w in ("prove", "spell")],
        ...     "reasoning_score": [0.9] * 120,
        ...     "fast_score": [0.2, 0.9] * 60,
        ... })
        >>> router = tn.RouterClassifier(model="words").fit(data.train, data.validation)
        >>> router.predict(["prove number 7", "spell number 7"])
        array([0, 1])
    """

    classes_: NDArray[np.int64] = np.asarray([LABEL_REASONING, LABEL_FAST])

    def __init__(
        self,
        encoder: str | Path | None = None,
        *,
        model: Model = "auto",
        epochs: int | None = None,
        max_tokens: int | None = None,
        seed: int = 0,
    ) -> None:
        self.encoder = encoder
        self.model = model
        self.epochs = epochs
        self.max_tokens = max_tokens
        self.seed = seed
        self.report_: TrainReport | None = None
        self._router: Router | None = None
        self._threshold: float | None = None
        self._folder: _TemporaryFolder | None = None

    def __repr__(self) -> str:
        defaults = RouterClassifier().get_params()
        changed = [f"{k}={v!r}" for k, v in self.get_params().items() if v != defaults[k]]
        state = "not fitted"
        if self.report_ is not None:
            rows = self.report_.labelled_rows["train"]
            state = f"fitted ({self.report_.model}) on {rows:,} labelled rows, threshold "
            state += f"{self.threshold:.3f}"
        return f"RouterClassifier({', '.join(changed)}): {state}"

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """The constructor's arguments, for `sklearn.base.clone`; `deep` changes nothing."""
        return {name: getattr(self, name) for name in _PARAMETERS}

    def set_params(self, **params: Any) -> RouterClassifier:  # noqa: ANN401 - each has its own type
        """Change arguments of the constructor; they count from the next `fit`.

        Raises:
            SettingsError: If one is not an argument.
        """
        for name, value in params.items():
            if name not in _PARAMETERS:
                raise SettingsError(f"{name}: expected one of {', '.join(_PARAMETERS)}.")
            setattr(self, name, value)
        return self

    def __sklearn_tags__(self) -> Tags:
        from sklearn.utils import ClassifierTags, InputTags, Tags, TargetTags

        return Tags(
            estimator_type="classifier",
            target_tags=TargetTags(required=False),
            classifier_tags=ClassifierTags(multi_class=False),
            input_tags=InputTags(two_d_array=False, string=True),
        )

    def __sklearn_is_fitted__(self) -> bool:
        return self._router is not None

    def fit(
        self, train: Split, validation: Split, *, on_progress: OnProgress = silent
    ) -> RouterClassifier:
        """Train, calibrate on validation and export, as `turnout train` does.

        Args:
            train: Rows to learn from, such as `data.train`.
            validation: Rows to choose epoch, calibration and model on.
            on_progress: Called as `on_progress(step, done, total)`.

        Returns:
            Itself; `report_` is the report of the training.

        Raises:
            ArtifactError: If the encoder cannot be used.
            RecordError: If the rows cannot train a router.
            SettingsError: If an option is out of range, or these are not splits of one data set.
        """
        from turnout.training import Recipe
        from turnout.training import train as train_router

        for name, split in (("train", train), ("validation", validation)):
            require_split(split, name)
        if train is validation:
            raise SettingsError(
                "validation: found the training rows; expected others, such as data.validation."
            )
        if train.formatter != validation.formatter:
            raise SettingsError(
                f"validation: its rows are shown as {validation.formatter}, those of train as "
                f"{train.formatter}; expected both from one data set."
            )
        if not isinstance(self.encoder, str | Path | None):
            raise SettingsError(
                f"encoder: found {type(self.encoder).__name__}; expected a local folder or a "
                "Hugging Face id."
            )
        recipe = Recipe(self.epochs, model=self.model, seed=self.seed)
        base = None if self.encoder == _INSTALLED else self.encoder
        folder = _TemporaryFolder()
        dataset, router = folder.path / "data", folder.path / "router"
        _write_dataset(dataset, train, validation)
        try:
            self.report_ = train_router(
                dataset,
                router,
                base=base,
                recipe=recipe,
                max_tokens=self.max_tokens,
                on_progress=on_progress,
            )
        except RecordError as error:
            # Name the splits instead of the temporary files.
            message = str(error).replace(f"{dataset}/", "").replace(".parquet:", ":")
            raise RecordError(message) from error
        self._folder, self._threshold = folder, None
        self._router = Router.from_folder(router)
        return self

    @property
    def router(self) -> Router:
        """The fitted router, as `turnout.load` gives it.

        Raises:
            SettingsError: If it is not fitted.
        """
        if self._router is None:
            raise SettingsError("this router is not fitted; expected a fitted one. Call fit first.")
        return self._router

    @property
    def threshold(self) -> float:
        """The least p_reasoning that `predict` labels reasoning, in [0, 1]."""
        return self.router.threshold if self._threshold is None else self._threshold

    def predict_proba(self, rows: object) -> NDArray[np.float32]:
        """Probabilities of `classes_`: column 0 is reasoning, column 1 is fast.

        Args:
            rows: Texts, or lists of chat messages (`role`, `content`) or their JSON text, one a
                row: a list, a NumPy array, a pandas or polars Series or an Arrow array; or a
                `Split`.

        Returns:
            Shape `(n, 2)`, for the population of `turnout.load`.

        Raises:
            RecordError: If a row cannot be read.

        Example:
            >>> router.predict_proba(["prove number 7"]).shape
            (1, 2)
        """
        if isinstance(rows, Split):
            router, inputs = router_and_inputs(self, rows, "rows")
            return router.probabilities_of(inputs)
        return self.router.predict_proba(rows)

    def predict(self, rows: object) -> NDArray[np.int64]:
        """Labels, 0 = reasoning and 1 = fast, shape `(n,)`; a score at the threshold is reasoning.

        Args:
            rows: As `predict_proba` takes.
        """
        needs = self.predict_proba(rows)[:, LABEL_REASONING] >= self.threshold
        return np.where(needs, LABEL_REASONING, LABEL_FAST)

    def decide(self, messages: str | Sequence[Mapping[str, Any]] | Sequence[Turn]) -> Decision:
        """One decision, explained; as `turnout.load(folder).decide`, at this threshold."""
        return Router(self.router.folder, threshold=self._threshold).decide(messages)

    def with_threshold(self, threshold: float) -> RouterClassifier:
        """The same router at another threshold; this one stays as it is.

        Args:
            threshold: In [0, 1].

        Raises:
            SettingsError: If it is out of range, or the router is not fitted.

        Example:
            >>> router.with_threshold(0.3).threshold
            0.3
        """
        is_number = isinstance(threshold, Real) and not isinstance(threshold, bool)
        if not is_number or not 0 <= threshold <= 1:
            raise SettingsError(f"threshold: found {threshold!r}; expected a number from 0 to 1.")
        other = RouterClassifier(**self.get_params())
        other.report_, other._router, other._folder = self.report_, self.router, self._folder
        other._threshold = float(threshold)
        return other

    def save(self, folder: str | Path) -> Path:
        """Write a router folder for `turnout.load`, `turnout serve` and the hub.

        Args:
            folder: A new path, or that of a router saved before.

        Raises:
            SettingsError: If it is not fitted.
            StorageError: If the place cannot be written, or holds something else.
        """
        source = self.router.folder
        options = {"router": source.digest, "threshold": self._threshold}
        run = StageRun(Path(folder), Manifest.of("save", {}, options))
        with run.output() as partial:
            partial.mkdir()
            for name in (*source.files, DESCRIPTION_NAME):
                shutil.copyfile(source.path / name, partial / name)
            if self._threshold is not None:
                origin, population = "chosen in a notebook", self.router.population
                set_threshold(partial, self._threshold, origin, population)
        return Path(folder)


def _write_dataset(folder: Path, train: Split, validation: Split) -> None:
    folder.mkdir()
    for name, split in (("train", train), ("validation", validation)):
        write_parquet(split.table, folder / f"{name}.parquet")
    description = {
        "format_version": FORMAT_VERSION,
        "formatter": train.formatter.to_json(),
        "priors": train.priors.to_json(),
        "source": "outcomes" if train.measured else "labels",
    }
    (folder / DATASET_DESCRIPTION).write_text(json.dumps(description), encoding="utf-8")


def router_and_inputs(router: object, split: Split, name: str) -> tuple[Router, list[ModelInput]]:
    """A classifier's router, or a loaded one, and the rows of a split as it reads them.

    Args:
        router: The classifier, or the router.
        split: The rows.
        name: What it was given as, for messages.

    Raises:
        SettingsError: If it is no router or not fitted, or reads rows otherwise.
    """
    opened = router.router if isinstance(router, RouterClassifier) else router
    if not isinstance(opened, Router):
        raise SettingsError(
            f"{name}: found {type(router).__name__}; expected a fitted RouterClassifier, or what "
            "turnout.load gives."
        )
    return opened, split.inputs_for(opened.folder.spec.formatter, name)
