"""A microscope for a loss: where its gradient points, and where credit truly lies, on the batches of a recorded run."""
