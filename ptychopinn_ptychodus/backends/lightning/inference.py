"""Applying a trained model to grouped data: the choice of a device, batches that fit it, and patches."""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Subset

from ...config import ExecutionConfig
from ...data import large_arrays
from ...data.container import PtychoDataContainer
from ..base import OnProgress, Prediction, ShouldStop
from ..batch_size import forwards, in_batches_that_fit
from ..devices import Results, devices_each, fill, require_devices
from ..kept import kept_model
from ..physics import probe_factor, require_fit
from .assembly import TorchArithmetic
from .checkpoint import open_model
from .loaders import GroupDataset, build_loader
from .names import NAME

if TYPE_CHECKING:  # what stands under this name may be replaced, and is looked up where it is called
    from .module import PtychoPINN_Lightning


def available_devices() -> list[str]:
    """Names of the devices usable on this machine, as PyTorch has them, best first; the last is ``"cpu"``."""
    devices = []
    if torch.cuda.is_available():
        devices.append("cuda")
    if torch.backends.mps.is_available():
        devices.append("mps")
    return [*devices, "cpu"]


def choose_device(accelerator: str) -> torch.device:
    """The device that the ``accelerator`` setting stands for.

    Raises
    ------
    RuntimeError
        If the device is not there; the message lists those that are.
    """
    devices = available_devices()
    if accelerator == "auto":
        return torch.device(devices[0])
    if accelerator == "gpu" and devices[0] != "cpu":
        return torch.device(devices[0])
    if accelerator not in devices:
        raise RuntimeError(
            f"Accelerator {accelerator!r} is selected, but this machine offers {', '.join(devices)}. "
            "Select one of these or 'auto'."
        )
    return torch.device(accelerator)


def choose_devices(execution: ExecutionConfig) -> list[torch.device]:
    """The devices that a model is applied on, of which the CPU may be several: each is a part of its cores.

    Raises
    ------
    RuntimeError
        As :func:`choose_device`.
    ValueError
        If there are fewer of them than ``execution`` asks for.
    """
    first, count = choose_device(execution.accelerator), devices_each(execution)
    if count == 1 or first.type == "cpu":
        return [first] * count
    if first.type != "cuda":
        require_devices(count, 1, f"device of the kind {first.type!r}")
    require_devices(count, torch.cuda.device_count(), "GPUs")
    return [torch.device("cuda", number) for number in range(count)]


def predict_with(
    model_path: Path,
    container: PtychoDataContainer,
    execution: ExecutionConfig,
    *,
    on_progress: OnProgress | None = None,
    should_stop: ShouldStop | None = None,
) -> Prediction:
    """Open the model at ``model_path`` and apply it, see :func:`predict`; for errors, :func:`.open_model`."""
    module = kept_model.opened(
        model_path,
        (NAME, execution),
        lambda: open_model(model_path, container),
        lambda module: not module.data_config.any_probe,
    )
    return predict(module, container, execution, on_progress=on_progress, should_stop=should_stop)


def predict(
    module: PtychoPINN_Lightning,
    container: PtychoDataContainer,
    execution: ExecutionConfig,
    *,
    on_progress: OnProgress | None = None,
    should_stop: ShouldStop | None = None,
) -> Prediction:
    """Give the patches of every group in ``container``, and the probe that goes with them.

    The patches are those of :func:`predict_patches`, which says what the parameters are and what is raised.
    The probe is (modes, N, N) complex64 in the scale of counts: the sum of ``Σ_m |probe_m|²`` over its pixels
    is the number of photons of a whole pattern. It is as bright as the beam was for this container, which
    need not be that of the training data.
    """
    patches = predict_patches(module, container, execution, on_progress=on_progress, should_stop=should_stop)
    device = module.log_scale.device
    # on a CPU numpy is faster, and Apple's devices lack some of what it takes
    arithmetic = TorchArithmetic(device).functions() if device.type == "cuda" else None
    probe = module.counts_probe().detach().cpu() * probe_factor(module.data_config, container)
    return Prediction(patches, probe.numpy(), arithmetic)


def predict_patches(
    module: PtychoPINN_Lightning,
    container: PtychoDataContainer,
    execution: ExecutionConfig,
    *,
    on_progress: OnProgress | None = None,
    should_stop: ShouldStop | None = None,
) -> NDArray[np.complex64]:
    """Compute the object patches of every group in ``container``.

    Parameters
    ----------
    module
        The trained model, which is moved to the device. It normalises the patterns as those that it was
        trained on.
    container
        Grouped data: B groups of C patterns, N × N pixels.
    execution
        The devices (``accelerator``, ``devices``), the precision, and how many groups are a batch
        (``inference_batch_size``; None finds out how many fit). Each of several devices has other batches,
        and the patches are those of one.
    on_progress
        Called after every batch with the part of the groups that is done, 0 to 1.
    should_stop
        Asked before every batch.

    Returns
    -------
    ndarray
        (B, C, N, N) complex64: the transmission (no unit) around the position of each pattern, in pixels of
        the object.

    Raises
    ------
    ModelFileError
        If the model was made for another N or gridsize than the container has.
    InterruptedError
        If ``should_stop`` answered True.
    RuntimeError
        If the device is not there, or has too little memory; if one of several fails, it is named.
    ValueError
        If there are fewer devices than ``execution`` asks for.
    NoRoomError
        If there is no room for the patches, see :func:`.large_arrays.empty`.
    """
    data = module.data_config
    require_fit(data, container)
    devices = choose_devices(execution)
    modules = [module.to(devices[0]).eval()]
    modules += [module if each == devices[0] else _twin(module, each) for each in devices[1:]]
    shape = (len(container), container.gridsize**2, data.N, data.N)
    patches = large_arrays.empty(shape, np.complex64, "The network's patches")
    tell = forwards(on_progress)

    def apply(batch_size: int) -> None:
        def on(module: PtychoPINN_Lightning) -> Results:
            return lambda chosen: _arriving(_results(module, container, execution, batch_size, chosen))

        with _cores_shared(devices):
            fill(
                patches,
                batch_size,
                [on(each) for each in modules],
                [str(each) for each in devices],
                tell=tell,
                should_stop=should_stop,
                out_of_memory=torch.OutOfMemoryError,
            )

    # Apple's share their memory with the machine, and do not say in so many words that it is full
    kind = "gpu" if devices[0].type == "cuda" else "cpu"
    in_batches_that_fit(apply, container, execution, kind, torch.OutOfMemoryError)
    return patches


def _twin(module: PtychoPINN_Lightning, device: torch.device) -> PtychoPINN_Lightning:
    """The same model on another device."""
    twin = type(module)(
        module.model_config, module.data_config, module.training_config, module.inference_config
    )
    twin.load_state_dict(module.state_dict())
    return twin.to(device).eval()


@contextlib.contextmanager
def _cores_shared(devices: list[torch.device]) -> Iterator[None]:
    """Have each of several devices that are the CPU compute in its part of the threads."""
    if len(devices) == 1 or devices[0].type != "cpu":
        yield
        return
    threads = torch.get_num_threads()
    torch.set_num_threads(max(1, threads // len(devices)))  # for threads that begin from now on
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _results(
    module: PtychoPINN_Lightning,
    container: PtychoDataContainer,
    execution: ExecutionConfig,
    batch_size: int,
    chosen: NDArray[np.int64],
) -> Iterator[Tensor]:
    """The patches of each batch of the ``chosen`` groups, (b, C, N, N) complex64, on the module's device."""
    device = module.log_scale.device
    data = Subset(GroupDataset(container, module.data_config.input_scale), chosen.tolist())
    # a loader without a seed draws one from the random numbers that a training in progress uses
    loader = build_loader(data, batch_size, execution, seed=0)
    dtype = {"16-mixed": torch.float16, "bf16-mixed": torch.bfloat16}.get(execution.precision)
    for batch in loader:
        with torch.inference_mode(), torch.autocast(device.type, dtype, enabled=dtype is not None):
            batch = batch.to(device)
            result: Tensor = module(batch["amplitude"], batch["offsets"])
        yield result


def _arriving(results: Iterator[Tensor]) -> Generator[NDArray[np.complex64]]:
    """The results as numpy arrays, in their order.

    A GPU's result is handed over once the next batch is under way there, so that the GPU never waits.
    """
    under_way: deque[tuple[Tensor, torch.cuda.Event]] = deque()
    for result in results:
        if not result.is_cuda:
            yield result.cpu().numpy()
            continue
        host = result.to("cpu", non_blocking=True)  # to pinned memory
        copied = torch.cuda.Event()  # type: ignore[no-untyped-call]
        copied.record(torch.cuda.current_stream(result.device))
        under_way.append((host, copied))
        if len(under_way) > 1:
            yield _landed(*under_way.popleft())
    for host, copied in under_way:
        yield _landed(host, copied)


def _landed(host: Tensor, copied: torch.cuda.Event) -> NDArray[np.complex64]:
    """What was copied from a GPU, once the copy is complete."""
    copied.synchronize()
    return host.numpy()
