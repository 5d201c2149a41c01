"""Replaces secrets, and what identifies people, in texts.

It finds known forms (addresses, keys, paths, what follows the word "password"), not names in prose.
Every pattern takes time linear in the text's length.
"""

from __future__ import annotations

from collections import Counter

from turnout.redaction import addresses, keys, user_names

# In this order: a key inside a URL is replaced before the address around it.
_FORMS = keys.FORMS + addresses.FORMS + user_names.FORMS


def redacted(text: str, counts: Counter[str]) -> str:
    """The text with every secret and identity replaced by its kind, such as `<EMAIL>`.

    Redacting twice changes nothing more.

    Args:
        text: Any text.
        counts: Kind → how often it was replaced; added to.
    """
    lowered = text.lower()
    for form in _FORMS:
        if form.may_be_in(lowered):
            text = form.replaced_in(text, counts)
    return text
