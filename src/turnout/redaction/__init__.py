"""Text → the same text without what identifies people or opens doors; knows no column.

By form: it finds what has one (addresses, keys, paths, what stands after the word "password"),
never names in prose. Every form is linear in the text's length.
"""

from __future__ import annotations

from collections import Counter

from turnout.redaction import addresses, keys, user_names

# In this order: a key inside a URL must go before the address around it is looked at.
_FORMS = keys.FORMS + addresses.FORMS + user_names.FORMS


def redacted(text: str, found: Counter[str]) -> str:
    """The text with every find replaced by what it was, such as `<EMAIL>`.

    Redacting twice changes nothing more.

    Args:
        text: Any text.
        found: Kind → how often, added to.
    """
    lowered = text.lower()
    for form in _FORMS:
        if form.may_be_in(lowered):
            text = form.replaced_in(text, found)
    return text
