"""Whole jobs that join the floors: publish a release, drain the live state, refresh daily; one module each."""
