"""How many scans a training set holds, and over what they range."""

from __future__ import annotations

from dataclasses import dataclass

from ..validation import check, integer, pattern_size, real

FEWEST_POSITIONS = 4


@dataclass(frozen=True)
class PretrainingConfig:
    """What :func:`.scans.make_training_set` makes.

    Attributes
    ----------
    scans, validation_scans
        Number of scans, each of an object of its own: to learn from, and to see how well it goes.
    size
        N, edge of a pattern, pixels.
    positions
        Positions of a scan along each axis.
    gridsize, neighbor_count
        Groups, as everywhere.
    visits
        Groups that a pattern is in, on average.
    least_photons, most_photons
        Limits of the mean number of photons of a pattern, drawn evenly on a logarithmic scale.
    most_modes
        Incoherent modes that a made probe has at most, as of a beam that is partly coherent; given probes
        stay as they are.
    probe_errors
        Part of the scans, 0 to 1, whose probe is shown to the network with errors, see
        :func:`.probes.rough_probe`; their patterns are of the true one, and so is the objective.
    least_step, most_step
        Limits of the distance of neighbouring positions, as a part of the probe's width, see
        :func:`.probe_width`. Groups have to overlap, which may make them smaller.
    seed
        Of everything that is random.
    """

    scans: int = 256
    validation_scans: int = 16
    size: int = 64
    positions: int = 8
    gridsize: int = 3
    neighbor_count: int = 12
    visits: int = 2
    least_photons: float = 3e4
    most_photons: float = 1e7
    most_modes: int = 1
    probe_errors: float = 0.0
    least_step: float = 0.08
    most_step: float = 0.35
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("scans", "validation_scans", "gridsize", "visits", "most_modes"):
            integer(self, name, 1)
        integer(self, "positions", FEWEST_POSITIONS)
        integer(self, "neighbor_count", self.gridsize**2 - 1)
        integer(self, "seed", 0)
        pattern_size(self, "size")
        for name in ("least_photons", "most_photons", "least_step", "most_step"):
            real(self, name, exclusive=True)
        for least, most in (("least_photons", "most_photons"), ("least_step", "most_step")):
            allowed = f"a number not below {least} = {getattr(self, least):g}"
            check(getattr(self, most) >= getattr(self, least), self, most, allowed)
        real(self, "probe_errors")
        check(self.probe_errors <= 1, self, "probe_errors", "a number from 0 to 1")
        # beyond that, the members of a group need not overlap
        check(self.most_step <= 0.5, self, "most_step", "a number <= 0.5")
        available = self.positions**2
        check(
            self.gridsize**2 <= available,
            self,
            "gridsize",
            f"at most {self.positions} with so many positions",
        )

    @property
    def groups_per_scan(self) -> int:
        """Number of groups drawn from each scan."""
        return max(1, round(self.visits * self.positions**2 / self.gridsize**2))
