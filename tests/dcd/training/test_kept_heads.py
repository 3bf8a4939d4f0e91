import numpy as np

from dcd.store import Store
from dcd.training.head import LinearHead
from dcd.training.kept_heads import kept_head


def test_a_head_is_fitted_once_and_kept_to_the_bit(tmp_path):
    rng = np.random.default_rng(0)
    weight, bias = (
        rng.normal(size=(3, 7)).astype(np.float32),
        np.array([0.1, -1e-30, 3], np.float32),
    )
    head = LinearHead(("b", "a", "c"), weight, bias)
    fits = []

    def fit() -> LinearHead:
        fits.append(1)
        return head

    for _ in range(2):
        found = kept_head(Store(str(tmp_path)), "id", fit)
        assert found.classes == head.classes
        assert found.weight.tobytes() == weight.tobytes()
        assert found.bias.tobytes() == bias.tobytes()
        assert found.bias.flags.writeable  # torch warns of arrays that are not
    kept_head(Store(str(tmp_path)), "other", fit)
    assert len(fits) == 2
