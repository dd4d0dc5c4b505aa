"""Sweeps: how a command line becomes many runs (`plan`), and the verb that works on them."""
