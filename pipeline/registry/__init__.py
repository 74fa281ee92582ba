"""The model bundle that leaves the pipeline."""
