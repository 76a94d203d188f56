"""Values of environment variables that look like keys are not recorded, wherever they turn up."""

from __future__ import annotations

import re
from collections.abc import Mapping

MASK = "***"
_NAME = re.compile(r"KEY|TOKEN|SECRET|PASS|JWT|CREDENTIAL|AUTH", re.IGNORECASE)
# Shorter ones turn up by chance, and so do these words.
_LEAST = 6
_WORDS = frozenset({"disabled", "enabled", "default", "required", "optional"})
# Of a value of which only the beginning has come yet, this much gives nothing away.
_HARMLESS = 3


def looks_secret(name: str) -> bool:
    """Whether a variable of this name holds a key.

    >>> looks_secret("WANDB_API_KEY"), looks_secret("db_password"), looks_secret("HOME")
    (True, True, False)
    """
    return _NAME.search(name) is not None


class Masking:
    """Hides the values in ``environ`` whose names look like keys, each of their lines.

    >>> masking = Masking({"API_TOKEN": "abcdef123"})
    >>> masking.hide("sent abcdef123 and abcdef"), masking.hide_unfinished("sent abcdef")
    ('sent *** and abcdef', 'sent ')
    """

    def __init__(self, environ: Mapping[str, str]) -> None:
        values = {
            line.strip()
            for name, value in environ.items()
            if looks_secret(name)
            for line in value.splitlines()
        }
        meant = (v for v in values if len(v) >= _LEAST and v.lower() not in _WORDS)
        # A value may hold another one.
        self._values = sorted(meant, key=len, reverse=True)

    def hide(self, text: str) -> str:
        """Return ``text`` with a mask in the place of each value."""
        for value in self._values:
            if value in text:
                text = text.replace(value, MASK)
        return text

    def hide_unfinished(self, text: str) -> str:
        """Return ``text`` likewise, without a value's beginning at its end: more is to come."""
        text = self.hide(text)
        for value in self._values:
            for size in range(min(len(value) - 1, len(text)), _HARMLESS, -1):
                if text.endswith(value[:size]):
                    return text[:-size]
        return text
