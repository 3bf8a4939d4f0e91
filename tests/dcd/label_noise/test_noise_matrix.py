import numpy as np
import pytest

from dcd.label_noise.noise_matrix import estimate_noise, unfold

CLASSES = ("a", "b", "c")
NOISE = np.array([[0.6, 0.3, 0.1], [0.0, 0.8, 0.2], [0.25, 0.25, 0.5]])


def blobs(rng: np.random.Generator, truth: np.ndarray) -> np.ndarray:
    """Three classes that overlap: a third is guessed wrongly."""
    centres = 1.2 * np.eye(3, 6)
    return (centres[truth] + rng.normal(size=(len(truth), 6))).astype(np.float32)


def called(rng: np.random.Generator, truth: np.ndarray, noise: np.ndarray) -> np.ndarray:
    return np.array([rng.choice(3, p=noise[c]) for c in truth])


def names(truth: np.ndarray) -> list[str]:
    return [CLASSES[c] for c in truth]


@pytest.mark.parametrize("shares", [[1 / 3, 1 / 3, 1 / 3], [0.6, 0.3, 0.1]], ids=str)
def test_the_noise_of_a_pool_is_found_without_its_true_labels(shares: list[float]):
    rng = np.random.default_rng(0)
    train, pool = np.arange(600) % 3, rng.choice(3, p=shares, size=9000)
    labels = called(rng, pool, NOISE)
    found = estimate_noise(blobs(rng, train), names(train), blobs(rng, pool), labels, CLASSES)
    assert np.abs(found.matrix - NOISE).max() < 0.12
    truth = (labels == pool).mean()
    assert found.right.value == pytest.approx(truth, abs=0.05)
    assert found.right.is_known
    assert str(found.right).startswith(f"about {100 * found.right.value:.0f} % right (between")
    np.testing.assert_allclose(found.matrix.sum(axis=1), 1, atol=1e-5)


def test_right_labels_are_found_to_be_right():
    rng = np.random.default_rng(0)
    train, pool = np.arange(600) % 3, np.arange(6000) % 3
    found = estimate_noise(blobs(rng, train), names(train), blobs(rng, pool), pool, CLASSES)
    assert found.right.value > 0.9


@pytest.mark.parametrize("share", [0.95, 0.6, 0.3])
def test_features_that_say_nothing_of_the_class_say_nothing_of_the_labels(share: float):
    """The estimate is what it started from, whatever the truth; so it is not told as one."""
    rng = np.random.default_rng(0)
    train, pool = np.arange(300) % 3, np.arange(3000) % 3
    noise = np.full((3, 3), (1 - share) / 2)
    np.fill_diagonal(noise, share)
    nothing = [rng.normal(size=(n, 6)).astype(np.float32) for n in (300, 3000)]
    labels = called(rng, pool, noise)
    found = estimate_noise(nothing[0], names(train), nothing[1], labels, CLASSES)
    assert not found.right.is_known
    assert "unknown" in str(found.right)
    assert found.right.low < 0.6 < 0.8 < found.right.high


def test_a_class_that_the_pool_does_not_have_takes_nothing_from_the_others():
    rng = np.random.default_rng(0)
    train, pool = np.arange(600) % 3, np.arange(4000) % 2
    noise = np.array([[0.7, 0.3, 0.0], [0.2, 0.8, 0.0], [0.0, 0.0, 1.0]])
    labels = called(rng, pool, noise)
    found = estimate_noise(blobs(rng, train), names(train), blobs(rng, pool), labels, CLASSES)
    np.testing.assert_allclose(found.matrix[2], [0, 0, 1], atol=1e-3)
    assert np.abs(found.matrix[:2, :2] - noise[:2, :2]).max() < 0.12


def test_guesses_alone_would_blame_the_labels_for_the_confusions_of_the_classifier():
    confusions = np.array([[0.8, 0.2], [0.1, 0.9]])
    truth = np.array([[90.0, 10.0], [40.0, 60.0]])
    found = unfold(confusions, confusions.T @ truth)
    np.testing.assert_allclose(found, truth, atol=2)


def test_unfolding_keeps_the_counts_and_is_never_negative():
    rng = np.random.default_rng(0)
    joint = rng.integers(0, 5, (4, 4)).astype(float)
    found = unfold(rng.dirichlet(np.ones(4), 4), joint)
    assert found.min() >= 0
    assert found.sum() == pytest.approx(joint.sum())


def test_few_images_give_a_cautious_matrix():
    rng = np.random.default_rng(0)
    train = np.array([0, 1, 2, 0])  # two classes have one image, which no classifier can spare
    nothing = np.empty((0, 6), np.float32)
    found = estimate_noise(blobs(rng, train), names(train), nothing, np.empty(0, np.int64), CLASSES)
    assert found.right.value == 1
    assert found.matrix.diagonal().min() > 0.99
    assert found.matrix.min() > 0  # no label is impossible


def test_the_same_input_gives_the_same_bits():
    rng = np.random.default_rng(0)
    train, pool = np.arange(60) % 3, np.arange(300) % 3
    given = blobs(rng, train), names(train), blobs(rng, pool), pool, CLASSES
    one, other = estimate_noise(*given), estimate_noise(*given)
    assert one.matrix.tobytes() == other.matrix.tobytes()
