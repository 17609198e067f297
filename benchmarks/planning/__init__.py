"""What a run would need of a cluster, one idea a file: the work of an epoch, a step counted by shapes alone, machines,
a short measured run, and the bill of it all."""
