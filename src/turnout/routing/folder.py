"""The router folder: its layout, its description, its digests; knows no trainer and no policy."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from turnout.errors import ArtifactError
from turnout.manifest import file_sha256, replace_file
from turnout.records import ID2LABEL
from turnout.routing.encoding import InputEncoder
from turnout.routing.formatter import Formatter
from turnout.routing.scorer import OnnxScorer

FORMAT_VERSION = 1
DESCRIPTION_NAME = "router.json"
WEIGHTS_NAME = "model.safetensors"
TOKENIZER_NAME = "tokenizer.json"
GRAPHS = {"int8": "model.int8.onnx", "float32": "model.onnx"}


@dataclass(frozen=True, slots=True)
class RouterSpec:
    """What `router.json` says beside the digests.

    Attributes:
        formatter: How a turn is shown to the encoder; names the architecture too.
        max_tokens: The encoder's budget in tokens.
        threshold: The least p_reasoning that sends a message to the reasoning class.
        threshold_origin: How the threshold was chosen, for a person.
        calibration: Method and numbers; already folded into the weights, kept for the record.
        trained_on: Facts for a person: base encoder, data set, counts.
    """

    formatter: Formatter
    max_tokens: int
    threshold: float = 0.5
    threshold_origin: str = "default"
    calibration: Mapping[str, Any] = field(default_factory=dict)
    trained_on: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class RouterFolder:
    """A router folder that was found whole: every listed file has the digest it was written with.

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
        try:
            stored = json.loads(description.read_text(encoding="utf-8"))
            spec = _spec(stored, description)
            _verify(path, stored["files"])
        except (ValueError, KeyError, TypeError) as error:
            raise ArtifactError(
                f"{description}: not in the form of a router description ({error!r}); expected "
                "what `turnout train` wrote. Copy the folder again, or train again."
            ) from error
        return cls(path, spec, file_sha256(description), tuple(stored["files"]))

    def scorer(self, precision: str = "int8", threads: int | None = None) -> OnnxScorer:
        """The scorer of this folder; `precision` is `int8` (default) or `float32`."""
        encoder = InputEncoder.from_file(self.path / TOKENIZER_NAME, self.spec.max_tokens)
        return OnnxScorer(self.path / GRAPHS[precision], encoder, threads)


def write_description(folder: Path, spec: RouterSpec) -> None:
    """Write `router.json` over the files that lie in `folder`; the last step of an export."""
    names = sorted(p.name for p in folder.iterdir() if p.is_file() and p.name != DESCRIPTION_NAME)
    stored = {
        "format_version": FORMAT_VERSION,
        "architecture": spec.formatter.architecture,
        "labels": {str(label): name for label, name in ID2LABEL.items()},
        "formatter": spec.formatter.to_json(),
        "max_tokens": spec.max_tokens,
        "threshold": {"value": spec.threshold, "origin": spec.threshold_origin},
        "calibration": dict(spec.calibration),
        "trained_on": dict(spec.trained_on),
        "files": {name: file_sha256(folder / name) for name in names},
    }
    text = json.dumps(stored, indent=2, sort_keys=True) + "\n"
    (folder / DESCRIPTION_NAME).write_text(text, encoding="utf-8")


def set_threshold(folder: Path, value: float, origin: str) -> None:
    """Replace the threshold of a router folder; the folder stays whole at every instant.

    Args:
        folder: A router folder.
        value: In [0, 1].
        origin: How it was chosen, for a person.

    Raises:
        StorageError: If the folder cannot be written.
    """
    stored = json.loads((folder / DESCRIPTION_NAME).read_text(encoding="utf-8"))
    stored["threshold"] = {"value": value, "origin": origin}
    replace_file(folder, DESCRIPTION_NAME, json.dumps(stored, indent=2, sort_keys=True) + "\n")


def _spec(stored: Mapping[str, Any], where: Path) -> RouterSpec:
    version = stored["format_version"]
    if version != FORMAT_VERSION:
        raise ArtifactError(
            f"{where}: router format {version}; this Turnout reads format {FORMAT_VERSION}. "
            "Upgrade Turnout, or train the router again."
        )
    return RouterSpec(
        formatter=Formatter.from_json(stored["formatter"], str(where)),
        max_tokens=int(stored["max_tokens"]),
        threshold=float(stored["threshold"]["value"]),
        threshold_origin=str(stored["threshold"]["origin"]),
        calibration=stored["calibration"],
        trained_on=stored["trained_on"],
    )


def _verify(path: Path, files: Mapping[str, str]) -> None:
    for name, expected in files.items():
        file = path / name
        if not file.is_file():
            raise ArtifactError(
                f"{file}: not found; {DESCRIPTION_NAME} lists it. Copy the folder again."
            )
        found = file_sha256(file)
        if found != expected:
            raise ArtifactError(
                f"{file}: sha256 {found[:12]}…; expected {expected[:12]}… as {DESCRIPTION_NAME} "
                "lists it. The file was changed or damaged: copy the folder again."
            )
