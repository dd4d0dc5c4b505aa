"""Sparse reinforcement learning from scratch."""
