"""Makes the product that a reconstruction returns: the one that it was given, with what was found."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from ptychodus.api.object import Object
from ptychodus.api.probe import ProbeSequence
from ptychodus.api.probe_positions import ProbePosition, ProbePositionSequence
from ptychodus.api.product import LossValue, Product

from ..data.estimate import Estimate
from ..data.examination import Report
from ..formatting import counted
from .ingest import object_positions, position_m

SIGNATURE = "ptychopinn-ptychodus: "
"""Beginning of the lines that this package writes into the comments of a product."""

_POSITIONS = "positions refined"


def with_network(
    product: Product,
    found: Estimate,
    history: Mapping[str, Sequence[float]],
    model_path: Path,
    findings: Report,
    logger: logging.Logger,
) -> Product:
    """``product`` with the network's object, the model's probe in counts, and its training losses.

    ``findings`` go into its comments.
    """
    losses = history.get("train_loss", [])
    weights = product.probes.get_opr_weights_or_none()
    return _with(product, found, losses, f"network only, {model_path.name}", weights, findings, logger)


def with_refinement(
    product: Product,
    found: Estimate,
    result: Mapping[str, Any],
    origin: str,
    findings: Report,
    logger: logging.Logger,
) -> Product:
    """``product`` with the refined object, probe and positions, and the error of each epoch.

    ``result`` is the worker's message: ``errors`` by epoch, ``start_error``, ``error``, and whether nothing
    was better than the start, ``kept_start``, or the object is held by a prior, ``denoised``. ``origin`` says
    in words what the refinement started from. ``findings`` go into the comments.
    """
    epochs = counted(len(result["errors"]), "epoch")
    logger.info(
        "Normalised error: %.4g of the %s, %.4g after %s of refinement.",
        result["start_error"],
        origin.removeprefix("the ").partition(",")[0],
        result["error"],
        epochs,
    )
    how = f"{origin}, then {epochs} of refinement"
    if found.positions is not None:
        how += f", {_POSITIONS}"
    if result["denoised"]:
        how += ", its object held by a prior (total variation); Refinement.Prior = off gives it without"
    if result["kept_start"]:
        how += ", which did not improve it"
        logger.warning("Refinement has not improved on what it started from, which is handed over again.")
    # without weights, since the probe was fitted as the same at all positions
    return _with(product, found, result["errors"], how, None, findings, logger)


def _with(
    product: Product,
    found: Estimate,
    losses: Sequence[float],
    how: str,
    opr_weights: NDArray[Any] | None,
    findings: Report,
    logger: logging.Logger,
) -> Product:
    """``how`` replaces an earlier line of this kind in the comments, which is true of another object."""
    lines = product.metadata.comments.splitlines()
    earlier = [line for line in lines if line.startswith(SIGNATURE)]
    positions = product.probe_positions
    if found.positions is not None:
        positions = _moved(product, found.positions)
    elif any(_POSITIONS in line for line in earlier):
        how += f"; {_POSITIONS} before"
    about = [f"{SIGNATURE}{line}" for line in (how, *findings.lines())]
    comments = [*(line for line in lines if line not in earlier), *about]
    return Product(
        metadata=dataclasses.replace(product.metadata, comments="\n".join(comments)),
        probe_positions=positions,
        probes=_probes(product.probes, found.probe, opr_weights, logger),
        object_=Object(
            array=found.object[np.newaxis].astype(product.object_.dtype, copy=False),
            pixel_geometry=product.object_.get_pixel_geometry(),
            center=product.object_.get_center(),
            layer_spacing_m=[],
        ),
        losses=[LossValue(epoch, float(value)) for epoch, value in enumerate(losses, start=1)],
    )


def _moved(product: Product, positions: NDArray[np.float64]) -> ProbePositionSequence:
    """The product's positions, in metres, moved to ``positions`` (M, 2) [x, y] in pixels of its object."""
    pixel = product.object_.get_pixel_geometry()
    pixels = (pixel.width_m, pixel.height_m)
    moves_m = (positions - np.stack(object_positions(product), axis=-1)) * pixels
    moved = []
    for before, move_m in zip(product.probe_positions, moves_m.tolist(), strict=True):
        x_m, y_m = (old + more for old, more in zip(position_m(before), move_m, strict=True))
        # by position: Ptychodus 1.5 has other names for these
        photons = getattr(before, "probe_photon_count", None)
        moved.append(ProbePosition(before.index, x_m, y_m, *([] if photons is None else [photons])))
    return ProbePositionSequence(moved)


def _probes(
    before: ProbeSequence,
    modes: NDArray[Any],
    opr_weights: NDArray[Any] | None,
    logger: logging.Logger,
) -> ProbeSequence:
    """The product's probe, replaced by the one that was found.

    Weights of an orthogonal probe relaxation are left out: they belong to eigenprobes that it does not have.
    """
    if before.num_coherent_modes > 1:
        logger.info(
            "The product's %d OPR modes and their weights are left out: the model has one probe for all "
            "positions.",
            before.num_coherent_modes,
        )
        opr_weights = None
    return ProbeSequence(
        array=modes[np.newaxis].astype(before.dtype, copy=False),
        opr_weights=opr_weights,
        pixel_geometry=before.get_pixel_geometry(),
    )
