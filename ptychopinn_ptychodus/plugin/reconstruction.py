"""A reconstruction, as the application sees it: progress while it runs, and its products."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ptychodus.api.product import Product
from ptychodus.api.reconstruct import ReconstructInput, ReconstructOutput

from ..backends.base import EpochReport
from ..data.estimate import Estimate
from ..data.examination import Report
from ..formatting import duration
from ..ptychodus_io.names import GOAL, NETWORK_DONE
from ..ptychodus_io.product_geometry import object_pixel_m
from ..refinement import RefinementReport
from ..worker.job import (
    DATA_DIRECTORY,
    NETWORK_DIRECTORY,
    REFINED_DIRECTORY,
    START_DIRECTORY,
    ReconstructJob,
    RefineJob,
)
from ..worker.running import ChildRun, JobObserver
from ..worker.warm import WarmWorker
from .settings import (
    PluginSettings,
    make_config_without_model,
    make_examination_config,
    make_execution_config,
    make_reconstruction_request,
    make_refinement_config,
    naming_settings,
)
from .shown import ConfidenceFiles, Shown, Task


def make_reconstruct_job(
    settings: PluginSettings,
    model_type: str,
    shape: tuple[int, int],
    *,
    backend: str,
    model_path: Path,
    log_level: int,
    pixel_m: float | None = None,
) -> ReconstructJob:
    """The job that the settings stand for, for an object of ``shape``, (H, W) pixels of ``pixel_m``.

    Raises
    ------
    ValueError
        If a setting is not valid; the message names it.
    """
    return ReconstructJob(
        asked=make_reconstruction_request(settings, backend=backend, model_path=model_path),
        execution=make_execution_config(settings),
        refinement=make_refinement_config(settings),
        model_type=model_type,
        shape=shape,
        log_level=log_level,
        probe_modes=settings.value("Training.ProbeModes"),
        examination=make_examination_config(settings),
        pixel_m=pixel_m,
        find_probe=settings.value("Training.ProbeTrainable"),
    )


class _Run(JobObserver):
    """One run in a child process, as the window sees it.

    Parameters
    ----------
    settings
        Read anew for this run.
    shown
        What the window shows of it.
    task
        The application's task, which may be stopped.
    logger
        The library's.
    warm
        Where its process comes from, and waits for the next run.
    """

    def __init__(
        self,
        settings: PluginSettings,
        shown: Shown,
        task: Task,
        logger: logging.Logger,
        warm: WarmWorker | None = None,
    ) -> None:
        self._settings = settings
        self._shown = shown
        self._task = task
        self._logger = logger
        self._warm = warm
        self._product: Product

    def _refined(self, directory: Path, result: dict[str, Any], origin: str) -> Product:
        """The product with what the refinement has left; ``origin`` says in words what it started from."""
        from ..ptychodus_io.products import with_refinement

        found = Estimate.load(directory / REFINED_DIRECTORY)
        return with_refinement(self._product, found, result, origin, self._shown.findings, self._logger)

    # ---- what the run tells and asks

    def on_progress(self, fraction: float) -> None:
        self._task.show_progress(fraction)

    def on_findings(self, findings: Report) -> None:
        self._shown.add_findings(findings)

    def on_epoch(self, report: EpochReport | RefinementReport) -> None:
        assert isinstance(report, RefinementReport)
        self._shown.refinement = report
        self._logger.info(
            "Refinement, epoch %d/%d: normalised error %.4g, %.0f patterns/s, %s left",
            report.epoch,
            report.nepochs,
            report.error,
            report.patterns_per_second,
            duration(report.seconds_left),
        )

    def should_stop(self) -> bool:
        return self._task.should_stop()


class ReconstructionRun(_Run):
    """One reconstruction with a model of ``model_type``, ``"pinn"`` or ``"supervised"``."""

    def __init__(
        self,
        settings: PluginSettings,
        model_type: str,
        shown: Shown,
        task: Task,
        logger: logging.Logger,
        warm: WarmWorker | None = None,
    ) -> None:
        super().__init__(settings, shown, task, logger, warm)
        self._model_type = model_type
        self._model_path: Path
        self._after_network: ReconstructOutput | None = None

    def outputs(
        self, parameters: ReconstructInput, model_path: Path, backend: str
    ) -> Iterator[ReconstructOutput]:
        """Reconstruct with the model at ``model_path``, and yield the network's product and the refined one.

        Few outputs: each one is a file without the window, and freezes the window for a second.
        """
        # imported here: the application does not wait for it when it starts
        from ..ptychodus_io.ingest import from_reconstruct_input
        from ..ptychodus_io.pattern_size import product_for

        self._shown.show_findings(Report())
        self._shown.refinement = None
        self._shown.show_confidence(None)
        product = product_for(parameters, make_examination_config(self._settings))
        self._product, self._model_path = product, model_path
        shape = (product.object_.height_px, product.object_.width_px)
        job = make_reconstruct_job(
            self._settings,
            self._model_type,
            shape,
            backend=backend,
            model_path=model_path,
            log_level=self._logger.getEffectiveLevel(),
            pixel_m=object_pixel_m(product)[0],
        )
        raw = from_reconstruct_input(parameters, with_object=False, examination=job.examination)
        raw.require_inside(shape)
        patterns = raw.n_patterns
        scans = [raw]
        del raw
        run = ChildRun(job, self, self._logger, self._warm)
        # popped: what the worker has need not be held here as well
        with (
            naming_settings(),
            run.started(lambda directory: scans.pop().to_directory(directory / DATA_DIRECTORY)),
        ):
            started = time.monotonic()
            for _ in run.steps():
                yield from self._new_outputs()
            yield from self._new_outputs()  # what a stopped run still had to say
            if not run.is_complete:
                self._logger.warning("Reconstruction stopped: there is no further result.")
                return
            assert run.result is not None
            self._shown.show_confidence(ConfidenceFiles.read(run.directory))
            last = self._last_product(run.directory, run.result, refined=job.refinement is not None)
        if last is None:
            self._logger.warning("Stopped before an epoch of refinement was over: it has no result.")
            return
        self._logger.info("Reconstructed from %d patterns in %.1f s.", patterns, time.monotonic() - started)
        yield ReconstructOutput(last, GOAL)

    def _new_outputs(self) -> Iterator[ReconstructOutput]:
        output, self._after_network = self._after_network, None
        if output is not None:
            yield output

    def _last_product(self, directory: Path, result: dict[str, Any], *, refined: bool) -> Product | None:
        """The product with what has been found in the end; None if nothing was, beyond the network's."""
        if not refined:
            return self._network_product(directory, result["history"])
        if not result["errors"]:
            return None
        return self._refined(directory, result, f"network, {self._model_path.name}")

    def _network_product(self, directory: Path, history: dict[str, list[float]]) -> Product:
        from ..ptychodus_io.products import with_network

        found = Estimate.load(directory / NETWORK_DIRECTORY)
        return with_network(
            self._product, found, history, self._model_path, self._shown.findings, self._logger
        )

    def on_network(self, directory: Path, history: dict[str, list[float]]) -> None:
        self._after_network = ReconstructOutput(self._network_product(directory, history), NETWORK_DONE)


_ORIGINS = {"flat": "flat object", "object": "the product's object"}


class RefinementRun(_Run):
    """One reconstruction without a model."""

    def outputs(self, parameters: ReconstructInput) -> Iterator[ReconstructOutput]:
        """Find the object, and yield the product with it."""
        from ..ptychodus_io.ingest import from_reconstruct_input
        from ..ptychodus_io.pattern_size import product_for

        self._shown.show_findings(Report())
        self._shown.refinement = None
        self._shown.show_confidence(None)
        examination = make_examination_config(self._settings)
        self._product = product_for(parameters, examination)
        start = self._settings.choice("WithoutModel.Start")
        raw = from_reconstruct_input(parameters, with_object=True, examination=examination)
        assert raw.objectGuess is not None
        raw.require_inside((raw.objectGuess.shape[0], raw.objectGuess.shape[1]))
        job = RefineJob(
            refinement=make_config_without_model(self._settings, len(raw.probeGuess)),
            execution=make_execution_config(self._settings),
            log_level=self._logger.getEffectiveLevel(),
            examination=examination,
            start=start,
            pixel_m=object_pixel_m(self._product)[0],
        )
        patterns = raw.n_patterns
        scans = [raw]
        del raw

        def hand_over(directory: Path) -> None:
            scan = scans.pop()  # what the worker has need not be held here as well
            assert scan.objectGuess is not None
            Estimate(scan.objectGuess, scan.probeGuess).save(directory / START_DIRECTORY)
            scan.objectGuess = None
            scan.to_directory(directory / DATA_DIRECTORY)

        run = ChildRun(job, self, self._logger, self._warm)
        with naming_settings(), run.started(hand_over):
            started = time.monotonic()
            for _ in run.steps():
                pass  # there is nothing to show before the end; should_stop looks at Stop
            if not run.is_complete:
                self._logger.warning("Reconstruction stopped: there is no result.")
                return
            assert run.result is not None
            if not run.result["errors"]:
                self._logger.warning("Stopped before an epoch was over: there is no result.")
                return
            self._shown.show_confidence(ConfidenceFiles.read(run.directory))
            last = self._refined(run.directory, run.result, _ORIGINS[run.result["start"]])
        self._logger.info("Reconstructed from %d patterns in %.1f s.", patterns, time.monotonic() - started)
        yield ReconstructOutput(last, GOAL)
