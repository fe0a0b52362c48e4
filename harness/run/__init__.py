"""The run folder: record, history, checkpoints, lock, environment, and the model a run starts from."""
