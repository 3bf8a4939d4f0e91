"""Label noise: which labels of the pool to believe, and how wrong the rest are.

Agreement with neighbours, the noise matrix estimated from train, trust in an image's label.
Uses index and training; hands out agreement, noise matrices and `LabelDoubt` of picks.
"""
