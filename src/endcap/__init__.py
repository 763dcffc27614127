"""endcap: from a shop's event log to live recommendations."""

__version__ = "0.1.0"
