"""One self-contained page of all tables, figures and runs that a results folder holds."""
