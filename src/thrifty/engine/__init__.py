"""Truly sparse training on CPU: compiled updates that touch the links that exist and nothing else."""
