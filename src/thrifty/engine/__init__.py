"""Truly sparse training on CPU: compiled updates that touch only the links that exist."""
