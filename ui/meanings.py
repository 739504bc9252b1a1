"""What each figure means, in one sentence for people who are no statisticians.

Imports nothing. Shown wherever the figure is, to whoever points at it, taps it or tabs to it.
"""

AUROC = (
    "Chance that a sick test image scores above a healthy one: 0.5 is guessing, 1 is perfect. "
    "In brackets the 95 % interval."
)
BUSY = "Share of the last second in which the device computed"
WAITING = "Share of this epoch in which the device had to wait for its next images"
MEMORY = "Memory that the training takes on its device"
SPEED = "Images that the network learns from in a second"
EPOCH = (
    "An epoch is one pass over all training images, or several over a small set; a step is one "
    "batch of them"
)
BEST_LOSS = (
    "Lowest mean loss on healthy validation images, which the model does not learn from: the "
    "smaller, the better it rebuilds healthy chests. That epoch's model is the one kept."
)
SCORE = (
    "How far this image is from what the model knows as healthy, in units of how much healthy "
    "images differ among each other. Above the threshold the image is called unusual."
)
P_VALUE = "Share of healthy images that would score at least this high"
ABOVE_HEALTHY = "Share of healthy validation images that score lower"
Z_SCORE = (
    "z-score: how far a place is from healthy ones, in units of how much healthy images differ "
    "there, by its difference from the healthy counterpart and by the patch map. What healthy "
    "images show too stays unpainted. The scale is the same for every image."
)
FALSE_ALARMS = (
    "Share of healthy images that you accept to be called unusual by mistake. The threshold "
    "follows from healthy validation images alone; verdicts change at once."
)
DISTANCE = (
    "How far the two codes are apart, in units of how much healthy images differ: about 1.4 for "
    "two healthy images picked at random"
)
SCORES = {
    "mse": "Squared error of the healthy counterpart, summed over all pixels",
    "kld": "How far the image's code lies from the typical healthy code, in nats",
    "elbo": "The training loss of this one image",
    "ssim": "How much the fine structure differs from the counterpart's: 0 is the same",
    "residual": "How much the image differs from its counterpart inside the chest",
    "hotspots": "How far the heatmap's strongest places inside the chest are from healthy ones",
    "shape": "Whether the differences are spread as in healthy images",
    "bands": "How much the image differs from its counterpart in fine and in coarse detail",
    "latent": "How far the image's code lies from those of healthy images",
    "features": "How far what the encoder sees lies from what it sees in healthy images",
    "regions": "The same, compared region by region of the chest",
    "patches": "How much of the image looks as if it did not belong where it is",
    "combined": "The mean of several kinds of evidence, in units of the healthy spread",
}
RECONSTRUCTION = (
    "Squared difference between an image and what the model rebuilds of it, summed over all "
    "pixels: falls as it learns what healthy chests look like"
)
KL = (
    "How far the codes of images spread from a plain bell curve, in nats: what the codes hold; "
    "rises at first, then settles"
)
LOSS = (
    "Reconstruction + beta × KL, which training makes small. The epoch with the lowest value on "
    "healthy validation images is kept."
)
