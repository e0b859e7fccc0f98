"""How often a sound scan is accused, and how often a fault is found.

    python benchmarks/examination.py [--scans 300] [--first 1000] [--patterns 64]

Scans are simulated from seeds, of many kinds each (``_odd_scans.py``): probes in and out of focus, pinholes,
zone plates; weak, strong, absorbing and lone objects, gratings; 1e2 to 1e7 photons a pattern; rasters, random
positions, lines and regions apart; masked gaps, beamstops and hot pixels; probes that are known badly. Each
is examined as it is, which must give no warning, and once with each fault, which must give the warning for
it.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Mapping

from _tables import print_header, use_one_thread

use_one_thread()

import logging

import numpy as np
from _odd_scans import FAULTS, MadeScan, sound_scan

from ptychopinn_ptychodus.data.examination import ExaminationConfig, ExaminationError, Finding
from ptychopinn_ptychodus.data.examination.scan import examine_scan
from ptychopinn_ptychodus.data.raw import RawData

CODES: Mapping[str, tuple[str, ...]] = {
    "stuck_at_type_maximum": ("stuck-pixels",),
    "negative_sentinel": ("stuck-pixels",),
    "not_a_number": ("stuck-pixels",),
    "hot_pixels": ("hot-pixels",),
    "dead_pixels": ("dead-pixels",),
    "clipped": ("clipped",),
    "mask_inverted": ("inverted-mask",),
    "corner_centred": ("corner-centred",),
    "off_centre": ("off-centre",),
    "counts_as_amplitude": ("values-are-counts",),
    "amplitude_as_counts": ("values-are-amplitude",),
    "dark_frames": ("dark-frames",),
    "flash_frames": ("flash-frames",),
    "positions_within_a_pixel": ("positions-within-a-pixel",),
    "positions_far_apart": ("positions-far-apart",),
}
"""Findings that name a fault."""


def findings(scan: MadeScan) -> tuple[Finding, ...]:
    """Everything that is found in a scan, whether it is refused or not."""
    config = ExaminationConfig()
    try:
        raw = RawData(**scan.fields, examination=config)
        return examine_scan(raw, config)[1].findings
    except ExaminationError as error:
        return error.report.findings
    except ValueError as error:  # other errors than those of the examination
        logging.error("%s: %s", scan.kinds, error)
        return ()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--scans", type=int, default=300)
    parser.add_argument("--first", type=int, default=1000, help="seed of the first scan")
    parser.add_argument("--patterns", type=int, default=64)
    parser.add_argument("--verbose", action="store_true", help="name what was accused or missed")
    options = parser.parse_args()
    logging.disable(logging.WARNING)
    accused: Counter[str] = Counter()
    found: Counter[str] = Counter()
    sound = 0
    for seed in range(options.first, options.first + options.scans):
        scan = sound_scan(seed, patterns=options.patterns)
        warnings = {finding.code for finding in findings(scan) if finding.is_warning}
        accused.update(warnings)
        sound += not warnings
        if warnings and options.verbose:
            print("accused", seed, sorted(warnings), *scan.kinds.values())
        for name, fault in FAULTS.items():
            codes = {finding.code for finding in findings(fault(scan, np.random.default_rng([seed, 30])))}
            hit = bool(codes & set(CODES[name]))
            found[name] += hit
            if not hit and options.verbose:
                print("missed", seed, name, sorted(codes), *scan.kinds.values())
    print_header(["numpy", "scipy"])
    print(f"Sound scans without a warning: {sound} of {options.scans}")
    for code, number in sorted(accused.items()):
        print(f"    accused of {code}: {number}")
    print()
    print("| fault | found in |")
    print("| --- | --- |")
    for name in FAULTS:
        print(f"| {name.replace('_', ' ')} | {found[name]} of {options.scans} |")


if __name__ == "__main__":
    main()
