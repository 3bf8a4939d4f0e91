"""Encoders turn images into vectors, on OpenVINO or torch.

Precision, weights and preprocessing are part of an encoder's id: vectors of two ids never meet.
The room uses images, config and store; it hands out `load_encoder` (encoder) and what reads
weights.
"""
