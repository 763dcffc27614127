"""Immutable artefact folders: write, verify, activate, map. Knows no model class."""
