"""The Python packages that are installed, as a ``requirements.txt``."""

from __future__ import annotations

import re
from collections.abc import Iterable
from importlib.metadata import Distribution, distributions

from wandbkeras.store.checks import readable

FRAMEWORKS = ("keras", "tensorflow", "jax", "torch", "tf_keras")
_HEADER = re.compile(r"^(Name|Version):[ \t]*(\S.*?)[ \t]*$", re.MULTILINE)


def installed() -> dict[str, str]:
    """Return name to version of what can be imported, the first of a name as Python finds it."""
    found: dict[str, tuple[str, str]] = {}
    for name, version in _named(distributions()):
        found.setdefault(re.sub(r"[-_.]+", "-", name).lower(), (name, version))
    return dict(found[key] for key in sorted(found))


def requirements(packages: dict[str, str]) -> bytes:
    """Return the packages as pip reads them.

    >>> requirements({"keras": "3.11.0", "numpy": "2.1"})
    b'keras==3.11.0\\nnumpy==2.1\\n'
    """
    return "".join(f"{name}=={version}\n" for name, version in packages.items()).encode()


def _named(found: Iterable[Distribution]) -> Iterable[tuple[str, str]]:
    for distribution in found:
        # Only the first lines are of interest: parsing all of them takes five times as long.
        text = distribution.read_text("METADATA") or distribution.read_text("PKG-INFO") or ""
        fields = dict(reversed(_HEADER.findall(text.partition("\n\n")[0])))
        if fields.keys() == {"Name", "Version"}:
            yield readable(fields["Name"]), readable(fields["Version"])
