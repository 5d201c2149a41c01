"""A normal form of texts: equal where an uncased encoder reads the same tokens."""

from __future__ import annotations

import unicodedata

# The scripts that BERT's tokenizer reads character by character.
_IDEOGRAPHS = (
    (0x3400, 0x4DBF), (0x4E00, 0x9FFF), (0xF900, 0xFAFF), (0x20000, 0x2B73F), (0x2B740, 0x2CEAF),
    (0x2F800, 0x2FA1F),
)  # fmt: skip


def normalized(text: str) -> str:
    """The words of a text as an uncased encoder reads them, separated by spaces.

    Texts that the default encoder's tokenizer turns into the same known tokens have the same normal
    form. Case, accents, control and zero-width characters, and the kind and amount of white
    space are dropped; compatible characters (full width, ligatures) become their plain form;
    punctuation and ideographs are words of their own.

    Texts with characters that the encoder's vocabulary lacks may still differ here: another
    encoder can tell them apart.

    Source:
        Devlin et al. (2019), "BERT", the normaliser and pre-tokeniser of the uncased models;
        Unicode Standard Annex 15, form NFKD.
    """
    return " ".join(text.translate(_FORMS).split())


class _Forms(dict[int, str]):
    """Code point → its normal form, computed on first use."""

    def __missing__(self, code_point: int) -> str:
        form = "".join(map(_form, unicodedata.normalize("NFKD", chr(code_point))))
        self[code_point] = form
        return form


_FORMS = _Forms()


def _form(character: str) -> str:
    """The normal form of a character that has no decomposition."""
    category = unicodedata.category(character)
    if character in "\t\n\r" or category.startswith("Z"):
        return " "
    if category.startswith("C") or category == "Mn" or character == "\ufffd":
        return ""
    ascii_sign = character.isascii() and not character.isalnum()
    code_point = ord(character)
    if (
        ascii_sign
        or category.startswith("P")
        or any(first <= code_point <= last for first, last in _IDEOGRAPHS)
    ):
        return f" {character} "
    return character.casefold()
