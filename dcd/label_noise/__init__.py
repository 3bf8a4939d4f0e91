"""Label noise tells which labels of the pool to believe, and how wrong the rest are.

It has agreement with neighbours, the noise matrix estimated from train, and trust in a label.
It uses index, splits and training; it hands out agreement, trust, noise matrices and the doubt of
picks.
"""
