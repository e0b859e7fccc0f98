"""Train a network on one scan and reconstruct it, from Python, through Ptychodus' own WorkflowAPI.

    python examples/workflow_api.py SCAN RESULT [--settings examples/synthetic.ini]

SCAN is a directory with diffraction.h5 and product.h5, as Ptychodus saves them; RESULT receives the model,
the loss history and product.h5. Nothing here is particular to this package but the algorithm's name and its
settings: installed beside Ptychodus, it is found like a built-in reconstructor.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from ptychodus.api.io import save_product
from ptychodus.model import ModelCore

ALGORITHM = "ptychopinn-plugin_pinn"  # or "ptychopinn-plugin_supervised", where the object is known


def train_and_reconstruct(scan: Path, result: Path, settings: Path | None = None) -> Path:
    """Return the path of the product with the reconstructed object."""
    result.mkdir(parents=True, exist_ok=True)

    # The context manager runs the thread in which Ptychodus trains and reconstructs.
    with ModelCore(settings) as core:
        workflow = core.workflow_api
        if ALGORITHM not in workflow.available_reconstructors():
            raise SystemExit("Ptychodus does not find the plugin: run `ptychopinn-ptychodus doctor`.")

        # Settings can be changed here as in a file, group by group; the next run uses them.
        training = core.settings_registry["PtychoPINNPluginTraining"].parameters()
        print(f"Training for {training['Epochs'].get_value()} epochs.")

        # A product is positions, probe and object; it is bound to the patterns when it is loaded.
        diffraction = workflow.load_assembled_diffraction_data(scan / "diffraction.h5")
        product = workflow.load_product(scan / "product.h5", diffraction=diffraction)

        # block=True returns when the training is over, and raises what went wrong in it. The model is left in
        # `result`, and is the loaded one from then on: no need to open it to reconstruct.
        product.train_reconstructor_local(scan, result, algorithm=ALGORITHM, block=True)

        # To use a model of an earlier day, on this scan or another one like it:
        #     core.processing_core.processing_api.load_model_from_file(path, ALGORITHM)
        reconstructed = product.reconstruct_local(algorithm=ALGORITHM, block=True)

        # The object is on the grid of the product that went in: same shape, pixel size and centre.
        array = reconstructed.get_product().object_.get_array()
        print(f"Reconstructed an object of {array.shape[-2]} × {array.shape[-1]} pixels.")
        save_product(result / "product.h5", reconstructed.get_product())

    return result / "product.h5"


def main() -> None:
    parser = argparse.ArgumentParser(description="Train and reconstruct through Ptychodus' WorkflowAPI.")
    parser.add_argument("scan", type=Path)
    parser.add_argument("result", type=Path)
    parser.add_argument("--settings", type=Path)
    arguments = parser.parse_args()
    print(f"Result: {train_and_reconstruct(arguments.scan, arguments.result, arguments.settings)}")


# The guard matters wherever processes are started: a script without one may run twice.
if __name__ == "__main__":
    main()
