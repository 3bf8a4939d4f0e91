"""Training: heads on features and whole networks, where labels may be wrong.

Losses, the head's fit, fine-tuning with checkpoints, averaging in weight space, saved models.
Uses config, images, store and encoders; hands out `fit_head`, `retrain` and saved models.
"""
