"""The model zoo: every system that SynerGen is compared with, behind one contract (`synergen.contract`)."""
