"""`python -m chatwright.feedback.dashboard_job FOLDER`: the dashboard of a large project, measured outside the server.

The question comes on stdin as JSON: project, labeller_kinds, held_out. The dashboard goes to stdout as JSON. The database's
address is in CHATWRIGHT_DATABASE_URL.
"""

from __future__ import annotations

import json
import os
import sys
from dataclasses import asdict

from chatwright.feedback.dashboard import dashboard
from chatwright.workspace.database import Workspace


def main(folder: str) -> None:
    """Measure, and write the answer."""
    asked = json.load(sys.stdin)
    with Workspace.open(folder, os.environ.get("CHATWRIGHT_DATABASE_URL", "")) as workspace, workspace.reading() as session:
        found = dashboard(
            session, asked["project"], labeller_kinds=asked["labeller_kinds"], held_out=asked["held_out"] or None
        )  # fmt: skip
    json.dump(asdict(found), sys.stdout)


if __name__ == "__main__":
    main(sys.argv[1])
