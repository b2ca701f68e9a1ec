"""From files to pairs to batches."""
