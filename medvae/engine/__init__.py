"""Layer C: training, calibration, detection and evaluation, on top of data and model."""
