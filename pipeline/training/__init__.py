"""Fine-tuning: batches, optimiser and the one training loop."""
