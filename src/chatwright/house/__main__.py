"""`python -m chatwright.house check DIR`: validate a house's sheet, with counts per kind and part. For authors."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from chatwright.errors import ChatwrightError
from chatwright.house.check import check_house


def main(argv: list[str] | None = None) -> int:
    """Run the command. Returns the exit status: 1 when the sheet has a problem."""
    parser = argparse.ArgumentParser(prog="python -m chatwright.house", description="Validate a house's sheet.")
    parser.add_argument("command", choices=["check"])
    parser.add_argument("folder", type=Path, help="folder with facts.jsonl or facts.csv, or the sheet itself")
    parser.add_argument("--language", default="", help="en or zh (default: the folder's name if it is one, else en)")
    parser.add_argument("--split", action="store_true", help="print every question that is not sealed, with its part")
    parser.add_argument("--quota", action="store_true", help="demand the numbers of the bundled houses")
    arguments = parser.parse_args(argv)
    try:
        report = check_house(arguments.folder, arguments.language, quota=arguments.quota)
    except ChatwrightError as error:
        print(error, file=sys.stderr)
        return 1
    print(report.text(with_split=arguments.split))
    return 1 if report.problems else 0


if __name__ == "__main__":
    sys.exit(main())
