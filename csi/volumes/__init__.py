"""Volumes as the controller knows them: what was asked for, and what was made of it."""
