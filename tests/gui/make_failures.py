"""What the window does when things go wrong, one scenario in one process, with pictures.

    python tests/gui/make_failures.py SCENARIO OUT

needs a display, as ``make_screenshots.py`` does. Exit code 3: a step did not go as it should; the reason is
on standard error. ``CLOSING_BACKEND=pytorch`` has ``closing`` happen to that engine, not to a fake one.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from pathlib import Path

import failures
import failures_plugins
from stage import Stage

SCENARIOS = {
    "no-framework": failures.no_framework,
    "killed": failures.killed,
    "full-disk": failures.full_disk,
    "wrong-model": failures.wrong_model,
    "no-model": failures.no_model,
    "closing": failures.closing,
    "two-cores": failures_plugins.two_cores,
    "other-plugins": failures_plugins.other_plugins,
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("scenario", choices=SCENARIOS)
    parser.add_argument("output", type=Path, help="directory for the pictures")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        return SCENARIOS[arguments.scenario](Stage(Path(scratch), arguments.output.absolute()))


if __name__ == "__main__":
    os.environ.setdefault("QT_QPA_PLATFORM", "xcb")
    raise SystemExit(main())
