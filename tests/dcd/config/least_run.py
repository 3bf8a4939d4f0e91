"""The least config of a run: every other key has a default."""

RUN = """\
store: runs
pool: {images: pool/*.tar}
train: {images: train}
test: {images: test}
error_sample: {images: errors}
debug_heldout: {images: heldout}
"""
