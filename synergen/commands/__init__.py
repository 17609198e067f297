"""The commands of the `synergen` program, by topic."""
