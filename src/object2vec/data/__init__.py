"""Read files into pairs, and make batches of them."""
