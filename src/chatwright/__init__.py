"""Chatwright: align an open language model with human feedback, on one page of code per method.

    lm = chatwright.load("smollm2-135m-instruct")
    lm.generate(["What is gravity?"], max_new_tokens=64)[0].text

Importing the package loads no torch; `load` does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from chatwright.generation.lm import LM as LM
    from chatwright.generation.lm import load as load

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    if name in ("load", "LM"):
        from chatwright.generation import lm

        return getattr(lm, name)
    raise AttributeError(f"module 'chatwright' has no attribute {name!r}")
