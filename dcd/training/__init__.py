"""Training fits heads on features and whole networks, where labels may be wrong.

It has losses, the head's fit, fine-tuning with checkpoints, and averaging in weight space.
It uses config, images, store and encoders; it hands out `fit_head`, `retrain` and saved models.
"""
