"""Readers that are not ours: what they are given to read, and how each is told what it has to find."""
