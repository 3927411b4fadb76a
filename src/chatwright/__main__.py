"""`python -m chatwright`."""

from __future__ import annotations

from chatwright.cli import entry

if __name__ == "__main__":
    entry()
