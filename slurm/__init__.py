"""Sweeps on a cluster: profiles of jobs, runs that outlive their time limit, the sweep on disk, and its command."""
