"""What a training is like where nobody says otherwise: in the plugin's settings and in the Python interface.

The defaults of the configuration (:mod:`.config`) are those of the PtychoPINN community. These are tuned for
one scan and two CPU cores; they decide how well and how fast a training succeeds out of the box.
"""

DEFAULT_ARCHITECTURE = "unrolled"
DEFAULT_GRID_SIZE = 2
DEFAULT_EPOCHS = 6
DEFAULT_BATCH_SIZE = 4
DEFAULT_LEARNING_RATE = 2e-3
DEFAULT_SCHEDULER = "one_cycle"
DEFAULT_GRADIENT_CLIP = 1.0
DEFAULT_PROBE_MODES = 3
DEFAULT_MAE_WEIGHT = 0.0
DEFAULT_NLL_WEIGHT = 1.0
DEFAULT_TV_WEIGHT = 0.0
DEFAULT_OBJECT_MAE_WEIGHT = 0.0
DEFAULT_EARLY_STOP_PATIENCE = 100
