"""Simulate a scan, train a network on it, reconstruct, refine further, and draw: a minute, and no Ptychodus.

python examples/script.py
"""

import matplotlib.pyplot as plt
import numpy as np

import ptychopinn_ptychodus as pp


class Print(pp.Observer):
    """Says how far it is."""

    def on_epoch(self, report: pp.EpochReport | pp.RefinementReport) -> None:
        print(f"epoch {report.epoch}/{report.nepochs}, {report.seconds_left:.0f} s left")


x, y = pp.raster_positions(8, 8, step=6.0, origin=38.0)
truth = pp.make_object((120, 120), kind="siemens", seed=0)
scan = pp.simulate_scan(truth, pp.make_probe(64), x, y, photons=1e6, seed=0)

model = pp.train(scan, pp.default_training_config(scan, nepochs=2), observer=Print())
result = pp.reconstruct(scan, model)
refined = pp.refine(scan, result, pp.RefinementConfig(epochs=10))
assert result.network is not None
assert refined.verdict is not None
print(refined.verdict.text)

lit = pp.illumination_mask(scan.probeGuess, x, y, truth.shape)
images = {"network": result.network, "result": result.object, "refined further": refined.object}
figure, axes = plt.subplots(2, len(images), figsize=(9, 6), constrained_layout=True)
for (name, image), (amplitude, phase) in zip(images.items(), axes.T, strict=True):
    correlation = pp.compare(image, truth, lit).complex_correlation_centred
    print(f"{name}: correlation with the truth {correlation:.3f}")
    amplitude.imshow(np.abs(image), cmap="gray")
    phase.imshow(np.angle(image), cmap="twilight")
    amplitude.set_title(f"{name}: {correlation:.3f}")
figure.savefig("object.png")
