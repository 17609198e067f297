"""SynerGen, and the protocol under which it is compared with every other system."""

__version__ = "0.1.0"
