"""Sparse training inside other people's libraries: one file a library, imported by its users only.

A library is an extra of thrifty; importing its adapter does not import it.
"""
