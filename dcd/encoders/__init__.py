"""Encoders: networks that turn images into vectors, on OpenVINO or torch.

Precision, weights and preprocessing are part of an encoder's id: vectors of two ids never meet.
Uses images, config and store; hands out `load_encoder` (encoder) and what reads weights.
"""
