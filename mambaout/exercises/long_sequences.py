"""Checks of the exercises of that chapter."""
