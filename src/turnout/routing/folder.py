"""The router folder: its layout, its description, its digests."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any, get_args

from turnout.errors import ArtifactError
from turnout.manifest import file_sha256, replace_file
from turnout.records import ID2LABEL, Population
from turnout.routing.encoding import InputEncoder
from turnout.routing.formatter import Formatter
from turnout.routing.population import Priors
from turnout.routing.scorer import OnnxScorer

FORMAT_VERSION = 1
DESCRIPTION_NAME = "router.json"
WEIGHTS_NAME = "model.safetensors"
TOKENIZER_NAME = "tokenizer.json"
# The first of them in the folder serves.
GRAPHS = {"int8": "model.int8.onnx", "float32": "model.onnx"}
# Libraries whose versions change the last digits of scores.
SCORING_LIBRARIES = ("numpy", "onnxruntime", "tokenizers")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_REMEDY = "Copy the folder again, or train again."


@dataclass(frozen=True, slots=True)
class RouterSpec:
    """The contents of `router.json`, except the digests.

    Attributes:
        formatter: How a turn is formatted for the encoder; it includes the architecture.
        max_tokens: The encoder's budget in tokens.
        threshold: The least p_reasoning that sends a message to the reasoning class, in [0, 1].
        threshold_origin: How the threshold was chosen, for a person.
        threshold_population: The population whose scores the threshold is for.
        priors: The share of reasoning in each population.
        calibration: Method and numbers; already folded into the weights, kept for the record.
        trained_on: Base encoder, data set and counts, for a person.
        versions: Library → version that the graphs were checked with; other versions may change
            int8 scores by up to 0.008.
    """

    formatter: Formatter
    max_tokens: int
    threshold: float = 0.5
    threshold_origin: str = "default"
    threshold_population: Population = "balanced"
    priors: Priors = field(default_factory=Priors)
    calibration: Mapping[str, Any] = field(default_factory=dict)
    trained_on: Mapping[str, Any] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)

    def threshold_for(self, population: Population) -> float:
        """The threshold that sends the same messages to reasoning, by a population's scores.

        Raises:
            SettingsError: If the share of reasoning in that population is not known.
        """
        return self.priors.converted(self.threshold, self.threshold_population, population)


@dataclass(frozen=True, slots=True)
class RouterFolder:
    """A verified router folder: every listed file has its recorded digest.

    Attributes:
        path: The folder.
        spec: Its description.
        digest: Hex sha256 of `router.json`, which lists every other digest: the router's identity.
        files: Names of the files that `router.json` lists.
    """

    path: Path
    spec: RouterSpec
    digest: str
    files: tuple[str, ...]

    @classmethod
    def read(cls, folder: str | Path) -> RouterFolder:
        """Open and verify.

        Raises:
            ArtifactError: If it is absent, altered, newer than this version or not a router.
        """
        path = Path(folder)
        description = path / DESCRIPTION_NAME
        if not description.is_file():
            raise ArtifactError(
                f"{path}: no {DESCRIPTION_NAME} in it; expected a router folder. "
                "Make one with `turnout train`, or check the path."
            )
        spec, files = read_description(description)
        _verify(path, files)
        return cls(path, spec, file_sha256(description), tuple(files))

    @property
    def precision(self) -> str:
        """The graph that serves: `int8`, or `float32` where int8 would lose quality."""
        return next(name for name, file in GRAPHS.items() if file in self.files)

    def scorer(
        self,
        precision: str | None = None,
        threads: int | None = None,
        population: Population = "balanced",
    ) -> OnnxScorer:
        """A scorer of this folder.

        Args:
            precision: `int8` or `float32`; by default that of the graph that serves.
            threads: Rows scored at the same time; by default one a core.
            population: The population of its probabilities.

        Raises:
            ArtifactError: If there is no graph of that precision, or it cannot be loaded.
            SettingsError: If the population's share of reasoning is not known.
        """
        graph = GRAPHS[precision or self.precision]
        if graph not in self.files:
            raise ArtifactError(
                f"{self.path}: has no {graph}; expected the precision {self.precision}. Leave the "
                "precision out."
            )
        encoder = InputEncoder.from_file(self.path / TOKENIZER_NAME, self.spec.max_tokens)
        return OnnxScorer(self.path / graph, encoder, threads, self.spec.priors.shift(population))


def write_description(folder: Path, spec: RouterSpec) -> None:
    """Write `router.json` for the files in `folder`; the last step of an export.

    It names the library versions installed now.
    """
    names = sorted(p.name for p in folder.iterdir() if p.is_file() and p.name != DESCRIPTION_NAME)
    stored = {
        "format_version": FORMAT_VERSION,
        "architecture": spec.formatter.architecture,
        "labels": {str(label): name for label, name in ID2LABEL.items()},
        "formatter": spec.formatter.to_json(),
        "max_tokens": spec.max_tokens,
        "threshold": _threshold(spec.threshold, spec.threshold_origin, spec.threshold_population),
        "priors": spec.priors.to_json(),
        "calibration": dict(spec.calibration),
        "trained_on": dict(spec.trained_on),
        "versions": {name: metadata.version(name) for name in SCORING_LIBRARIES},
        "files": {name: file_sha256(folder / name) for name in names},
    }
    text = json.dumps(stored, indent=2, sort_keys=True) + "\n"
    (folder / DESCRIPTION_NAME).write_text(text, encoding="utf-8")


def set_threshold(
    folder: Path, value: float, origin: str, population: Population = "balanced"
) -> None:
    """Replace the threshold of a router folder; the folder is valid at every moment.

    Args:
        folder: A router folder.
        value: In [0, 1].
        origin: How it was chosen, for a person.
        population: The population whose scores it was chosen for.

    Raises:
        StorageError: If the folder cannot be written.
    """
    stored = json.loads((folder / DESCRIPTION_NAME).read_text(encoding="utf-8"))
    stored["threshold"] = _threshold(value, origin, population)
    replace_file(folder, DESCRIPTION_NAME, json.dumps(stored, indent=2, sort_keys=True) + "\n")


def read_description(path: Path, where: str | None = None) -> tuple[RouterSpec, dict[str, str]]:
    """Read a `router.json`.

    Args:
        path: The file.
        where: How messages name it; by default its path.

    Returns:
        The description, and name → sha256 of every file of the router.

    Raises:
        ArtifactError: If it has another format, or a value that `turnout train` does not write.
    """
    where = where or str(path)
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ArtifactError(
            f"{where}: not readable as JSON ({error}); expected a router description. {_REMEDY}"
        ) from error
    values = _Values(stored, where)
    version = values.get("format_version", _is_positive_integer, "a whole number")
    if version != FORMAT_VERSION:
        raise ArtifactError(
            f"{where}: router format {version}; this Turnout reads format {FORMAT_VERSION}. "
            "Upgrade Turnout, or train the router again."
        )
    threshold = _Values(values.get("threshold", _is_object, "an object"), f"{where}: threshold")
    spec = RouterSpec(
        formatter=Formatter.from_json(values.get("formatter", _is_object, "an object"), where),
        max_tokens=values.get("max_tokens", _is_positive_integer, "a whole number from 1"),
        threshold=threshold.get("value", _is_probability, "a number from 0 to 1"),
        threshold_origin=threshold.get("origin", _is_text, "text"),
        threshold_population=threshold.get(
            "population", _is_population, "log or balanced", "balanced"
        ),
        priors=Priors.from_json(stored.get("priors"), where),
        calibration=values.get("calibration", _is_object, "an object"),
        trained_on=values.get("trained_on", _is_object, "an object"),
        versions=values.get("versions", _is_object, "an object", {}),
    )
    if spec.threshold_population == "log" and spec.priors.log is None:
        raise ArtifactError(
            f"{where}: the threshold is for the log, and priors.log is missing; expected the share "
            f"of reasoning in the log. {_REMEDY}"
        )
    return spec, values.get("files", _is_router_files, _ROUTER_FILES)


class _Values:
    """The values of a JSON object, each checked when it is read."""

    def __init__(self, stored: object, where: str) -> None:
        self._where = where
        if not isinstance(stored, dict):
            raise self._refused("", stored, "an object, as `turnout train` writes it")
        self._stored = stored

    def get(
        self, name: str, fits: Callable[[Any], bool], expected: str, default: object = None
    ) -> Any:  # noqa: ANN401
        """The value of a name; if it is absent, the default, if there is one."""
        value = self._stored.get(name)
        if value is None and default is not None:
            return default
        if not fits(value):
            raise self._refused(f"{name}: ", value, expected)
        return value

    def _refused(self, name: str, value: object, expected: str) -> ArtifactError:
        shown = "nothing" if value is None else repr(value)
        return ArtifactError(
            f"{self._where}: {name}found {shown[:200]}; expected {expected}. {_REMEDY}"
        )


_ROUTER_FILES = (
    f"plain file names with their sha256, {TOKENIZER_NAME} and {' or '.join(GRAPHS.values())} "
    "among them"
)


def _is_positive_integer(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _is_probability(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 1


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _is_object(value: object) -> bool:
    return isinstance(value, dict)


def _is_population(value: object) -> bool:
    return value in get_args(Population)


def _is_router_files(value: object) -> bool:
    """Whether files make a router; their names must not lead out of the folder."""
    return (
        isinstance(value, dict)
        and all(
            isinstance(digest, str)
            and _SHA256.fullmatch(digest) is not None
            and Path(name).name == name
            and "\\" not in name
            for name, digest in value.items()
        )
        and TOKENIZER_NAME in value
        and any(graph in value for graph in GRAPHS.values())
    )


def _threshold(value: float, origin: str, population: Population) -> dict[str, Any]:
    return {"value": value, "origin": origin, "population": population}


def _verify(path: Path, files: Mapping[str, str]) -> None:
    for name, expected in files.items():
        file = path / name
        if not file.is_file():
            raise ArtifactError(
                f"{file}: not found; {DESCRIPTION_NAME} lists it. Copy the folder again."
            )
        actual = file_sha256(file)
        if actual != expected:
            raise ArtifactError(
                f"{file}: sha256 {actual[:12]}…; expected {expected[:12]}… as {DESCRIPTION_NAME} "
                "lists it. The file was changed or damaged: copy the folder again."
            )
