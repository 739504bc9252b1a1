"""What the scores and the trivial baselines are called, wherever people read of them.

Imports nothing, so that a page may use it before torch is there.
"""

LABELS = {
    "mse": "MSE",
    "kld": "KLD",
    "elbo": "MSE + beta × KLD",
    "ssim": "1 − SSIM",
    "residual": "Residual in the chest",
    "hotspots": "Strongest places",
    "shape": "Shape of the residual",
    "bands": "Residual by scale",
    "latent": "Latent distance",
    "features": "Feature distance",
    "regions": "Feature distance by region",
    "patches": "Patch map",
    "combined": "Combined evidence",
}
BASELINE_LABELS = {
    "brightness": "Baseline: mean brightness",
    "smoothness": "Baseline: lack of fine detail",
}
WORDS = LABELS | BASELINE_LABELS
